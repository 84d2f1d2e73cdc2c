#include "text/bpe.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace gantry {
namespace {

// Up to so many bytes, merging costs less than finding neighbours.
constexpr size_t kMergeBytesMax = 128;

static_assert(limits::kTokenBytesMax <= UINT16_MAX);

}  // namespace

Result<Bpe> Bpe::create(const VocabSpec& spec, const std::vector<bool>& is_special) {
  GANTRY_ASSIGN_OR_RETURN(BpeMerges merges, BpeMerges::create(spec, is_special));
  std::vector<std::string_view> reachable(spec.tokens.size());
  std::vector<Derivation> derivations(spec.tokens.size());
  TokenTable whole(spec.tokens.size());
  std::vector<TokenId> ids;
  MergeScratch scratch;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& bytes = spec.tokens[id];
    derivations[id].length = static_cast<uint16_t>(bytes.size());
    if (bytes.empty() || is_special[id]) continue;
    derivations[id].first_byte = static_cast<uint8_t>(bytes[0]);
    ids.clear();
    merges.merge(bytes, scratch, ids);
    const bool is_reachable = ids.size() == 1 && ids[0] == static_cast<TokenId>(id);
    if (is_reachable) reachable[id] = bytes;
    if (is_reachable && bytes.size() > 1) derivations[id].last = scratch.last;
    if (is_reachable || (spec.ignore_merges && whole.find(bytes) == kNoToken)) {
      whole.insert(bytes, static_cast<TokenId>(id));
    }
  }
  return Bpe(spec, std::move(merges), std::move(derivations), reachable, std::move(whole));
}

Bpe::Bpe(const VocabSpec& spec, BpeMerges merges, std::vector<Derivation> derivations,
         const std::vector<std::string_view>& reachable, TokenTable whole)
    : spec_(&spec),
      merges_(std::move(merges)),
      derivations_(std::move(derivations)),
      trie_(reachable),
      whole_(std::move(whole)) {
  all_bytes_known_ = true;
  for (int byte = 0; byte < 256; ++byte) {
    all_bytes_known_ = all_bytes_known_ && merges_.byte_token(static_cast<uint8_t>(byte)) != kNoToken;
  }
  // Parts are shorter than what they make.
  std::vector<TokenId> by_length(derivations_.size());
  std::iota(by_length.begin(), by_length.end(), 0);
  std::sort(by_length.begin(), by_length.end(),
            [&](TokenId a, TokenId b) { return length_of(a) < length_of(b); });
  for (const TokenId id : by_length) {
    Derivation& whole_token = derivations_[static_cast<size_t>(id)];
    if (whole_token.last.rank == kNoRank) continue;
    for (const TokenId part : {whole_token.last.left, whole_token.last.right}) {
      const Derivation& d = derivations_[static_cast<size_t>(part)];
      if (!d.is_ranked || (d.last.rank != kNoRank && d.last.rank >= whole_token.last.rank))
        whole_token.is_ranked = false;
    }
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

// Whether merging the bytes of both gives both again. Where ranks rise from the parts of a token to the
// token, its merges are done in the order of their ranks, the left one of equals first. So time is undone
// from the end: the two symbols that face each other across the border existed together until the next merge
// of either, and would have merged if their rank came before it.
bool Bpe::may_be_neighbours(TokenId left, TokenId right, BpeScratch& scratch) const {
  const Derivation* l = &derivations_[static_cast<size_t>(left)];
  const Derivation* r = &derivations_[static_cast<size_t>(right)];
  if (!l->is_ranked || !r->is_ranked) return merge_as_they_are(left, right, scratch);
  uint64_t end = kNoRank;  // the two merge if their rank is below it
  while (true) {
    ++scratch.steps;
    const bool is_left_byte = l->last.rank == kNoRank;
    const bool is_right_byte = r->last.rank == kNoRank;
    if (is_left_byte && is_right_byte) return merges_.byte_rank(l->first_byte, r->first_byte) >= end;
    if (merges_.rank(left, right) < end) return false;
    if (is_right_byte || (!is_left_byte && l->last.rank > r->last.rank)) {
      end = l->last.rank;
      left = l->last.right;
      l = &derivations_[static_cast<size_t>(left)];
    } else {
      // Of equal ranks the border's merge is the left one, and is done before that of the right token.
      end = uint64_t{r->last.rank} + 1;
      right = r->last.left;
      r = &derivations_[static_cast<size_t>(right)];
    }
  }
}

bool Bpe::merge_as_they_are(TokenId left, TokenId right, BpeScratch& scratch) const {
  scratch.pair_bytes.assign(spec_->tokens[static_cast<size_t>(left)]);
  scratch.pair_bytes += spec_->tokens[static_cast<size_t>(right)];
  scratch.pair.clear();
  merges_.merge(scratch.pair_bytes, scratch.merges, scratch.pair);
  return scratch.pair.size() == 2 && scratch.pair[0] == left;
}

}  // namespace gantry
