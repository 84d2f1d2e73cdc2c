// A loaded model: forward() runs one batch of rows through all layers. Immutable once loaded; one forward at
// a time.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "formats/weight_source.h"
#include "kernels/ops/backend.h"
#include "model/config.h"
#include "model/rank_groups.h"

namespace gantry {

// One micro-batch. Rows of a sequence lie together, in order of position.
struct ForwardBatch {
  std::span<const int32_t> ids;         // [R]
  std::span<const Segment> segments;    // cover the R rows; block tables refer to the KvStore's blocks
  std::span<const int32_t> logit_rows;  // rows whose logits are wanted, ascending, [M]
  float* hidden = nullptr;              // out [R, hidden] the states after the final norm; null: not wanted
  std::span<const DrawRow> draws{};     // launch(): one a row of logits
};

// Rows of the multi-token prediction module. The row at position p takes the token at p and the model's state
// before it, so that what the cache holds at a position depends on no later token.
struct DraftBatch {
  std::span<const int32_t> ids;         // [R]
  const float* hidden = nullptr;        // [R, hidden] of the position before each; at position 0 its own
  std::span<const Segment> segments;    // as in ForwardBatch
  std::span<const int32_t> logit_rows;  // [M]
};

// The paged cache of all layers of this rank.
class KvStore {
 public:
  // `blocks` blocks for each layer of the layouts, and `tail` floats with each block; zero-filled.
  // kResourceExhausted if memory cannot be had.
  static Result<std::unique_ptr<KvStore>> create(const Backend& backend, std::vector<KvLayout> layers,
                                                 int32_t blocks, int64_t tail = 0);
  KvView layer(int index) const;
  // [tail] the model's state, after its final norm, at the block's last position that was computed.
  float* tail(int32_t block) const { return tails_ + block * tail_; }
  int32_t blocks() const { return blocks_; }
  uint64_t id() const { return id_; }  // no other store of the process has or had it
  // Bytes of one block over all layers, and its tail.
  static size_t block_bytes(const Backend& backend, std::span<const KvLayout> layers, int64_t tail = 0);
  ~KvStore();

 private:
  KvStore();
  struct Mapping;
  std::unique_ptr<Mapping> mapping_;
  std::vector<KvView> layers_;
  float* tails_ = nullptr;  // [blocks, tail]
  int64_t tail_ = 0;
  int32_t blocks_ = 0;
  uint64_t id_;
};

struct LoadOptions {
  const Backend* backend = nullptr;
  ThreadPool* pool = nullptr;
  Compute compute = Compute::kAuto;  // --dtype float32: kF32; kF8: with the checkpoint's scale_fmt
  DType kv_dtype = DType::kF16;      // kF32 with Compute::kF32
  int32_t rows_max = 0;              // the most rows a batch may have (max_num_batched_tokens)
  int32_t logit_rows_max = 0;
  int32_t context_max = 0;  // max_model_len
  int32_t slots = 0;        // sequences for which the backend is to draw tokens: launch(); 0: none
  bool drafts = false;      // load the multi-token prediction module
  // Bytes of weights; may be empty. Calls do not overlap.
  std::function<void(uint64_t done, uint64_t total)> on_progress;
  // Memory is reserved as for loading and stays untouched; forward() must not be called.
  bool sizes_only = false;
  // The part of the model that this rank has. Every rank of the groups makes the same calls of forward() and draft()
  // with the same batches.
  RankGroups ranks{};
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;  // of the whole model
  virtual std::vector<KvLayout> kv_layouts()
      const = 0;                                 // one per layer of the rank; the last is the draft module's
  virtual int64_t kv_tail() const { return 0; }  // KvStore's tail: hidden, where the model can draft
  // Writes the cache at every row's position and fills logits [M, vocab] of logit_rows. The values of ids and
  // positions are the caller's duty (invariant 1): ids in [0, vocab), positions < context_max, blocks in the
  // store. Of several ranks the last stage's tensor rank 0 fills logits; elsewhere it may be null. Errors are the
  // Communicator's (kUnavailable, kDeadlineExceeded: what rank, why): the replica is of no further use.
  virtual Status forward(const ForwardBatch& batch, const KvStore& kv, float* logits) = 0;
  // Instead of forward(), where LoadOptions::slots is not 0: hands the batch over and returns; ids may be last_drawn() of
  // a slot. At most kStepsAhead batches are in flight.
  virtual Status launch(const ForwardBatch& batch, const KvStore& kv);
  // Waits for the oldest batch that was launched: what it drew, valid until the next launch().
  virtual std::span<const Drawn> collect();
  // Before the first batch in which a sequence has the slot.
  virtual void start_slot(const SlotStart& start);
  // The batch through the draft module, after forward() has run these positions: writes the module's cache at
  // every row's position, and for the M logit rows the logits [M, vocab] of the token after the row's, and
  // hidden [M, hidden], which a further draft takes for the state of the row's position. Only where kv_tail() is
  // not 0.
  virtual Status draft(const DraftBatch& batch, const KvStore& kv, float* logits, float* hidden);
  virtual uint64_t weight_bytes() const = 0;  // that one decode step reads (all experts counted)
  // Memory of the weights as they are packed.
  virtual uint64_t resident_weight_bytes() const { return 0; }
  // Buffers of forward(); resident once a batch of rows_max has run.
  virtual uint64_t activation_bytes() const { return 0; }
};

// What load_model() says of ranks over which the model does not split, before any of them is started.
Status check_ranks(const WeightSource& source, const Backend& backend, const ParallelSizes& sizes);

// By config().architectures: LlamaForCausalLM, Qwen2ForCausalLM, DeepseekV3ForCausalLM. kUnimplemented names
// the architecture or configuration key that is not supported and lists what is; kDataLoss names a missing or
// misshapen tensor; kInvalidArgument (param() "num_speculative_tokens"): drafts without such a module, or
// (ParallelLayout) ranks over which the model does not split. The source may go once the model is loaded.
Result<std::unique_ptr<Model>> load_model(const WeightSource& source, const LoadOptions& options);

}  // namespace gantry
