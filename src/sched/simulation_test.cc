// The production scheduler and cache under seeded random traffic, and the proof that the checks would notice.
#include "sched/testing/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <tuple>
#include <utility>

namespace gantry {
namespace {

// GANTRY_SIMULATION_SEEDS=1000000 runs as many; GANTRY_SIMULATION_FIRST=n starts there (to replay one).
uint64_t from_environment(const char* name, uint64_t fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : fallback;
}

TEST(Simulation, EveryInvariantHoldsForEverySeed) {
  const uint64_t first = from_environment("GANTRY_SIMULATION_FIRST", 0);
  const uint64_t seeds = from_environment("GANTRY_SIMULATION_SEEDS", 1000);
  int64_t steps = 0;
  ReplicaStats sum;
  // With lookahead, with drafts, and by pipeline depth: what was preempted or ended with plans in flight.
  struct InFlight {
    int64_t preempted = 0;
    int64_t ended = 0;
  };
  std::map<std::tuple<bool, bool, int32_t>, InFlight> in_flight;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    const SimulationOptions options = random_simulation(seed);
    Simulation simulation(options, seed);
    const std::string error = simulation.run();
    ASSERT_EQ(error, "") << "seed " << seed;
    steps += simulation.steps();
    sum.preemptions += simulation.stats().preemptions;
    sum.prefix_hits += simulation.stats().prefix_hits;
    const SchedulerOptions& o = options.scheduler;
    InFlight& of_kind = in_flight[{o.lookahead, o.drafts > 0, o.pipeline_stages}];
    of_kind.preempted += simulation.preempted_in_flight();
    of_kind.ended += simulation.ended_in_flight();
  }
  std::printf("%llu seeds, %lld steps, %lld preemptions, %lld prefix hits\n",
              static_cast<unsigned long long>(seeds), static_cast<long long>(steps),
              static_cast<long long>(sum.preemptions), static_cast<long long>(sum.prefix_hits));
  for (const auto& [kind, count] : in_flight) {
    const auto [lookahead, drafts, depth] = kind;
    std::printf("lookahead %d, drafts %d, depth %d: %lld preempted and %lld ended with plans in flight\n",
                lookahead, drafts, depth, static_cast<long long>(count.preempted),
                static_cast<long long>(count.ended));
    // One stage without lookahead has nothing in flight while it plans.
    if (depth > 1 || lookahead) {
      EXPECT_GT(count.ended, 0);
    }
  }
  EXPECT_EQ(in_flight.size(), 16u);
  EXPECT_GT(sum.preemptions, 0);
  EXPECT_GT(sum.prefix_hits, 0);
}

TEST(Simulation, ASeedReplaysExactly) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Simulation a(random_simulation(seed), seed);
    Simulation b(random_simulation(seed), seed);
    EXPECT_EQ(a.run(), "");
    EXPECT_EQ(b.run(), "");
    EXPECT_EQ(a.digest(), b.digest());
    EXPECT_EQ(a.steps(), b.steps());
  }
}

// Each fault is planted into the production code's own state or policies; some seed must bring it to light
// with the message that names it.
struct Planted {
  const char* name;
  const char* message;
  Simulation::Fault fault;
  Policies policies = kDefaultPolicies;
};

Sequence* running_with_blocks(SchedulerPeer& peer, size_t blocks = 1) {
  for (Sequence* sequence : peer.running()) {
    if (sequence->blocks.size() >= blocks) return sequence;
  }
  return nullptr;
}

// Applies `deed` to the first running sequence that has blocks.
template <typename Deed>
Simulation::Fault on_running(Deed deed, size_t blocks = 1) {
  return [deed, blocks](SchedulerPeer& peer) {
    Sequence* sequence = running_with_blocks(peer, blocks);
    if (sequence == nullptr) return false;
    deed(peer, *sequence);
    return true;
  };
}

