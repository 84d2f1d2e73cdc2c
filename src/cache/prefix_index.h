// Finds full KV blocks by what they hold: a chain of hashes over whole blocks, rooted in the tenant's salt
// (vLLM's scheme, arXiv 2309.06180 section 4.3 for the sharing of blocks).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/limits.h"

namespace gantry {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const BlockHash&) const = default;
};

// Not thread-safe: the scheduler's.
class PrefixIndex {
 public:
  using BlockTokens = std::span<const TokenId, limits::kKvBlockTokens>;

  // `seed` differs from process to process, so that nobody can make two prefixes collide.
  PrefixIndex(int32_t blocks, uint64_t seed);

  // Prefixes under different salts never meet.
  BlockHash root(std::string_view salt) const;
  BlockHash chain(const BlockHash& parent, BlockTokens tokens) const;

  // The block that holds `tokens` after the prefix of `parent`; `hash` is their chain(). The tokens are
  // compared, so that a collision within a chain is a miss.
  std::optional<BlockId> find(const BlockHash& hash, const BlockHash& parent, BlockTokens tokens) const;
  // The block is full and will not change. False, and no change, if another block holds the same already.
  bool publish(const BlockHash& hash, const BlockHash& parent, BlockTokens tokens, BlockId block);
  // The block is about to be overwritten.
  void forget(BlockId block);
  size_t size() const { return by_hash_.size(); }

 private:
  struct Hasher {
    size_t operator()(const BlockHash& hash) const { return static_cast<size_t>(hash.low); }
  };
  struct Entry {
    BlockHash hash;
    BlockHash parent;
    std::array<TokenId, limits::kKvBlockTokens> tokens{};
    bool published = false;
  };
  uint64_t seed_;
  std::vector<Entry> entries_;  // by block
  std::unordered_map<BlockHash, BlockId, Hasher> by_hash_;
};

}  // namespace gantry
