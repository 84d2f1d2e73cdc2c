// Continuous batching: which rows of which sequences run next, under one token budget. Pure bookkeeping over
// ids: no tensors, no clock, no threads; the same calls give the same plans.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "protocol/replica_client.h"
#include "sched/admission.h"
#include "sched/fair_share.h"
#include "sched/kv_ledger.h"
#include "sched/policy.h"
#include "sched/sequence.h"
#include "sched/step_plan.h"

namespace gantry {

struct SchedulerOptions {
  int32_t kv_blocks = 0;
  int32_t max_model_len = 0;
  int32_t max_num_seqs = 64;              // slots
  int32_t max_num_batched_tokens = 2048;  // rows of a plan; at least 1 + drafts
  int32_t logit_rows_max = 64;            // at least 1 + drafts
  int32_t pipeline_stages = 1;
  bool lookahead = false;  // plan a sequence's next token while one is being sampled
  int32_t drafts = 0;      // speculative tokens per decode step, at most kDraftsMax
  bool prefix_caching = true;
  uint64_t hash_seed = 0;
  ChunkLimits chunk{};
  QueueLimits queue{};  // the engine loop's
  Policies policies = kDefaultPolicies;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // kInvalidArgument if the request could never run, naming what would fit. Thread-safe.
  Status check_fits(const GenerateRequest& request) const;
  // Queues the request's choices. It passed check_fits() and validate(). One with the same id that is still
  // open is cancelled: this is its resubmission. Choices that have nothing left to do end in `frame`.
  void add(GenerateRequest request, int64_t now_ns, StepFrame& frame);
  // choice -1: all. Blocks that no ticket in flight touches are free on return.
  void cancel(RequestId request, int32_t choice);
  // Ends what has passed its deadline (kCancelled).
  void expire(int64_t now_ns, StepFrame& frame);
  // Ends everything with this reason and text.
  void end_all(FinishReason reason, const std::string& why, int64_t now_ns, StepFrame& frame);

  // Fills the next plan and puts its ticket in flight; false, and no plan, if nothing can run now or as many
  // tickets are in flight as there may be.
  bool schedule(int64_t now_ns, StepPlan& plan);
  // Takes the result of the oldest ticket in flight: appends tokens, ends what is done, publishes and frees
  // blocks. Results of sequences that have ended are dropped.
  void advance(const StepResult& result, int64_t now_ns, StepFrame& frame);

  bool has_open_requests() const { return !requests_.empty(); }
  int32_t tickets_in_flight() const { return static_cast<int32_t>(flights_.size()); }
  int32_t tickets_max() const;
  int64_t waiting_requests() const { return waiting_requests_; }
  // Service of what has not been taken up yet, and of all that was computed or found in the cache since the start.
  int64_t waiting_tokens() const { return waiting_tokens_; }
  int64_t served_tokens() const { return served_tokens_; }
  int64_t served_prompt_tokens() const { return served_prompt_tokens_; }  // of them
  // Of prompts not computed yet: what a new one comes after. The longest that runs leaves half of every step to others.
  int64_t prompt_tokens_ahead() const;
  int32_t free_slots() const { return static_cast<int32_t>(free_slots_.size()); }
  const OutputEstimate& outputs() const { return outputs_; }
  // running, waiting (sequences), blocks and counters.
  ReplicaStats stats() const;

 private:
  friend struct SchedulerPeer;  // tests look inside and plant faults through it
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  struct FlightRows {
    Sequence* sequence;
    int32_t rows;
    int32_t sampled;
    uint32_t run;
  };
  struct Flight {
    Ticket ticket;
    std::vector<FlightRows> rows;
  };
  struct Budget {
    int32_t rows;
    int32_t logit_rows;
    bool decodes = false;      // the plan has some
    int32_t prefill_cost = 0;  // of the prompts in it (sched/policy.h)
  };

  // Planning (scheduler_plan.cc).
  void plan_decodes(Budget& budget, StepPlan& plan);
  void plan_prefills(Budget& budget, StepPlan& plan);
  void admit_waiting(int64_t now_ns, Budget& budget, StepPlan& plan);
  void start(Sequence& sequence, int64_t now_ns);
  bool waits_for_sibling(const Sequence& sequence) const;
  bool may_join(const Sequence& sequence, Ticket ticket) const;
  // Blocks for the sequence, if need be by preempting those that come after it and are not in the plan.
  bool make_room(Sequence& sequence, int32_t positions, const StepPlan& plan);
  void preempt(Sequence& sequence);
  bool plan_rows(Sequence& sequence, int32_t rows_max, Budget& budget, StepPlan& plan);
  // Rows that the policy gives to this prompt, which wants `wanted`.
  int32_t chunk_of(const Sequence& sequence, int32_t wanted, const Budget& budget) const;

  void enqueue(Sequence& sequence);
  // A request begins or ceases to count as waiting.
  void count_waiting(const RequestState& request, int32_t sign);
  void take_rows(Sequence& sequence, const FlightRows& rows, const SequenceResult* given,
                 const StepResult& result, int64_t now_ns, StepFrame& frame);
  void take_scores(RequestState& request, const SequenceResult& given, const StepResult& result,
                   StepFrame& frame);
  // A new event at the sequence's next index.
  TokenEvent& emit(Sequence& sequence, int64_t now_ns, StepFrame& frame);
  void end_with(Sequence& sequence, FinishReason reason, const std::string& error, int64_t now_ns,
                StepFrame& frame);
  void end(Sequence& sequence);
  void free_slot(Sequence& sequence);
  void sweep();
  RequestState* find(RequestId request);

  SchedulerOptions options_;
  KvLedger kv_;
  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests_;  // with an open choice
  std::vector<std::unique_ptr<RequestState>> leaving_;                     // ended, still in flight
  std::vector<Sequence*> waiting_;                                         // sorted by policies.before
  std::vector<Sequence*> running_;                                         // in order of admission
  std::vector<Sequence*> slots_;
  std::vector<int32_t> free_slots_;
  std::deque<Flight> flights_;         // oldest first
  std::vector<Flight> spare_;          // memory for the next ones
  int64_t next_deadline_ns_ = kNever;  // none is earlier
  std::vector<Sequence*> order_;       // of running_, while a plan is filled
  bool short_of_blocks_ = false;       // somebody who runs got none, or by preemption only: nobody may start
  uint64_t last_ticket_ = 0;
  uint64_t last_sequence_ = 0;
  uint64_t last_arrival_ = 0;
  int64_t waiting_requests_ = 0;
  FairShare share_;
  OutputEstimate outputs_;
  int64_t waiting_tokens_ = 0;
  int64_t waiting_prompt_tokens_ = 0;
  int64_t served_tokens_ = 0;
  int64_t served_prompt_tokens_ = 0;
  ReplicaStats counters_;
};

}  // namespace gantry
