#include "model/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "formats/quote_name.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

constexpr std::string_view kScaleSuffix = ".weight_scale_inv";

bool is_readable(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || is_quantized(dtype);
}

}  // namespace

// FP8 values mean nothing without their scales: only `scaled` reads them.
Result<TensorView> Loader::find(const std::string& name, const Shape& shape, bool scaled) {
  const WeightInfo* info = source_.find(name);
  if (info == nullptr) {
    return data_loss(fmt::format("{}: tensor {} is missing: want {}", path(), name, shape.to_string()));
  }
  if (!is_readable(info->view.dtype) && !(scaled && info->view.dtype == DType::kF8E4M3)) {
    return unimplemented(
        fmt::format("{}: tensor {} is {}; supported: F32, F16, BF16{} and the blocks of GGUF", info->file,
                    name, to_string(info->view.dtype), scaled ? ", F8_E4M3" : ""));
  }
  if (info->view.shape != shape) {
    return data_loss(fmt::format("{}: tensor {} is {}: want {}", info->file, name,
                                 info->view.shape.to_string(), shape.to_string()));
  }
  if (used_.insert(name).second) {
    done_bytes_ += info->view.bytes();
    if (options_.on_progress) options_.on_progress(done_bytes_, total_bytes_);
  }
  return info->view;
}

Result<TensorView> Loader::matrix(const std::string& name, int64_t rows, int64_t cols) {
  return find(name, Shape{rows, cols});
}

Result<WeightViews> Loader::weight(const std::string& module, int64_t rows, int64_t cols) {
  WeightViews views;
  GANTRY_ASSIGN_OR_RETURN(views.values, find(module + ".weight", Shape{rows, cols}, true));
  if (views.values.dtype != DType::kF8E4M3) return views;
  const std::string name = module + std::string(kScaleSuffix);
  GANTRY_ASSIGN_OR_RETURN(views.scales, find(name, Shape{scale_blocks(rows), scale_blocks(cols)}));
  if (views.scales.dtype != DType::kF32) {
    return unimplemented(
        fmt::format("{}: tensor {} is {}: want F32", path(), name, to_string(views.scales.dtype)));
  }
  return views;
}

Result<std::span<float>> Loader::floats(int64_t count) {
  Arena& arena = options_.backend->memory != nullptr ? host_ : arena_;
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> bytes,
                          arena.take(static_cast<size_t>(count) * sizeof(float)));
  return std::span<float>{reinterpret_cast<float*>(bytes.data()), static_cast<size_t>(count)};
}

Result<std::span<const float>> Loader::vector_f32(const std::string& name, int64_t size) {
  GANTRY_ASSIGN_OR_RETURN(const TensorView view, find(name, Shape{size}));
  GANTRY_ASSIGN_OR_RETURN(const std::span<float> values, floats(size));
  dequantize(view, 0, values);
  return std::span<const float>(values);
}

Result<TensorView> Loader::matrices(const std::string& name, int64_t count, int64_t rows, int64_t cols) {
  return find(name, Shape{count, rows, cols});
}

Result<const float*> Loader::place(std::span<const float> values) {
  const MemorySpace* space = options_.backend->memory;
  if (space == nullptr) return values.data();
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> bytes, arena_.take(values.size_bytes()));
  GANTRY_RETURN_IF_ERROR(space->upload(bytes.data(), values.data(), values.size_bytes()));
  return reinterpret_cast<const float*>(bytes.data());
}

Result<Norm> Loader::norm(const std::string& name, int64_t width, float eps) {
  GANTRY_ASSIGN_OR_RETURN(const std::span<const float> values, vector_f32(name, width));
  GANTRY_ASSIGN_OR_RETURN(const float* weight, place(values));
  return Norm{.weight = weight, .eps = eps};
}

Result<TensorView> Loader::table(const std::string& name, int64_t rows, int64_t cols) {
  GANTRY_ASSIGN_OR_RETURN(TensorView view, matrix(name, rows, cols));
  const MemorySpace* space = options_.backend->memory;
  if (space == nullptr) return view;
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> bytes, arena_.take(view.bytes()));
  GANTRY_RETURN_IF_ERROR(space->upload(bytes.data(), view.data, view.bytes()));
  view.data = bytes.data();
  return view;
}

Result<PackedWeight> Loader::pack(const WeightSpec& spec, const std::string& name) {
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> storage,
                          arena_.take(options_.backend->packed_bytes(spec)));
  Result<PackedWeight> packed = options_.backend->prepare(spec, storage);
  if (!packed.ok()) return packed.status().with_context(path() + ": " + name);
  packed_bytes_ += packed->bytes;
  width_max_ = std::max({width_max_, packed->rows, packed->cols});
  return packed;
}

Result<PackedWeight> Loader::linear(std::span<const LinearPart> parts, int64_t cols,
                                    std::optional<Compute> compute) {
  std::vector<TensorView> weights, scales;
  std::vector<TensorView> biases(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearPart& part = parts[i];
    GANTRY_ASSIGN_OR_RETURN(const WeightViews views, weight(part.name, part.rows, cols));
    weights.push_back(views.values);
    scales.push_back(views.scales);
    if (!part.bias) continue;
    GANTRY_ASSIGN_OR_RETURN(const std::span<const float> bias, vector_f32(part.name + ".bias", part.rows));
    biases[i] = {bias.data(), DType::kF32, Shape{part.rows}};
  }
  return pack(
      {.parts = weights, .biases = biases, .scales = scales, .compute = compute.value_or(options_.compute)},
      parts[0].name);
}

Result<PackedWeight> Loader::experts(const std::string& prefix, int64_t count,
                                     std::span<const LinearPart> parts, int64_t cols) {
  std::vector<TensorView> weights, scales;
  weights.reserve(static_cast<size_t>(count) * parts.size());
  scales.reserve(static_cast<size_t>(count) * parts.size());
  for (int64_t e = 0; e < count; ++e) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string module = fmt::format("{}{}.{}", prefix, e, parts[i].name);
      GANTRY_ASSIGN_OR_RETURN(const WeightViews views, weight(module, parts[i].rows, cols));
      if (e > 0 && views.values.dtype != weights[i].dtype) {
        return unimplemented(fmt::format(
            "{}: tensor {}.weight is {}, that of expert 0 is {}: the experts of a layer are of one dtype",
            path(), module, to_string(views.values.dtype), to_string(weights[i].dtype)));
      }
      weights.push_back(views.values);
      scales.push_back(views.scales);
    }
  }
  return pack({.parts = weights, .scales = scales, .compute = options_.compute, .batch = count},
              prefix + "*." + parts[0].name);
}

void Loader::ignore(std::string_view name) { used_.emplace(name); }

void Loader::ignore_prefix(std::string_view prefix) {
  for (const WeightInfo& info : source_.weights()) {
    if (info.name.starts_with(prefix)) used_.insert(info.name);
  }
}

Status Loader::finish() {
  for (const WeightInfo& info : source_.weights()) {
    // Old checkpoints store what is computed here.
    if (used_.contains(info.name) || info.name.ends_with(".rotary_emb.inv_freq")) continue;
    return unimplemented(
        fmt::format("{}: tensor {} {} is not part of the architecture with this configuration", info.file,
                    quote_name(info.name), info.view.shape.to_string()));
  }
  if (options_.on_progress) options_.on_progress(total_bytes_, total_bytes_);
  return {};
}

}  // namespace gantry
