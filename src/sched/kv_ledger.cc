#include "sched/kv_ledger.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace gantry {
namespace {

constexpr int32_t kTokens = limits::kKvBlockTokens;

}  // namespace

KvLedger::KvLedger(int32_t blocks, bool prefix_caching, uint64_t hash_seed)
    : pool_(blocks), index_(blocks, hash_seed), prefix_caching_(prefix_caching) {}

int32_t KvLedger::blocks_for(int32_t positions) { return (positions + kTokens - 1) / kTokens; }

BlockHash KvLedger::root_of(const Sequence& sequence) const {
  const GenerateRequest& spec = sequence.spec();
  if (prefix_caching_) return index_.root("s" + spec.cache_salt);
  return index_.root("r" + std::to_string(sequence.request->arrival));
}

BlockPool::Owner KvLedger::owner_of(const GenerateRequest& request) const {
  // Never kNobody.
  return prefix_caching_ ? index_.root("t" + request.tenant).low | 1 : BlockPool::kNobody;
}

PrefixIndex::BlockTokens KvLedger::tokens_of(const Sequence& sequence, int32_t block) {
  for (int32_t i = 0; i < kTokens; ++i) tokens_[static_cast<size_t>(i)] = sequence.token(block * kTokens + i);
  return tokens_;
}

void KvLedger::extend_hashes(Sequence& sequence, int32_t blocks) {
  if (sequence.hashes.empty()) sequence.hashes.push_back(root_of(sequence));
  for (auto i = static_cast<int32_t>(sequence.hashes.size()) - 1; i < blocks; ++i) {
    sequence.hashes.push_back(index_.chain(sequence.hashes.back(), tokens_of(sequence, i)));
  }
}

void KvLedger::find_hits(Sequence& sequence, int32_t blocks_max) {
  hits_.clear();
  for (int32_t i = 0; i < blocks_max; ++i) {
    extend_hashes(sequence, i + 1);
    const auto at = static_cast<size_t>(i);
    const auto block = index_.find(sequence.hashes[at + 1], sequence.hashes[at], tokens_of(sequence, i));
    if (!block) return;
    hits_.push_back(*block);
  }
}

bool KvLedger::admit(Sequence& sequence, int32_t reuse_max, int32_t running,
                     int32_t (*policy)(const BlockDemand&, const BlockSupply&)) {
  find_hits(sequence, std::max(std::min(sequence.length() - 1, reuse_max), 0) / kTokens);
  const auto hits = static_cast<int32_t>(hits_.size());
  BlockDemand demand;
  demand.cached_free = static_cast<int32_t>(
      std::count_if(hits_.begin(), hits_.end(), [&](BlockId block) { return pool_.is_free(block); }));
  demand.known = blocks_for(std::min(sequence.length(), sequence.positions_max())) - hits;
  demand.most = blocks_for(sequence.positions_max()) - hits;
  // Nobody who runs needs what others' caches hold, unless nothing else runs.
  const int32_t kept =
      running > 0 && prefix_caching_ ? pool_.kept_for_others(sequence.request->block_owner) : 0;
  const int32_t promise = policy(demand, {pool_.available() - kept, promised_, running});
  if (promise == kNotNow) return false;
  for (const BlockId block : hits_) pool_.retain(block);
  sequence.blocks.assign(hits_.begin(), hits_.end());
  sequence.blocks_promised = promise;
  promised_ += promise;
  sequence.blocks_on_ranks = 0;
  sequence.published = hits;
  sequence.computed = hits * kTokens;
  sequence.planned = sequence.computed;
  return true;
}

int32_t KvLedger::missing(const Sequence& sequence, int32_t positions) {
  return std::max(blocks_for(positions) - static_cast<int32_t>(sequence.blocks.size()), 0);
}

bool KvLedger::grow(Sequence& sequence, int32_t positions) {
  const int32_t wanted = missing(sequence, positions);
  const int32_t own = std::min(wanted, sequence.blocks_promised);
  if (wanted > pool_.available() || wanted - own > pool_.available() - promised_) return false;
  for (int32_t i = 0; i < wanted; ++i) {
    const auto block = pool_.allocate(sequence.request->block_owner);
    index_.forget(*block);
    sequence.blocks.push_back(*block);
  }
  sequence.blocks_promised -= own;
  promised_ -= own;
  return true;
}

void KvLedger::publish(Sequence& sequence) {
  // Accepted drafts after an end token lie in the cache, but their tokens are gone.
  const int32_t full = std::min(sequence.computed, sequence.length()) / kTokens;
  if (sequence.published >= full) return;
  extend_hashes(sequence, full);
  for (int32_t i = sequence.published; i < full; ++i) {
    const auto at = static_cast<size_t>(i);
    index_.publish(sequence.hashes[at + 1], sequence.hashes[at], tokens_of(sequence, i), sequence.blocks[at]);
  }
  sequence.published = full;
}

void KvLedger::release(Sequence& sequence) {
  const Ticket last = sequence.in_flight > 0 ? sequence.last_ticket : Ticket{};
  // The end of a prefix is evicted before its beginning.
  for (size_t i = sequence.blocks.size(); i-- > 0;) {
    const BlockId block = sequence.blocks[i];
    pool_.release(block, last, index_.holds(block) ? sequence.request->block_owner : BlockPool::kNobody);
  }
  sequence.blocks.clear();
  promised_ -= sequence.blocks_promised;
  sequence.blocks_promised = 0;
}

}  // namespace gantry
