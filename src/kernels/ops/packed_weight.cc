#include "kernels/ops/packed_weight.h"

#include <cstring>
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
  const size_t views = spec.parts.size();
  const auto entries = static_cast<size_t>(spec.batch);
  if (spec.batch < 1 || views == 0 || views % entries != 0 || views / entries > packed.parts.size()) {
    return invalid_argument("a weight has 1 to 4 stacked parts in each of its " + std::to_string(spec.batch) +
                            " entries, not " + std::to_string(views) + " in all");
  }
  if (!spec.biases.empty() && spec.biases.size() != views) {
    return invalid_argument("a weight of " + std::to_string(views) + " parts has " +
                            std::to_string(spec.biases.size()) + " biases");
  }
  const size_t part_count = views / entries;
  for (size_t i = 0; i < views; ++i) {
    const TensorView& part = spec.parts[i];
    const Shape& shape = part.shape;
    const std::string what = std::string(to_string(part.dtype)) + " weight " + shape.to_string();
    if (!readable(part.dtype)) {
      return unimplemented(what +
                           ": weights are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K");
    }
    if (shape.rank() != 2) return invalid_argument(what + ": want rows x cols");
    const int64_t rows = shape[0], cols = shape[1];
    if (rows <= 0 || cols <= 0) return invalid_argument(what + ": empty");
    if (i > 0 && cols != packed.cols) {
      return invalid_argument(what + ": stacked on " + std::to_string(packed.cols) + " columns");
    }
    if (cols % dtype_info(part.dtype).block_elements != 0) {
      return invalid_argument(what + ": rows are no multiple of " +
                              std::to_string(dtype_info(part.dtype).block_elements) + " elements");
    }
    packed.bytes += part.bytes();
    if (!spec.biases.empty() && spec.biases[i].data != nullptr) {
      const TensorView& bias = spec.biases[i];
      if (bias.dtype != DType::kF32 || bias.shape.elements() != rows || spec.batch != 1) {
        return invalid_argument(std::string(to_string(bias.dtype)) + " bias " + bias.shape.to_string() +
                                " of " + what + ": want F32 [" + std::to_string(rows) + "], not batched");
      }
      packed.parts[i].bias = bias.as<float>();
    }
    if (i >= part_count) {
      const TensorView& first = spec.parts[i % part_count];
      if (part.dtype != first.dtype || shape != first.shape) {
        return invalid_argument(what + ": entry 0 has " + std::string(to_string(first.dtype)) + " " +
                                first.shape.to_string());
      }
      continue;
    }
    PackedWeight::Part& out = packed.parts[i];
    out.dtype = part.dtype;
    out.rows = rows;
    out.data = part.data;
    out.batch_stride = rows * row_bytes(part.dtype, cols);
    packed.cols = cols;
    packed.rows += rows;
    ++packed.part_count;
  }
  return packed;
}

size_t adjoined_bytes(const WeightSpec& spec) {
  size_t bytes = 0;
  if (spec.batch > 1) {
    for (const TensorView& part : spec.parts) bytes += part.bytes();
  }
  return bytes;
}

Result<PackedWeight> adjoined_weight(const WeightSpec& spec, std::span<std::byte> storage) {
  GANTRY_ASSIGN_OR_RETURN(PackedWeight packed, in_place_weight(spec));
  if (spec.batch == 1) return packed;
  if (storage.size() < adjoined_bytes(spec)) return invalid_argument("the storage of a batch is too small");
  std::byte* to = storage.data();
  for (int p = 0; p < packed.part_count; ++p) {
    PackedWeight::Part& part = packed.parts[static_cast<size_t>(p)];
    part.data = to;
    for (int64_t e = 0; e < spec.batch; ++e, to += part.batch_stride) {
      const TensorView& view = spec.parts[static_cast<size_t>(e * packed.part_count + p)];
      std::memcpy(to, view.data, static_cast<size_t>(part.batch_stride));
    }
  }
  return packed;
}

}  // namespace gantry
