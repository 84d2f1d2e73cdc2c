// Keeps the draft module's part of the KV cache in step with the model's, and drafts the tokens that follow a new
// one (DeepSeek-V3, arXiv 2412.19437, section 2.2; several drafts by running the one module again on its own
// output).
//
// The module's entry at a position takes the token there and the model's state before it. So a block's entries
// depend on nothing after the block, and blocks are shared, published and kept over preemptions without regard to
// drafts. The state before a block's first position is the tail of the block before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "model/model.h"
#include "sample/sampler.h"

namespace gantry {

struct DrafterOptions {
  int32_t slots = 0;
  int32_t rows_max = 0;  // of a plan
  int32_t drafts = 0;    // 1 .. kDraftsMax
  // The ranks that draft together, of which rank 0 draws; each makes the same calls. Null: this one alone.
  Communicator* tensor = nullptr;
};

class Drafter {
 public:
  // All outlive the drafter.
  Drafter(Model& model, const KvStore& kv, Sampler& sampler, ThreadPool& pool, const DrafterOptions& options);

  // [rows_max, hidden] for ForwardBatch::hidden of every pass.
  float* hidden() { return hidden_.data(); }
  // A new sequence has the slot.
  void start(int32_t slot) { entered_[static_cast<size_t>(slot)] = kUnknown; }

  // Rows of one sequence that the model has just run and that hold good: no rejected ones.
  struct Rows {
    int32_t slot = 0;
    Segment segment;                        // rows of hidden() and their positions
    std::span<const int32_t> ids;           // [segment.rows]
    TokenId next = -1;                      // the new token after them; -1: none
    int32_t reserved = 0;                   // the slot has blocks for positions below it
    const SamplerState* sampler = nullptr;  // of the rank that draws; has pushed `next`
    std::span<TokenId> drafts;              // out, where there is a next token: as many as reserved allows
  };
  // Sequences in the order of the pass. Errors are the model's and the Communicator's.
  Status run(std::span<const Rows> sequences);

 private:
  static constexpr int32_t kUnknown = -1;
  struct Draft {
    const Rows* rows;
    int32_t logit_row;
  };

  // Entries of the rows and of the new tokens, and the first drafts.
  Status enter(std::span<const Rows> sequences);
  void add_entry(const Rows& rows, int32_t position);
  const float* state_before(const Rows& rows, int32_t position) const;
  void keep_tails(const Rows& rows);
  // The place-th draft once more through the module.
  Status extend(int32_t place);
  Status draw(int32_t place);

  Model& model_;
  const KvStore& kv_;
  Sampler& sampler_;
  ThreadPool& pool_;
  const int32_t drafts_;
  Communicator* const tensor_;
  const size_t width_;  // hidden size
  const size_t vocab_;
  std::vector<int32_t>
      entered_;  // by slot: positions whose entry holds good; kUnknown: as many as were cached

  // Buffers of one pass, sized once. Rows: the plan's and one for each new token.
  std::vector<float> hidden_;
  std::vector<float> before_;  // [rows, hidden]
  std::vector<int32_t> ids_;
  std::vector<Segment> segments_;
  std::vector<int32_t> logit_rows_;
  std::vector<float> logits_;  // [slots, vocab], on the rank that draws
  std::vector<float> states_;  // [slots, hidden] of the module
  std::vector<TokenId> drawn_;
  std::vector<Draft> drafting_;
};

}  // namespace gantry
