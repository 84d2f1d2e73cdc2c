// A weight matrix as a backend wants it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "tensor/tensor.h"

namespace gantry {

enum class Compute : uint8_t {
  kAuto,  // the fast path of the weight's format (int8 activations for quantised blocks, bf16 for bf16 ...)
  kF32,   // f32 activations throughout: the parity mode
  kF8,  // the published FP8 recipe: activations of FP8 weights rounded to e4m3 (round_activations.h), f32 otherwise
  kF8PowerOfTwo,  // the same with scales that are powers of two (scale_fmt ue8m0)
};

// FP8 weights have one f32 scale for each 128 x 128 block (DeepSeek-V3, arXiv 2412.19437, section 3.3.2):
// w = e4m3 x scale, blocks cut off at ragged edges.
inline constexpr int64_t kScaleBlock = 128;
inline constexpr int64_t scale_blocks(int64_t size) { return (size + kScaleBlock - 1) / kScaleBlock; }

// One logical matrix [rows (out), cols (in)], given as up to 4 row-wise stacked parts with the same cols and
// any dtypes (q, k, v; gate, up). The data of parts stays valid while the packed weight is in use; the spans
// only during the call.
struct WeightSpec {
  std::span<const TensorView> parts{};
  // f32 bias per part, or data == null; optional (empty span: none).
  std::span<const TensorView> biases{};
  // Of kF8E4M3 parts, f32 [ceil(rows / 128), ceil(cols / 128)], else data == null; empty span: none.
  std::span<const TensorView> scales{};
  Compute compute = Compute::kAuto;
  // > 1 (experts): parts, biases and scales hold one run per entry, [gate_0, up_0, gate_1, up_1, ...], each view a
  // matrix; a part has the same dtype and shape in every entry. Packed one entry after the other.
  int64_t batch = 1;
  // The parts' and scales' data goes after the call: the packed weight may not refer to it.
  bool transient = false;
  // The parts have no data yet: prepare() lays the weight out, and Backend::pack_rows() packs its rows. With batch 1.
  bool rows_follow = false;
};

// Rows of one part of a weight that was laid out.
struct PartRows {
  int part = 0;
  int64_t first = 0;  // a multiple of kScaleBlock
  TensorView values;  // [n, cols], transient; n is a multiple of kScaleBlock but at the part's end
  TensorView scales;  // of the whole part, as WeightSpec has them
};

// Opaque to all but its backend; copyable, refers to storage it does not own.
struct PackedWeight {
  int64_t rows = 0;  // total over parts
  int64_t cols = 0;
  int64_t batch = 1;
  Compute compute = Compute::kAuto;
  struct Part {
    DType dtype = DType::kF32;
    int64_t rows = 0;
    const void* data = nullptr;
    uint32_t layout = 0;          // of the backend
    int64_t batch_stride = 0;     // bytes from one batch entry to the next
    const float* bias = nullptr;  // [rows] or null
    // kF8E4M3 in layout 0: [ceil(rows / 128), ceil(cols / 128)]; other layouts may keep scales in data.
    const float* scales = nullptr;
    int64_t scale_batch_stride = 0;  // floats from one batch entry to the next
  };
  std::array<Part, 4> parts{};
  int part_count = 0;
  uint64_t bytes = 0;  // that one full read of it costs; for roofline figures

  explicit operator bool() const { return part_count > 0; }
};

// The spec as it is, its parts referring to the file's bytes (layout 0): where each backend's prepare()
// starts. A part of a batch refers to entry 0 and has the stride of entries that adjoin. kInvalidArgument
// when parts do not stack (rank, cols, batch, whole blocks, sizes of biases and scales) or an FP8 part holds a
// NaN, kUnimplemented for a dtype that no op reads.
Result<PackedWeight> in_place_weight(const WeightSpec& spec);
// The same without the NaN: it reads no values.
Result<PackedWeight> weight_layout(const WeightSpec& spec);

// Of the spec's FP8 parts: kInvalidArgument when one has no scales, scales of another shape, a scale that is
// not finite, or a NaN among its values. Reads all of them.
Status check_scaled_parts(const WeightSpec& spec);
// The same without the NaN, for a backend that meets every value as it packs: it reads no values.
Status check_scales(const WeightSpec& spec);
// What is said of an FP8 part with a NaN.
Status holds_nan(const TensorView& part);

// The same for a backend without a layout of its own: the entries of a batch, which lie anywhere, and
// transient parts are copied into `storage` (adjoined_bytes long, else 0) one after the other.
size_t adjoined_bytes(const WeightSpec& spec);
Result<PackedWeight> adjoined_weight(const WeightSpec& spec, std::span<std::byte> storage);

// Bytes of one row of `cols` elements; cols is a multiple of the dtype's block.
int64_t row_bytes(DType dtype, int64_t cols);

}  // namespace gantry
