// Finds a checkpoint's tensors, checks dtype and shape, and hands them to the backend. Errors are one line
// that names the tensor, its file, what was found and what the configuration asks for.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "formats/weight_source.h"
#include "model/load_threads.h"
#include "model/memory.h"
#include "model/model.h"
#include "model/parallel_layout.h"
#include "model/staging.h"

namespace gantry {

// One of the matrices that are stacked into a weight: `name`.weight [rows, cols] and, with `bias`,
// `name`.bias [rows].
struct LinearPart {
  std::string name;
  int64_t rows = 0;
  bool bias = false;
};

// A matrix as the file has it, and its scales where it is FP8 (else no data), in memory of their own.
struct WeightViews {
  TensorView values;
  TensorView scales;
  std::shared_ptr<std::byte> values_memory;
  std::shared_ptr<std::byte> scales_memory;
};

// Reads each tensor once, through memory that goes again when it is packed: what is resident is the packed
// weights and a few bands of rows on their way. Thread-safe; results refer to the arena, which outlives them.
class Loader {
 public:
  Loader(const WeightSource& source, const LoadOptions& options, Arena& arena);

  const std::string& path() const { return source_.path(); }
  bool has(std::string_view name) const { return source_.find(name) != nullptr; }

  // A matrix as the file has it, on the host. kDataLoss: missing or misshapen; kUnimplemented: a
  // dtype no op reads.
  Result<TensorView> matrix(const std::string& name, int64_t rows, int64_t cols);
  // For values that the model derives: `module`.weight, which may be FP8 with `module`.weight_scale_inv.
  Result<WeightViews> weight(const std::string& module, int64_t rows, int64_t cols);
  // [count, rows, cols], without scales.
  Result<WeightViews> matrices(const std::string& name, int64_t count, int64_t rows, int64_t cols);
  // Values as f32 on the host, of the loader's time of life where the backend has a memory of its own.
  Result<std::span<const float>> vector_f32(const std::string& name, int64_t size);
  // Values where the ops read them, in the arena.
  Result<const float*> place(std::span<const float> values);
  Result<Norm> norm(const std::string& name, int64_t width, float eps);
  // matrix(), where the ops read it.
  Result<TensorView> table(const std::string& name, int64_t rows, int64_t cols);

  // The parts, stacked and packed by the backend; the load options' compute, or the one given.
  Result<PackedWeight> linear(std::span<const LinearPart> parts, int64_t cols,
                              std::optional<Compute> compute = std::nullopt);
  // The same for the head, whose output goes to the caller: no scratch has its width.
  Result<PackedWeight> head(const LinearPart& part, int64_t cols);
  // An entry for each e of `range`, the parts named `prefix` + e + "." + part.name stacked; parts have no bias. On a
  // device one more where `last` is not empty, whose parts are named `last` + "." + part.name.
  Result<PackedWeight> experts(const std::string& prefix, LayerRange range, std::span<const LinearPart> parts,
                               int64_t cols, const std::string& last = {});
  const Backend& backend() const { return *options_.backend; }
  // Of the file; none where it does not have the tensor.
  std::optional<DType> dtype(std::string_view tensor) const;

  Compute compute() const { return options_.compute; }
  // A weight that the model derives at load; `module` is for messages.
  Result<PackedWeight> pack(const WeightSpec& spec, const std::string& module);

  // ends(), and load(i, layer) for each of `count` layers, several at once: some tensors wait for the disk while
  // others are packed.
  template <typename Layer>
  Result<std::vector<Layer>> layers(int32_t count, const std::function<Status()>& ends,
                                    const std::function<Status(int32_t, Layer&)>& load) {
    std::vector<Layer> layers(static_cast<size_t>(count));
    GANTRY_RETURN_IF_ERROR(threads_.for_each(int64_t{count} + 1, [&](int64_t i) {
      return i == 0 ? ends() : load(static_cast<int32_t>(i - 1), layers[static_cast<size_t>(i - 1)]);
    }));
    return layers;
  }

  // Tensors that the file may hold and the model does not read.
  void ignore(std::string_view name);
  void ignore_prefix(std::string_view prefix);
  // kUnimplemented if the checkpoint holds a tensor that was neither read nor ignored: the model would
  // compute something else than its author meant. kDataLoss if a file changed while it was read.
  Status finish();

  // Of packed weights: bytes of one full read, and the widest K or N.
  uint64_t packed_bytes() const { return packed_bytes_; }
  int64_t width_max() const { return width_max_; }

 private:
  // Tensors that are stacked into one weight, and what of them is in memory.
  struct Stack {
    std::vector<const WeightInfo*> infos;
    std::vector<WeightViews> memory;
    std::vector<TensorView> values;
    std::vector<TensorView> scales;
    std::vector<TensorView> biases;
    WeightSpec spec(Compute compute, bool rows_follow) const {
      return {.parts = values,
              .biases = biases,
              .scales = scales,
              .compute = compute,
              .transient = true,
              .rows_follow = rows_follow};
    }
  };

  // Floats on the host; place() puts them where the ops read them.
  Result<std::span<float>> floats(int64_t count);
  Result<const WeightInfo*> find(const std::string& name, const Shape& shape, bool scaled = false);
  // Whether it is the first time, so that its bytes count.
  bool begin(const WeightInfo& info);
  Status read_piece(const WeightInfo& info, uint64_t offset, std::span<std::byte> out, bool counts);
  Status read(const WeightInfo& info, std::span<std::byte> out);
  Result<TensorView> stage(const WeightInfo& info, std::shared_ptr<std::byte>& memory);
  Result<TensorView> stage_scales(const std::string& module, int64_t rows, int64_t cols,
                                  std::shared_ptr<std::byte>& memory);
  Result<std::span<std::byte>> take(size_t bytes);
  // Of memory that the host reads: the arena's where the ops work there.
  Result<std::span<std::byte>> take_host(size_t bytes);
  bool on_device() const { return options_.backend->memory != nullptr; }
  // Values are read where the backend does not take them by rows: pack_rows().
  Result<Stack> open(std::span<const LinearPart> parts, int64_t cols);
  bool by_rows() const { return options_.backend->pack_rows != nullptr; }
  Result<PackedWeight> pack(const Stack& stack, Compute compute, std::span<std::byte> storage,
                            const std::string& module);
  Status pack_rows(const Stack& stack, const PackedWeight& weight, std::span<std::byte> storage,
                   const std::string& module);
  Result<PackedWeight> prepare(const WeightSpec& spec, std::span<std::byte> storage,
                               const std::string& module);
  void account(const PackedWeight& packed, int64_t output_width);
  Result<PackedWeight> experts_together(const std::string& prefix, LayerRange range,
                                        std::span<const LinearPart> parts, int64_t cols,
                                        const std::string& last);
  Result<PackedWeight> stack(std::span<const LinearPart> parts, int64_t cols, Compute compute, bool is_head);

  const WeightSource& source_;
  const LoadOptions& options_;
  LoadThreads threads_;
  Staging staging_;
  std::mutex mutex_;  // of all that follows
  Arena& arena_;      // of the backend's memory
  Arena host_;        // values on their way there
  std::set<std::string, std::less<>> used_;
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;
  uint64_t packed_bytes_ = 0;
  int64_t width_max_ = 0;
};

}  // namespace gantry
