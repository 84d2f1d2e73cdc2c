#include "kernels/ops/packed_weight.h"

#include <string>

namespace gantry {
namespace {

bool readable(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return true;
    default:
      return is_quantized(dtype);
  }
}

}  // namespace

int64_t row_bytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = dtype_info(dtype);
  return cols / info.block_elements * info.block_bytes;
}

Result<PackedWeight> in_place_weight(const WeightSpec& spec) {
  PackedWeight packed;
  packed.batch = spec.batch;
  packed.compute = spec.compute;
  if (spec.parts.empty() || spec.parts.size() > packed.parts.size()) {
    return invalid_argument("a weight has 1 to 4 stacked parts, not " + std::to_string(spec.parts.size()));
  }
  if (!spec.biases.empty() && spec.biases.size() != spec.parts.size()) {
    return invalid_argument("a weight of " + std::to_string(spec.parts.size()) + " parts has " +
                            std::to_string(spec.biases.size()) + " biases");
  }
  for (const TensorView& part : spec.parts) {
    const Shape& shape = part.shape;
    const std::string what = std::string(to_string(part.dtype)) + " weight " + shape.to_string();
    if (!readable(part.dtype)) {
      return unimplemented(what +
                           ": weights are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K");
    }
    // A batch of one may keep its leading dimension.
    const int lead = shape.rank() - 2;
    if (!(lead == 0 && spec.batch == 1) && !(lead == 1 && shape[0] == spec.batch)) {
      return invalid_argument(what + ": want " + (spec.batch > 1 ? std::to_string(spec.batch) + " x " : "") +
                              "rows x cols");
    }
    const int64_t rows = shape[lead], cols = shape[lead + 1];
    if (rows <= 0 || cols <= 0) return invalid_argument(what + ": empty");
    if (packed.part_count > 0 && cols != packed.cols) {
      return invalid_argument(what + ": stacked on " + std::to_string(packed.cols) + " columns");
    }
    if (cols % dtype_info(part.dtype).block_elements != 0) {
      return invalid_argument(what + ": rows are no multiple of " +
                              std::to_string(dtype_info(part.dtype).block_elements) + " elements");
    }
    const auto index = static_cast<size_t>(packed.part_count);
    PackedWeight::Part& out = packed.parts[index];
    out.dtype = part.dtype;
    out.rows = rows;
    out.data = part.data;
    out.batch_stride = rows * row_bytes(part.dtype, cols);
    if (!spec.biases.empty() && spec.biases[index].data != nullptr) {
      const TensorView& bias = spec.biases[index];
      if (bias.dtype != DType::kF32 || bias.shape.elements() != rows || spec.batch != 1) {
        return invalid_argument(std::string(to_string(bias.dtype)) + " bias " + bias.shape.to_string() +
                                " of " + what + ": want F32 [" + std::to_string(rows) + "], not batched");
      }
      out.bias = bias.as<float>();
    }
    packed.cols = cols;
    packed.rows += rows;
    packed.bytes += part.bytes();
    ++packed.part_count;
  }
  return packed;
}

}  // namespace gantry
