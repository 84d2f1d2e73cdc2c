// The tokens that a text starts with, longest first.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace gantry {

class TokenTrie {
 public:
  // tokens: id → bytes, no two alike; empty ones are not in the trie. Ids are below 2^20, the bytes all
  // together below 2^32.
  explicit TokenTrie(const std::vector<std::string_view>& tokens);

  // The longest token that `text` starts with; -1 if there is none. Adds the characters read to `steps`.
  TokenId longest(std::string_view text, uint64_t& steps) const;
  // The longest token that is a proper prefix of token `id`; -1 if there is none.
  TokenId prefix_of(TokenId id) const { return prefixes_[static_cast<size_t>(id)]; }

 private:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNoNode = UINT32_MAX;
  // Children lie one after the other, up to those of the next node, in the order of their low six bits. Most
  // nodes have no child of a given byte, and tell so themselves.
  struct Node {
    uint64_t children = 0;  // child_bit() of each
    uint32_t first_child = 0;
    TokenId token = -1;
  };

  static uint64_t child_bit(uint8_t byte) { return uint64_t{1} << (byte & 63); }

  uint32_t child(uint32_t parent, uint8_t byte) const {
    const uint64_t bit = child_bit(byte);
    const Node* const node = &nodes_[parent];
    if ((node->children & bit) == 0) return kNoNode;
    // A child is further back than this where others share their low six bits.
    uint32_t at = node->first_child + static_cast<uint32_t>(std::popcount(node->children & (bit - 1)));
    for (; at < node[1].first_child; ++at) {
      if (bytes_[at] == byte) return at;
    }
    return kNoNode;
  }
  std::vector<Node> nodes_;     // by depth, and one after the last for its first_child
  std::vector<uint8_t> bytes_;  // that leads to each node
  std::array<TokenId, 256> byte_tokens_;
  std::vector<uint32_t> two_bytes_;  // node of first << 8 | second: the top of the trie in one step
  std::vector<TokenId> prefixes_;
};

}  // namespace gantry