std::vector<Planted> planted_faults() {
  std::vector<Planted> faults = {
      {"a reference is dropped early", "references and",
       on_running([](SchedulerPeer& peer, Sequence& s) { peer.pool().release(s.blocks[0], Ticket{}); })},
      {"a reference is never dropped", "references and",
       on_running([](SchedulerPeer& peer, Sequence& s) { peer.pool().retain(s.blocks[0]); })},
      {"a block is lost", "positions without a block",
       on_running([](SchedulerPeer&, Sequence& s) { s.blocks.pop_back(); })},
      {"two sequences own one block", "block table differs",
       [](SchedulerPeer& peer) {
         for (Sequence* s : peer.running()) {
           if (s == peer.running()[0] || s->blocks.empty() || peer.running()[0]->blocks.empty()) continue;
           peer.running()[0]->blocks[0] = s->blocks[0];
           return true;
         }
         return false;
       }},
      {"blocks of a sequence change places", "block table differs",
       on_running([](SchedulerPeer&, Sequence& s) { std::swap(s.blocks[0], s.blocks[1]); }, 2)},
      {"a ticket retires before its result", "free while a ticket in flight",
       [](SchedulerPeer& peer) {
         if (peer.scheduler.tickets_in_flight() == 0) return false;
         peer.pool().retire(Ticket{~uint64_t{0} >> 1});
         Sequence* s = running_with_blocks(peer);
         if (s == nullptr || s->in_flight == 0) return false;
         peer.scheduler.cancel(s->spec().id, -1);
         return true;
       }},
      {"a slot is lost", "a slot is lost",
       [](SchedulerPeer& peer) {
         if (peer.free_slots().empty()) return false;
         peer.free_slots().pop_back();
         return true;
       }},
      {"a slot is given twice", "a slot is",
       on_running([](SchedulerPeer& peer, Sequence& s) { peer.free_slots().push_back(s.slot); })},
      {"promised blocks leak", "promised blocks are miscounted",
       [](SchedulerPeer& peer) {
         ++peer.promised();
         return true;
       }},
      {"a running sequence is forgotten", "a running sequence is lost",
       [](SchedulerPeer& peer) {
         if (peer.running().empty()) return false;
         peer.running().pop_back();
         return true;
       }},
      {"a waiting sequence is forgotten", "nothing runs although requests are open",
       [](SchedulerPeer& peer) {
         if (peer.waiting().empty()) return false;
         peer.waiting().pop_back();
         return true;
       }},
      {"a sequence runs twice", "a sequence runs twice",
       [](SchedulerPeer& peer) {
         if (peer.running().empty()) return false;
         peer.running().push_back(peer.running()[0]);
         return true;
       }},
      {"rows are counted as computed that are not", "computed",
       on_running([](SchedulerPeer&, Sequence& s) { s.computed = s.planned + 1; })},
      {"a prefill chunk skips a row", "wrong token",
       [](SchedulerPeer& peer) {
         for (Sequence* s : peer.running()) {
           if (s->planned + 2 < s->prompt_length() && s->planned % limits::kKvBlockTokens != 0) {
             ++s->planned;
             ++s->computed;
             return true;
           }
         }
         return false;
       }},
      {"a token is changed", "wrong token", on_running([](SchedulerPeer&, Sequence& s) {
         if (s.generated.empty()) s.generated.push_back(0);
         s.generated.back() ^= 1;
       })},
      {"a token is lost", "skipped or repeated",
       [](SchedulerPeer& peer) {
         for (Sequence* s : peer.running()) {
           if (s->generated.empty() || s->in_flight > 0) continue;
           s->generated.push_back(0);
           return true;
         }
         return false;
       }},
      {"an unfinished block is published", "an unfinished block is published",
       [](SchedulerPeer& peer) {
         for (Sequence* s : peer.running()) {
           const int32_t end = (s->computed / limits::kKvBlockTokens + 1) * limits::kKvBlockTokens;
           if (s->length() < end || KvLedger::blocks_for(end) > static_cast<int32_t>(s->blocks.size()))
             continue;
           const int32_t computed = std::exchange(s->computed, end);
           peer.kv().publish(*s);
           s->computed = computed;
           return true;
         }
         return false;
       }},
  };
  Planted everyone{"everyone is admitted", "more blocks are promised", {}};
  everyone.policies.admit = [](const BlockDemand& demand, const BlockSupply&) { return demand.most; };
  faults.push_back(everyone);
  Planted nobody{"nobody is admitted", "nothing runs although requests are open", {}};
  nobody.policies.admit = [](const BlockDemand&, const BlockSupply&) { return kNotNow; };
  faults.push_back(nobody);
  Planted backwards{"last come, first served", "out of order", {}};
  backwards.policies.before = [](const Sequence& a, const Sequence& b) {
    return by_priority_and_share(b, a);
  };
  faults.push_back(backwards);
  Planted stuck{"prompts get no rows", "nothing runs although requests are open", {}};
  stuck.policies.prefill_chunk = [](const ChunkDemand&, const ChunkLimits&) { return 0; };
  faults.push_back(stuck);
  return faults;
}

TEST(Simulation, EveryPlantedFaultIsFoundByName) {
  for (const Planted& planted : planted_faults()) {
    std::string found;
    std::string other;
    for (uint64_t seed = 0; seed < 300 && found.empty(); ++seed) {
      SimulationOptions options = random_simulation(seed);
      if (!planted.fault) options.scheduler.policies = planted.policies;
      const std::string error = Simulation(options, seed).run(planted.fault);
      (error.find(planted.message) != std::string::npos ? found : other) = error;
    }
    EXPECT_NE(found, "") << planted.name << "; instead: " << other;
  }
}

}  // namespace
}  // namespace gantry
