#include "text/bpe_merges.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <string>
#include <unordered_map>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr int kRankBits = 24;
constexpr int kIdBits = 20;
constexpr uint64_t kNoEntry = UINT64_MAX;
// Up to so many symbols a scan for the lowest rank costs less than a heap.
constexpr size_t kShortSymbols = 64;

static_assert(limits::kVocabularyMax <= size_t{1} << kIdBits);
static_assert(limits::kMergesMax < size_t{1} << kRankBits);
static_assert(limits::kTokenizeBytesMax < UINT32_MAX);

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(left) << kIdBits | static_cast<uint64_t>(right);
}

uint64_t mix(uint64_t key) {
  key *= 0x9e3779b97f4a7c15u;
  return key ^ key >> 32;
}

std::string quoted(std::string_view bytes) {
  std::string out = "'";
  for (const char c : bytes.substr(0, 64)) {
    if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
    }
  }
  return out + "'";
}

using TokenMap = std::unordered_map<std::string_view, TokenId>;

Result<TokenMap> map_tokens(const VocabSpec& spec, const std::vector<bool>& is_special) {
  std::vector<bool> is_added(spec.tokens.size(), false);
  for (const AddedToken& added : spec.added) {
    if (static_cast<size_t>(added.id) < is_added.size()) is_added[static_cast<size_t>(added.id)] = true;
  }
  TokenMap map;
  map.reserve(spec.tokens.size());
  // An added token shares its bytes with an ordinary one where it may; then the merges mean the ordinary one.
  for (const bool added : {false, true}) {
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      if (spec.tokens[id].empty() || is_added[id] != added || is_special[id]) continue;
      const auto [at, inserted] = map.emplace(spec.tokens[id], static_cast<TokenId>(id));
      if (!inserted && !added) {
        return data_loss(fmt::format("tokens {} and {} are both {}: each token needs bytes of its own",
                                     at->second, id, quoted(spec.tokens[id])));
      }
    }
  }
  return map;
}

}  // namespace

Result<BpeMerges> BpeMerges::create(const VocabSpec& spec, const std::vector<bool>& is_special) {
  if (spec.merges.size() > limits::kMergesMax) {
    return resource_exhausted(
        fmt::format("{} merges: a vocabulary may have {}", spec.merges.size(), limits::kMergesMax));
  }
  GANTRY_ASSIGN_OR_RETURN(const TokenMap tokens, map_tokens(spec, is_special));
  BpeMerges merges;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const auto at = tokens.find(std::string_view(&c, 1));
    merges.byte_tokens_[byte] = at == tokens.end() ? kNoToken : at->second;
  }
  TokenMap specials;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!is_special[id] || spec.tokens[id].empty()) continue;
    specials.emplace(spec.tokens[id], static_cast<TokenId>(id));
    if (spec.tokens[id].size() == 1 && !tokens.contains(spec.tokens[id])) {
      return unimplemented(fmt::format("special token {} is the byte {}, which ordinary text needs", id,
                                       quoted(spec.tokens[id])));
    }
  }
  if (spec.unk) merges.unk_ = *spec.unk;
  merges.pairs_.assign(std::bit_ceil(std::max<size_t>(spec.merges.size() * 3 / 2, 16)), kNoEntry);
  merges.mask_ = merges.pairs_.size() - 1;
  merges.partners_.resize(spec.tokens.size());
  merges.products_.assign(spec.merges.size(), kNoToken);
  std::string product;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    product = left + right;
    TokenId ids[3];
    int found = 0;
    bool is_of_special = false;
    for (const std::string* part : {&left, &right, static_cast<const std::string*>(&product)}) {
      const auto at = tokens.find(*part);
      if (at != tokens.end()) {
        ids[found++] = at->second;
      } else if (specials.contains(*part)) {
        is_of_special = true;
      } else {
        return data_loss(fmt::format("merge {} ({} with {}): {} is no token of the vocabulary", i,
                                     quoted(left), quoted(right), quoted(*part)));
      }
    }
    if (is_of_special) continue;
    merges.products_[i] = ids[2];
    merges.insert_pair(ids[0], ids[1], static_cast<uint32_t>(i));
  }
  merges.byte_ranks_.assign(256 * 256, kNoRank);
  for (uint32_t i = 0; i < 256 * 256; ++i) {
    const TokenId left = merges.byte_tokens_[i >> 8];
    const TokenId right = merges.byte_tokens_[i & 0xff];
    if (left != kNoToken && right != kNoToken) merges.byte_ranks_[i] = merges.rank(left, right);
  }
  return merges;
}

