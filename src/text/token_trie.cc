#include "text/token_trie.h"

#include <utility>

namespace gantry {
namespace {

constexpr TokenId kNone = -1;
constexpr size_t kInitialEdges = 1024;

size_t edge_hash(uint32_t parent, uint8_t byte) {
  const uint64_t h = (static_cast<uint64_t>(parent) << 8 | byte) * 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(h ^ h >> 32);
}

}  // namespace

TokenTrie::TokenTrie(const std::vector<std::string_view>& tokens)
    : edges_(kInitialEdges),
      mask_(kInitialEdges - 1),
      node_tokens_(1, kNone),
      prefixes_(tokens.size(), kNone) {
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;
    uint32_t node = kRoot;
    for (const char c : tokens[id]) {
      const auto byte = static_cast<uint8_t>(c);
      uint32_t next = child(node, byte);
      if (next == kNoNode) {
        next = static_cast<uint32_t>(node_tokens_.size());
        node_tokens_.push_back(kNone);
        insert_edge(node, byte, next);
      }
      node = next;
    }
    node_tokens_[node] = static_cast<TokenId>(id);
  }
  two_bytes_.assign(256 * 256, kNoNode);
  for (size_t first = 0; first < 256; ++first) {
    const uint32_t node = child(kRoot, static_cast<uint8_t>(first));
    byte_tokens_[first] = node == kNoNode ? kNone : node_tokens_[node];
    for (size_t second = 0; node != kNoNode && second < 256; ++second) {
      two_bytes_[first << 8 | second] = child(node, static_cast<uint8_t>(second));
    }
  }
  for (size_t id = 0; id < tokens.size(); ++id) {
    uint32_t node = kRoot;
    for (size_t i = 0; i + 1 < tokens[id].size(); ++i) {
      node = child(node, static_cast<uint8_t>(tokens[id][i]));
      if (node_tokens_[node] != kNone) prefixes_[id] = node_tokens_[node];
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
    if (node_tokens_[node] != kNone) found = node_tokens_[node];
    if (i == text.size()) break;
    node = child(node, static_cast<uint8_t>(text[i]));
  }
  return found;
}

uint32_t TokenTrie::child(uint32_t parent, uint8_t byte) const {
  for (size_t slot = edge_hash(parent, byte) & mask_;; slot = (slot + 1) & mask_) {
    const Edge& edge = edges_[slot];
    if (edge.parent == parent && edge.byte == byte) return edge.child;
    if (edge.parent == kNoNode) return kNoNode;
  }
}

void TokenTrie::insert_edge(uint32_t parent, uint8_t byte, uint32_t node) {
  if (edge_count_ * 2 >= edges_.size()) grow();
  size_t slot = edge_hash(parent, byte) & mask_;
  while (edges_[slot].parent != kNoNode) slot = (slot + 1) & mask_;
  edges_[slot] = {parent, byte, node};
  ++edge_count_;
}

void TokenTrie::grow() {
  const std::vector<Edge> old = std::exchange(edges_, std::vector<Edge>(edges_.size() * 2));
  mask_ = edges_.size() - 1;
  edge_count_ = 0;
  for (const Edge& edge : old) {
    if (edge.parent != kNoNode) insert_edge(edge.parent, edge.byte, edge.child);
  }
}

}  // namespace gantry
