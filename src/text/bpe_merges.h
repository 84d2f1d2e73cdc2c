// The merge rules of a byte-pair encoding (Sennrich et al. 2016) by token ids, and the merging of short
// texts.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "text/vocab_spec.h"

namespace gantry {

inline constexpr uint32_t kNoRank = UINT32_MAX;
inline constexpr TokenId kNoToken = -1;

struct Merge {
  TokenId left = kNoToken;
  TokenId right = kNoToken;
  uint32_t rank = kNoRank;
};

// What one encode call reuses from piece to piece, and what it did.
struct MergeScratch {
  std::vector<TokenId> ids;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> next;
  std::vector<uint32_t> previous;
  std::vector<uint64_t> heap;
  Merge last;          // the merge done last, if any was
  uint64_t steps = 0;  // pairs looked up: the work, for tests of its growth
};

class BpeMerges {
 public:
  // Tokens whose flag in `is_special` is set take no part: no text ever merges into them. Refuses a merge
  // whose parts or product are no tokens, two tokens of the same bytes, and a special token of one byte.
  static Result<BpeMerges> create(const VocabSpec& spec, const std::vector<bool>& is_special);

  // Merges by rank, leftmost first among equals, until nothing merges; appends the ids to `out`. A byte that
  // has no token becomes `unk`, or is dropped where there is none, as Hugging Face does. Time is n log n.
  void merge(std::string_view bytes, MergeScratch& scratch, std::vector<TokenId>& out) const;

  // The token of one byte; kNoToken if the vocabulary has none.
  TokenId byte_token(uint8_t byte) const { return byte_tokens_[byte]; }
  TokenId unk() const { return unk_; }

  // kNoRank if the two do not merge.
  uint32_t rank(TokenId left, TokenId right) const {
    const bool may_merge = partners_[static_cast<size_t>(left)].right & partner_bit(right) &&
                           partners_[static_cast<size_t>(right)].left & partner_bit(left);
    return may_merge ? find_rank(left, right) : kNoRank;
  }
  // That of two bytes' tokens.
  uint32_t byte_rank(uint8_t left, uint8_t right) const {
    return byte_ranks_[static_cast<size_t>(left) << 8 | right];
  }

 private:
  void merge_short(MergeScratch& scratch, std::vector<TokenId>& out) const;
  void merge_long(MergeScratch& scratch, std::vector<TokenId>& out) const;
  // partner_bit() of each token that merges with this one on that side: spares most pairs that do not merge
  // the look-up.
  struct Partners {
    uint64_t left = 0;
    uint64_t right = 0;
  };

  void insert_pair(TokenId left, TokenId right, uint32_t rank);
  uint32_t find_rank(TokenId left, TokenId right) const;
  static uint64_t partner_bit(TokenId id) {
    return uint64_t{1} << (static_cast<uint32_t>(id) * 0x9e3779b9u >> 26);
  }

  TokenId byte_tokens_[256];
  std::vector<uint32_t> byte_ranks_;  // at left << 8 | right: most look-ups are of these
  TokenId unk_ = kNoToken;
  std::vector<Partners> partners_;  // by id
  std::vector<TokenId> products_;   // by rank
  // Open addressing; an entry is left << 44 | right << 24 | rank, and all ones where there is none.
  std::vector<uint64_t> pairs_;
  uint64_t mask_ = 0;
};

}  // namespace gantry
