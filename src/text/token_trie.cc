#include "text/token_trie.h"

#include <algorithm>

namespace gantry {
namespace {

constexpr TokenId kNone = -1;

// Sorts bytes by their low six bits first.
uint8_t order(char c) {
  const auto byte = static_cast<uint8_t>(c);
  return static_cast<uint8_t>(byte << 2 | byte >> 6);
}

std::vector<TokenId> sorted_ids(const std::vector<std::string_view>& tokens) {
  std::vector<TokenId> ids;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].empty()) ids.push_back(static_cast<TokenId>(id));
  }
  std::sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) {
    const std::string_view x = tokens[static_cast<size_t>(a)], y = tokens[static_cast<size_t>(b)];
    return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end(),
                                        [](char c, char d) { return order(c) < order(d); });
  });
  return ids;
}

}  // namespace

TokenTrie::TokenTrie(const std::vector<std::string_view>& tokens)
    : nodes_(1), bytes_(1), prefixes_(tokens.size(), kNone) {
  const std::vector<TokenId> ids = sorted_ids(tokens);
  const auto bytes_of = [&](size_t rank) { return tokens[static_cast<size_t>(ids[rank])]; };
  struct Below {
    size_t begin, end;  // of `ids`: the tokens that start with what leads to a node
    TokenId prefix;     // the longest token above it
    size_t depth;
  };
  std::vector<Below> below = {{0, ids.size(), kNone, 0}};
  for (size_t n = 0; n < below.size(); ++n) {
    auto [begin, end, prefix, depth] = below[n];
    if (begin < end && bytes_of(begin).size() == depth) {
      const TokenId token = ids[begin++];
      nodes_[n].token = token;
      prefixes_[static_cast<size_t>(token)] = prefix;
      prefix = token;
    }
    nodes_[n].first_child = static_cast<uint32_t>(below.size());
    while (begin < end) {
      const char c = bytes_of(begin)[depth];
      size_t same = begin + 1;
      while (same < end && bytes_of(same)[depth] == c) ++same;
      below.push_back({begin, same, prefix, depth + 1});
      nodes_[n].children |= child_bit(static_cast<uint8_t>(c));
      nodes_.emplace_back();
      bytes_.push_back(static_cast<uint8_t>(c));
      begin = same;
    }
  }
  nodes_.push_back({.first_child = static_cast<uint32_t>(below.size())});
  two_bytes_.assign(256 * 256, kNoNode);
  for (size_t first = 0; first < 256; ++first) {
    const uint32_t node = child(kRoot, static_cast<uint8_t>(first));
    byte_tokens_[first] = node == kNoNode ? kNone : nodes_[node].token;
    for (size_t second = 0; node != kNoNode && second < 256; ++second) {
      two_bytes_[first << 8 | second] = child(node, static_cast<uint8_t>(second));
    }
  }
}

TokenId TokenTrie::longest(std::string_view text, uint64_t& steps) const {
  if (text.empty()) return kNone;
  const auto first = static_cast<uint8_t>(text[0]);
  uint32_t node =
      text.size() > 1 ? two_bytes_[static_cast<size_t>(first) << 8 | static_cast<uint8_t>(text[1])] : kNoNode;
  TokenId found = byte_tokens_[first];
  for (size_t i = 2; node != kNoNode; ++i) {
    ++steps;
    if (nodes_[node].token != kNone) found = nodes_[node].token;
    if (i == text.size()) break;
    node = child(node, static_cast<uint8_t>(text[i]));
  }
  return found;
}

}  // namespace gantry
