#include "text/pattern_set.h"

#include <algorithm>

namespace gantry {

PatternSet::PatternSet(const std::vector<std::string>& patterns, Tie tie) : tie_(tie), nodes_(1) {
  for (const std::string& pattern : patterns) {
    insert(pattern, static_cast<int>(lengths_.size()));
    lengths_.push_back(pattern.size());
  }
  for (uint32_t node = nodes_[kRoot].first_child; node != kRoot; node = nodes_[node].sibling) {
    root_children_[nodes_[node].byte] = node;
  }
  // Breadth first, so that each node's suffix, which is shorter, is complete before it.
  std::vector<uint32_t> queue = {kRoot};
  for (size_t i = 0; i < queue.size(); ++i) {
    const uint32_t parent = queue[i];
    for (uint32_t node = nodes_[parent].first_child; node != kRoot; node = nodes_[node].sibling) {
      queue.push_back(node);
      Node& n = nodes_[node];
      if (parent != kRoot) {
        uint32_t suffix = nodes_[parent].fail;
        while (suffix != kRoot && child(suffix, n.byte) == kRoot) suffix = nodes_[suffix].fail;
        n.fail = child(suffix, n.byte);
      }
      n.longest_pattern = n.pattern >= 0 ? n.pattern : nodes_[n.fail].longest_pattern;
    }
  }
}

uint32_t PatternSet::insert(std::string_view pattern, int index) {
  uint32_t node = kRoot;
  for (const char c : pattern) {
    const auto byte = static_cast<uint8_t>(c);
    if (nodes_[node].first_below < 0) nodes_[node].first_below = index;
    uint32_t next = nodes_[node].first_child;
    while (next != kRoot && nodes_[next].byte != byte) next = nodes_[next].sibling;
    if (next == kRoot) {
      next = static_cast<uint32_t>(nodes_.size());
      Node added;
      added.sibling = nodes_[node].first_child;
      added.depth = nodes_[node].depth + 1;
      added.byte = byte;
      nodes_.push_back(added);
      nodes_[node].first_child = next;
    }
    node = next;
  }
  if (nodes_[node].pattern < 0) nodes_[node].pattern = index;
  return node;
}

uint32_t PatternSet::child(uint32_t node, uint8_t byte) const {
  if (node == kRoot) return root_children_[byte];
  uint32_t next = nodes_[node].first_child;
  while (next != kRoot && nodes_[next].byte != byte) next = nodes_[next].sibling;
  return next;
}

size_t PatternSet::Search::earliest() const {
  const size_t in_progress = position_ - set_->nodes_[node_].depth;
  return match_ ? std::min(match_->begin, in_progress) : in_progress;
}

bool PatternSet::Search::step(uint8_t byte) {
  uint32_t next = set_->child(node_, byte);
  while (next == kRoot && node_ != kRoot) {
    node_ = set_->nodes_[node_].fail;
    next = set_->child(node_, byte);
  }
  node_ = next;
  ++position_;
  // Of the patterns that end here the longest begins first.
  if (const int pattern = set_->nodes_[node_].longest_pattern; pattern >= 0) {
    const size_t begin = position_ - set_->lengths_[static_cast<size_t>(pattern)];
    if (!match_ || begin < match_->begin ||
        (begin == match_->begin && (set_->tie_ == Tie::kLongest || pattern < match_->pattern))) {
      match_ = Match{begin, position_, pattern};
    }
  }
  return match_ && is_certain();
}

bool PatternSet::Search::is_certain() const {
  const Node& node = set_->nodes_[node_];
  const size_t in_progress = position_ - node.depth;
  if (in_progress != match_->begin) return in_progress > match_->begin;
  if (node.first_below < 0) return true;
  return set_->tie_ == Tie::kFirst && node.first_below > match_->pattern;
}

std::optional<PatternSet::Match> PatternSet::find(std::string_view text, size_t from) const {
  Search search(*this);
  search.position_ = from;
  for (size_t i = from; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    if (search.node_ == kRoot && !search.match_ && root_children_[byte] == kRoot) {
      ++search.position_;
    } else if (search.step(byte)) {
      break;
    }
  }
  return search.match();
}

}  // namespace gantry
