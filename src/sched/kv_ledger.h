// The blocks of sequences: found in the prefix index, allocated as rows are planned, published when they are
// full, released. The scheduler's books over cache/.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cache/block_pool.h"
#include "cache/prefix_index.h"
#include "sched/policy.h"
#include "sched/sequence.h"

namespace gantry {

class KvLedger {
 public:
  // Without `prefix_caching` only the choices of one request share blocks.
  KvLedger(int32_t blocks, bool prefix_caching, uint64_t hash_seed);

  // Whom the blocks of its sequences belong to.
  BlockPool::Owner owner_of(const GenerateRequest& request) const;
  // If the policy agrees: takes the leading full blocks that are cached (but never the last known token's,
  // nor any at or after `reuse_max` positions), promises what the policy says, and sets computed and planned
  // past the hits.
  bool admit(Sequence& sequence, int32_t reuse_max, int32_t running,
             int32_t (*policy)(const BlockDemand&, const BlockSupply&));
  // Blocks for positions [0, positions): from the sequence's promise, then from what is promised to nobody.
  // False, and nothing changes, if they cannot be had.
  bool grow(Sequence& sequence, int32_t positions);
  // Blocks that grow() needs.
  static int32_t missing(const Sequence& sequence, int32_t positions);
  // Offers the blocks that became full to the prefix index. Only their last ticket's result makes them so.
  void publish(Sequence& sequence);
  // Gives up all blocks; those that its tickets in flight touch are free when these retire.
  void release(Sequence& sequence);
  void retire(Ticket ticket) { pool_.retire(ticket); }

  const BlockPool& pool() const { return pool_; }
  int32_t promised() const { return promised_; }
  static int32_t blocks_for(int32_t positions);

 private:
  friend struct SchedulerPeer;  // tests plant faults through it
  BlockHash root_of(const Sequence& sequence) const;
  void extend_hashes(Sequence& sequence, int32_t blocks);
  PrefixIndex::BlockTokens tokens_of(const Sequence& sequence, int32_t block);
  void find_hits(Sequence& sequence, int32_t blocks_max);

  BlockPool pool_;
  PrefixIndex index_;
  bool prefix_caching_;
  int32_t promised_ = 0;
  std::vector<BlockId> hits_;
  std::array<TokenId, limits::kKvBlockTokens> tokens_{};
};

}  // namespace gantry
