#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/limits.h"

namespace gantry {
namespace {

// Up to so many bytes, merging costs less than finding neighbours.
constexpr size_t kMergeBytesMax = 128;
constexpr size_t kNeighboursMin = 1u << 8;
constexpr size_t kNeighboursMax = 1u << 16;
constexpr int kIdBits = 20;

}  // namespace

Result<Bpe> Bpe::create(const VocabSpec& spec, const std::vector<bool>& is_special) {
  GANTRY_ASSIGN_OR_RETURN(BpeMerges merges, BpeMerges::create(spec, is_special));
  std::vector<std::string_view> reachable(spec.tokens.size());
  TokenTable whole(spec.tokens.size());
  std::vector<TokenId> ids;
  MergeScratch scratch;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& bytes = spec.tokens[id];
    if (bytes.empty() || is_special[id]) continue;
    ids.clear();
    merges.merge(bytes, scratch, ids);
    const bool is_reachable = ids.size() == 1 && ids[0] == static_cast<TokenId>(id);
    if (is_reachable) reachable[id] = bytes;
    if (is_reachable || (spec.ignore_merges && whole.find(bytes) == kNoToken)) {
      whole.insert(bytes, static_cast<TokenId>(id));
    }
  }
  return Bpe(spec, std::move(merges), std::move(reachable), std::move(whole));
}

Bpe::Bpe(const VocabSpec& spec, BpeMerges merges, std::vector<std::string_view> reachable, TokenTable whole)
    : spec_(&spec), merges_(std::move(merges)), trie_(reachable), whole_(std::move(whole)) {
  all_bytes_known_ = true;
  for (int byte = 0; byte < 256; ++byte) {
    all_bytes_known_ = all_bytes_known_ && merges_.byte_token(static_cast<uint8_t>(byte)) != kNoToken;
  }
}

void Bpe::encode(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  ++scratch.steps;
  if (const TokenId id = whole_.find(piece); id != kNoToken) {
    out.push_back(id);
  } else if (piece.size() <= kMergeBytesMax) {
    merges_.merge(piece, scratch.merges, out);
  } else {
    encode_long(piece, scratch, out);
  }
}

// Bytes without a token part the piece where they become `unk`; where they are dropped, what is around them
// becomes neighbours.
void Bpe::encode_long(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  std::string_view rest = piece;
  if (!all_bytes_known_) {
    const auto is_known = [&](char c) { return merges_.byte_token(static_cast<uint8_t>(c)) != kNoToken; };
    if (merges_.unk() == kNoToken) {
      scratch.known_bytes.clear();
      std::copy_if(piece.begin(), piece.end(), std::back_inserter(scratch.known_bytes), is_known);
      rest = scratch.known_bytes;
    } else {
      while (!rest.empty()) {
        const auto length =
            static_cast<size_t>(std::find_if_not(rest.begin(), rest.end(), is_known) - rest.begin());
        if (length > 0) encode_known(rest.substr(0, length), scratch, out);
        if (length < rest.size()) out.push_back(merges_.unk());
        rest.remove_prefix(std::min(rest.size(), length + 1));
      }
    }
  }
  if (!rest.empty()) encode_known(rest, scratch, out);
}

// A sequence of reachable tokens is what merging gives if and only if merging the bytes of each two
// neighbours gives those two: the first merge that crossed a border would do so between the two alone as
// well. So the encoding of each prefix is unique, and a position that proved a dead end once is one for good.
// (The idea is from GitHub's "so many tokens, so little time", 2024.)
void Bpe::encode_known(std::string_view text, BpeScratch& scratch, std::vector<TokenId>& out) const {
  scratch.is_dead_end.assign(text.size() + 1, false);
  if (const size_t wanted = std::clamp(std::bit_ceil(text.size() / 8), kNeighboursMin, kNeighboursMax);
      scratch.neighbours.size() < wanted) {
    scratch.neighbours.assign(wanted, 0);
  }
  const size_t first = out.size();
  size_t position = 0;
  TokenId candidate = trie_.longest(text, scratch.steps);
  while (position < text.size()) {
    for (; candidate != kNoToken; candidate = trie_.prefix_of(candidate)) {
      ++scratch.steps;
      if (scratch.is_dead_end[position + length_of(candidate)]) continue;
      if (out.size() == first || may_be_neighbours(out.back(), candidate, scratch)) break;
    }
    if (candidate != kNoToken) {
      out.push_back(candidate);
      position += length_of(candidate);
      candidate = trie_.longest(text.substr(position), scratch.steps);
    } else {
      scratch.is_dead_end[position] = true;
      GANTRY_CHECK(out.size() > first) << "no token sequence for a text of known bytes";
      candidate = trie_.prefix_of(out.back());
      position -= length_of(out.back());
      out.pop_back();
    }
  }
}

bool Bpe::may_be_neighbours(TokenId left, TokenId right, BpeScratch& scratch) const {
  // answer << 1 | 1, so that 0 is an empty entry
  const uint64_t key = static_cast<uint64_t>(left) << kIdBits | static_cast<uint64_t>(right);
  uint64_t& entry = scratch.neighbours[(key * 0x9e3779b97f4a7c15u >> 32) & (scratch.neighbours.size() - 1)];
  if ((entry | 2) == (key << 2 | 3)) return (entry & 2) != 0;
  scratch.pair_bytes.assign(spec_->tokens[static_cast<size_t>(left)]);
  scratch.pair_bytes += spec_->tokens[static_cast<size_t>(right)];
  scratch.pair.clear();
  merges_.merge(scratch.pair_bytes, scratch.merges, scratch.pair);
  const bool answer = scratch.pair.size() == 2 && scratch.pair[0] == left;
  entry = key << 2 | (answer ? 3 : 1);
  return answer;
}

}  // namespace gantry