void BpeMerges::insert_pair(TokenId left, TokenId right, uint32_t rank) {
  const uint64_t key = pair_key(left, right);
  size_t slot = mix(key) & mask_;
  // The later of two equal merges counts, as in Hugging Face's map.
  while (pairs_[slot] != kNoEntry && pairs_[slot] >> kRankBits != key) slot = (slot + 1) & mask_;
  pairs_[slot] = key << kRankBits | rank;
  partners_[static_cast<size_t>(left)].right |= partner_bit(right);
  partners_[static_cast<size_t>(right)].left |= partner_bit(left);
}

uint32_t BpeMerges::find_rank(TokenId left, TokenId right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t slot = mix(key) & mask_;; slot = (slot + 1) & mask_) {
    const uint64_t entry = pairs_[slot];
    if (entry >> kRankBits == key && entry != kNoEntry) return entry & ((1u << kRankBits) - 1);
    if (entry == kNoEntry) return kNoRank;
  }
}

void BpeMerges::merge(std::string_view bytes, MergeScratch& scratch, std::vector<TokenId>& out) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;  // of each symbol with the next one
  ids.clear();
  ranks.clear();
  int before = -1;  // the byte of the symbol before, or -1 if that is no byte
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    const TokenId id = byte_tokens_[byte];
    if (id == kNoToken && unk_ == kNoToken) continue;
    if (!ids.empty()) {
      ranks.push_back(before >= 0 && id != kNoToken ? byte_rank(static_cast<uint8_t>(before), byte)
                                                    : kNoRank);
    }
    ids.push_back(id != kNoToken ? id : unk_);
    before = id != kNoToken ? byte : -1;
  }
  if (ids.empty()) return;
  ranks.push_back(kNoRank);
  scratch.steps += ids.size();
  if (ids.size() <= kShortSymbols) {
    merge_short(scratch, out);
  } else {
    merge_long(scratch, out);
  }
}

void BpeMerges::merge_short(MergeScratch& scratch, std::vector<TokenId>& out) const {
  TokenId* const ids = scratch.ids.data();
  uint32_t* const ranks = scratch.ranks.data();
  size_t count = scratch.ids.size();
  while (count > 1) {
    const size_t best = static_cast<size_t>(std::min_element(ranks, ranks + count - 1) - ranks);
    if (ranks[best] == kNoRank) break;
    scratch.last = {ids[best], ids[best + 1], ranks[best]};
    ids[best] = products_[ranks[best]];
    std::copy(ids + best + 2, ids + count, ids + best + 1);
    std::copy(ranks + best + 2, ranks + count, ranks + best + 1);
    --count;
    if (best > 0) ranks[best - 1] = rank(ids[best - 1], ids[best]);
    ranks[best] = best + 1 < count ? rank(ids[best], ids[best + 1]) : kNoRank;
    scratch.steps += 2;
  }
  out.insert(out.end(), ids, ids + count);
}

void BpeMerges::merge_long(MergeScratch& scratch, std::vector<TokenId>& out) const {
  const auto count = static_cast<uint32_t>(scratch.ids.size());
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;
  auto& next = scratch.next;
  auto& previous = scratch.previous;
  auto& heap = scratch.heap;  // rank << 32 | position; entries that no longer hold are passed over
  next.resize(count);
  previous.resize(count);
  heap.clear();
  for (uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;
    if (ranks[i] != kNoRank) heap.push_back(static_cast<uint64_t>(ranks[i]) << 32 | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](uint32_t at) {
    ranks[at] = next[at] < count ? rank(ids[at], ids[next[at]]) : kNoRank;
    ++scratch.steps;
    if (ranks[at] == kNoRank) return;
    heap.push_back(static_cast<uint64_t>(ranks[at]) << 32 | at);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    const uint64_t entry = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const auto at = static_cast<uint32_t>(entry);
    if (ranks[at] != entry >> 32) continue;
    const uint32_t eaten = next[at];
    scratch.last = {ids[at], ids[eaten], ranks[at]};
    ids[at] = products_[ranks[at]];
    ranks[eaten] = kNoRank;
    next[at] = next[eaten];
    if (next[at] < count) previous[next[at]] = at;
    update(at);
    if (at > 0) update(previous[at]);
  }
  for (uint32_t i = 0; i < count; i = next[i]) out.push_back(ids[i]);
}

}  // namespace gantry
