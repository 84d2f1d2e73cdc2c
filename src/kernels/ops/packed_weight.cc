#include "kernels/ops/packed_weight.h"

#include <cmath>
#include <cstring>
#include <string>

#include "tensor/convert.h"

namespace gantry {
namespace {

bool readable(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E4M3:
      return true;
    default:
      return is_quantized(dtype);
  }
}

std::string describe_fp8(const TensorView& part) { return "F8_E4M3 weight " + part.shape.to_string(); }
bool is_scaled(const TensorView& part) { return part.dtype == DType::kF8E4M3 && part.shape.rank() == 2; }

// Whatever follows may be an f32.
uint64_t aligned(uint64_t bytes) { return (bytes + 3) / 4 * 4; }

}  // namespace

int64_t row_bytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = dtype_info(dtype);
  return cols / info.block_elements * info.block_bytes;
}

Result<PackedWeight> in_place_weight(const WeightSpec& spec) {
  GANTRY_ASSIGN_OR_RETURN(PackedWeight packed, weight_layout(spec));
  GANTRY_RETURN_IF_ERROR(check_scaled_parts(spec));
  return packed;
}

Result<PackedWeight> weight_layout(const WeightSpec& spec) {
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
  GANTRY_RETURN_IF_ERROR(check_scales(spec));
  const size_t part_count = views / entries;
  for (size_t i = 0; i < views; ++i) {
    const TensorView& part = spec.parts[i];
    const Shape& shape = part.shape;
    const std::string what = std::string(to_string(part.dtype)) + " weight " + shape.to_string();
    if (!readable(part.dtype)) {
      return unimplemented(
          what + ": weights are F32, F16, BF16, F8_E4M3, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K");
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
    if (part.dtype == DType::kF8E4M3) {
      out.scales = spec.scales[i].as<float>();
      out.scale_batch_stride = spec.scales[i].shape.elements();
    }
    packed.cols = cols;
    packed.rows += rows;
    ++packed.part_count;
  }
  return packed;
}

Status check_scales(const WeightSpec& spec) {
  if (!spec.scales.empty() && spec.scales.size() != spec.parts.size()) {
    return invalid_argument("a weight of " + std::to_string(spec.parts.size()) + " parts has " +
                            std::to_string(spec.scales.size()) + " scales");
  }
  for (size_t i = 0; i < spec.parts.size(); ++i) {
    const TensorView& part = spec.parts[i];
    if (!is_scaled(part)) continue;
    const std::string what = describe_fp8(part);
    const Shape want{scale_blocks(part.shape[0]), scale_blocks(part.shape[1])};
    if (spec.scales.empty() || spec.scales[i].data == nullptr) {
      return invalid_argument(what + ": no scales, want F32 " + want.to_string());
    }
    const TensorView& scales = spec.scales[i];
    if (scales.dtype != DType::kF32 || scales.shape != want) {
      return invalid_argument(what + ": scales are " + std::string(to_string(scales.dtype)) + " " +
                              scales.shape.to_string() + ", want F32 " + want.to_string());
    }
    for (int64_t k = 0; k < want.elements(); ++k) {
      if (!std::isfinite(scales.as<float>()[k])) {
        return invalid_argument(what + ": scale " + std::to_string(k) + " is not finite");
      }
    }
  }
  return {};
}

Status holds_nan(const TensorView& part) { return invalid_argument(describe_fp8(part) + ": holds a NaN"); }

Status check_scaled_parts(const WeightSpec& spec) {
  GANTRY_RETURN_IF_ERROR(check_scales(spec));
  for (const TensorView& part : spec.parts) {
    if (is_scaled(part) && e4m3_has_nan({part.as<uint8_t>(), static_cast<size_t>(part.shape.elements())}))
      return holds_nan(part);
  }
  return {};
}

size_t adjoined_bytes(const WeightSpec& spec) {
  size_t bytes = 0;
  if (spec.batch > 1 || spec.transient) {
    for (const TensorView& part : spec.parts) bytes += aligned(part.bytes());
    for (const TensorView& scales : spec.scales) bytes += scales.data == nullptr ? 0 : scales.bytes();
  }
  return bytes;
}

Result<PackedWeight> adjoined_weight(const WeightSpec& spec, std::span<std::byte> storage) {
  GANTRY_ASSIGN_OR_RETURN(PackedWeight packed, in_place_weight(spec));
  if (spec.batch == 1 && !spec.transient) return packed;
  if (storage.size() < adjoined_bytes(spec)) return invalid_argument("the storage of a batch is too small");
  std::byte* to = storage.data();
  const auto view_of = [&](const std::span<const TensorView> views, int64_t entry, int part) {
    return views[static_cast<size_t>(entry * packed.part_count + part)];
  };
  for (int p = 0; p < packed.part_count; ++p) {
    PackedWeight::Part& part = packed.parts[static_cast<size_t>(p)];
    part.data = to;
    for (int64_t e = 0; e < spec.batch; ++e, to += part.batch_stride) {
      std::memcpy(to, view_of(spec.parts, e, p).data, static_cast<size_t>(part.batch_stride));
    }
    to = storage.data() + aligned(static_cast<uint64_t>(to - storage.data()));
    if (part.scales == nullptr) continue;
    const int64_t bytes = part.scale_batch_stride * static_cast<int64_t>(sizeof(float));
    part.scales = reinterpret_cast<const float*>(to);
    for (int64_t e = 0; e < spec.batch; ++e, to += bytes) {
      std::memcpy(to, view_of(spec.scales, e, p).data, static_cast<size_t>(bytes));
    }
  }
  return packed;
}

}  // namespace gantry
