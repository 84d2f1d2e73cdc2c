// A backend is a table of the ops below plus how it packs weights. Chosen once at start; the hot path makes
// one indirect call per op.
//
// The op contract, for every CPU backend: a row's result depends only on that row, its absolute position and
// the weights. The order of additions over K, over attention positions and over experts is fixed; it does not
// change with the number of rows, the chunking of a prefill, the thread count or the path (prefill, decode).
// Tested bitwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/ops/args.h"
#include "kernels/ops/draw.h"
#include "kernels/ops/memory_space.h"
#include "kernels/ops/packed_weight.h"

namespace gantry {

struct Backend;

// What a backend keeps from one op to the next: streams, buffers, recorded steps. Of one user at a time.
class BackendState {
 public:
  virtual ~BackendState() = default;
};

// What every op call shares. Scratch is sized by the backend at start (scratch_bytes), so that no op
// allocates.
struct OpContext {
  const Backend* backend = nullptr;
  ThreadPool* pool = nullptr;
  std::span<std::byte> scratch;  // 64-byte aligned
  BackendState* state = nullptr;
};

// Shapes that bound the scratch an op may need.
struct ScratchSpec {
  int64_t rows_max = 0;
  int64_t width_max = 0;  // the widest K or N of any linear
  int64_t hidden = 0;
  int64_t experts = 0;
  int64_t experts_per_token = 0;
  int64_t expert_width = 0;  // moe_intermediate_size
  int64_t heads = 0;
  int64_t head_dim_max = 0;  // 576 for MLA
  int64_t context_max = 0;
  int threads = 1;
  int64_t logit_rows_max = 0;  // rows of one head()
  int64_t vocab = 0;
  int64_t rope_pairs_max = 0;
  int64_t slots = 0;  // of sequences whose tokens draw() draws; 0: it is not called
};

// What a step computes from, in the host's memory. A backend with a memory of its own copies it in begin_step();
// its ops then read that copy, and args hold the same pointers.
struct StepInputs {
  std::span<const int32_t> ids{};  // or last_drawn(slot)
  std::span<const Segment> segments{};
  std::span<const int32_t> logit_rows{};
  RopeRows rope{};
  float* logits = nullptr;           // HeadArgs::out: filled once finish() returns
  std::span<const DrawRow> draws{};  // one a row of logits, where draw() is called
  // Any step of as many rows, of this state and this cache, calls the same ops with the same args but for the
  // inputs above: the backend may record it.
  bool recordable = false;
  uint64_t cache = 0;  // KvStore::id()
};

inline constexpr int kStepsAhead = 2;

// A layer of experts as its file has it.
struct ExpertsShape {
  GateParams gate{};
  int64_t hidden = 0;
  int64_t width = 0;  // of one expert
  DType dtype = DType::kF32;
  Compute compute = Compute::kAuto;
};

struct Backend {
  std::string_view name;  // "reference", "generic", "avx2", "avx512", "cuda"

  // Bytes of storage that prepare() needs for the spec; 0 when the file's own bytes are used in place.
  size_t (*packed_bytes)(const WeightSpec& spec);
  // Packs (stacks, repacks, losslessly re-lays) into `storage` (64-byte aligned, packed_bytes long), or
  // refers to the mapped file. The result refers to storage or file: both outlive it.
  Result<PackedWeight> (*prepare)(const WeightSpec& spec, std::span<std::byte> storage);
  // Null: prepare() needs the parts' data. Else packs rows of a weight that prepare() laid out in `storage`
  // (WeightSpec::rows_follow), on any thread and in any order; all rows together are what prepare() would have packed.
  // kInvalidArgument as prepare().
  Status (*pack_rows)(const PackedWeight& weight, std::span<std::byte> storage,
                      const PartRows& rows) = nullptr;
  size_t (*scratch_bytes)(const ScratchSpec& spec);
  // Bytes of one KV block (limits::kKvBlockTokens tokens) of one layer.
  size_t (*kv_block_bytes)(const KvLayout& layout);

  void (*embed)(const OpContext&, const EmbedArgs&);
  void (*norm)(const OpContext&, const NormArgs&);
  void (*norm_linear)(const OpContext&, const NormLinearArgs&);
  void (*qkv_project)(const OpContext&, const QkvProjectArgs&);
  void (*attend)(const OpContext&, const AttendArgs&);
  void (*mla_project)(const OpContext&, const MlaProjectArgs&);
  void (*mla_attend)(const OpContext&, const MlaAttendArgs&);
  void (*mlp)(const OpContext&, const MlpArgs&);
  void (*moe)(const OpContext&, const MoeArgs&);
  void (*head)(const OpContext&, const HeadArgs&);

  // Null: the ops work in the host's memory. Else every pointer of args lies in the space, except ids, segments and
  // their block tables, rope, NormArgs::index, HeadArgs::rows and HeadArgs::out, which are those of StepInputs; and
  // ops return before their work is done.
  const MemorySpace* memory = nullptr;
  // Null: the backend keeps nothing between ops.
  Result<std::unique_ptr<BackendState>> (*create_state)(const ScratchSpec& spec) = nullptr;
  // True: the step was recorded before and is on its way; the ops need not be called.
  bool (*begin_step)(const OpContext&, const StepInputs&) = nullptr;
  // Waits for all work. kInternal: the device failed, and every later step will.
  Status (*finish)(const OpContext&) = nullptr;

  // Null: tokens are drawn from the host's logits. Else draws them where the logits are, and steps may be handed over
  // ahead: launch() instead of finish() returns at once, and collect() waits for the oldest step that was launched and
  // gives what it drew, valid until the next begin_step(). At most kStepsAhead are in flight.
  void (*draw)(const OpContext&, const DrawArgs&) = nullptr;
  Status (*launch)(const OpContext&) = nullptr;
  Result<std::span<const Drawn>> (*collect)(const OpContext&) = nullptr;
  // Between steps; those that are in flight still have what the slot held before.
  void (*start_slot)(const OpContext&, const SlotStart&) = nullptr;
  // Null: never. Whether moe() wants a shared expert that is as wide as the others, and of their dtype, as the last
  // entry of gate_up and down (MoeArgs::shared_entry).
  bool (*takes_shared_entry)(const ExpertsShape& shape) = nullptr;
  // Of the cache, where arithmetic is not all f32.
  DType kv_dtype = DType::kF16;
};

// By name, or "auto": the best that this machine runs. GANTRY_CPU_ISA overrides auto. kUnimplemented names
// what the machine lacks; kInvalidArgument lists the names.
Result<const Backend*> cpu_backend(std::string_view name);
// Every CPU backend that runs here, "reference" first.
std::vector<const Backend*> runnable_backends();
// These and the GPU's, where one can be used: what the op tests iterate over.
std::vector<const Backend*> every_backend();

struct DeviceChoice {
  const Backend* backend = nullptr;
  std::string note;  // of "auto": why a GPU that is there is not used
};
// "cpu"; "cuda": kNotFound without a GPU or in a build without CUDA, kUnimplemented for one that is not supported,
// which names it; "auto": the GPU if it can be used, else the CPU.
Result<DeviceChoice> device_backend(std::string_view device);
// "cuda", or a name of cpu_backend().
Result<const Backend*> backend_by_name(std::string_view name);

}  // namespace gantry
