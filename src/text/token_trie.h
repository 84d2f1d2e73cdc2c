// The tokens that a text starts with, longest first.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace gantry {

class TokenTrie {
 public:
  // tokens: id → bytes; empty ones are not in the trie. Ids are below 2^20, the bytes all together below
  // 2^32.
  explicit TokenTrie(const std::vector<std::string_view>& tokens);

  // The longest token that `text` starts with; -1 if there is none. Adds the characters read to `steps`.
  TokenId longest(std::string_view text, uint64_t& steps) const;
  // The longest token that is a proper prefix of token `id`; -1 if there is none.
  TokenId prefix_of(TokenId id) const { return prefixes_[static_cast<size_t>(id)]; }

 private:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNoNode = UINT32_MAX;
  struct Edge {
    uint32_t parent = kNoNode;
    uint8_t byte = 0;
    uint32_t child = kNoNode;
  };

  uint32_t child(uint32_t parent, uint8_t byte) const;
  void insert_edge(uint32_t parent, uint8_t byte, uint32_t node);
  void grow();

  std::vector<Edge> edges_;  // open addressing
  size_t mask_;
  size_t edge_count_ = 0;
  std::array<TokenId, 256> byte_tokens_;
  std::vector<uint32_t> two_bytes_;  // node of first << 8 | second: the top of the trie in one step
  std::vector<TokenId> node_tokens_;
  std::vector<TokenId> prefixes_;
};

}  // namespace gantry
