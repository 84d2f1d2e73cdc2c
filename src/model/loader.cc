#include "model/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "formats/quote_name.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;  // of a tensor, read by one thread

constexpr std::string_view kScaleSuffix = ".weight_scale_inv";

bool is_readable(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || is_quantized(dtype);
}

}  // namespace

Loader::Loader(const WeightSource& source, const LoadOptions& options, Arena& arena)
    : source_(source),
      options_(options),
      // A device takes one copy at a time.
      threads_(options.backend->memory != nullptr ? 1 : kLoadThreads),
      arena_(arena),
      total_bytes_(source.total_bytes()) {}

// FP8 values mean nothing without their scales: only `scaled` reads them.
Result<const WeightInfo*> Loader::find(const std::string& name, const Shape& shape, bool scaled) {
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
  return info;
}

bool Loader::begin(const WeightInfo& info) {
  const std::lock_guard lock(mutex_);
  return used_.insert(info.name).second;
}

Status Loader::read_piece(const WeightInfo& info, uint64_t offset, std::span<std::byte> out, bool counts) {
  if (!options_.sizes_only) GANTRY_RETURN_IF_ERROR(source_.read_range(info, offset, out));
  if (!counts) return {};
  const std::lock_guard lock(mutex_);
  done_bytes_ += out.size();
  if (options_.on_progress) options_.on_progress(done_bytes_, total_bytes_);
  return {};
}

Status Loader::read(const WeightInfo& info, std::span<std::byte> out) {
  const bool counts = begin(info);
  const auto pieces = static_cast<int64_t>((out.size() + kPieceBytes - 1) / kPieceBytes);
  return threads_.for_each(pieces, [&](int64_t i) {
    const size_t first = static_cast<size_t>(i) * kPieceBytes;
    return read_piece(info, first, out.subspan(first, std::min(kPieceBytes, out.size() - first)), counts);
  });
}

Result<TensorView> Loader::stage(const WeightInfo& info, std::shared_ptr<std::byte>& memory) {
  const size_t bytes = info.view.bytes();
  GANTRY_ASSIGN_OR_RETURN(memory, staging_.take(bytes));
  GANTRY_RETURN_IF_ERROR(read(info, {memory.get(), bytes}));
  return TensorView{memory.get(), info.view.dtype, info.view.shape};
}

Result<std::span<std::byte>> Loader::take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  return arena_.take(bytes);
}

Result<std::span<std::byte>> Loader::take_host(size_t bytes) {
  const std::lock_guard lock(mutex_);
  return (on_device() ? host_ : arena_).take(bytes);
}

Result<TensorView> Loader::matrix(const std::string& name, int64_t rows, int64_t cols) {
  GANTRY_ASSIGN_OR_RETURN(const WeightInfo* info, find(name, Shape{rows, cols}));
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> storage, take_host(info->view.bytes()));
  const std::span<std::byte> bytes = storage.first(info->view.bytes());
  GANTRY_RETURN_IF_ERROR(read(*info, bytes));
  return TensorView{bytes.data(), info->view.dtype, info->view.shape};
}

Result<WeightViews> Loader::weight(const std::string& module, int64_t rows, int64_t cols) {
  WeightViews views;
  GANTRY_ASSIGN_OR_RETURN(const WeightInfo* values, find(module + ".weight", Shape{rows, cols}, true));
  GANTRY_ASSIGN_OR_RETURN(views.values, stage(*values, views.values_memory));
  if (views.values.dtype != DType::kF8E4M3) return views;
  GANTRY_ASSIGN_OR_RETURN(views.scales, stage_scales(module, rows, cols, views.scales_memory));
  return views;
}

Result<TensorView> Loader::stage_scales(const std::string& module, int64_t rows, int64_t cols,
                                        std::shared_ptr<std::byte>& memory) {
  const std::string name = module + std::string(kScaleSuffix);
  GANTRY_ASSIGN_OR_RETURN(const WeightInfo* info, find(name, Shape{scale_blocks(rows), scale_blocks(cols)}));
  if (info->view.dtype != DType::kF32) {
    return unimplemented(
        fmt::format("{}: tensor {} is {}: want F32", info->file, name, to_string(info->view.dtype)));
  }
  return stage(*info, memory);
}

Result<std::span<float>> Loader::floats(int64_t count) {
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> bytes,
                          take_host(static_cast<size_t>(count) * sizeof(float)));
  return std::span<float>{reinterpret_cast<float*>(bytes.data()), static_cast<size_t>(count)};
}

Result<std::span<const float>> Loader::vector_f32(const std::string& name, int64_t size) {
  GANTRY_ASSIGN_OR_RETURN(const WeightInfo* info, find(name, Shape{size}));
  std::shared_ptr<std::byte> memory;
  GANTRY_ASSIGN_OR_RETURN(const TensorView view, stage(*info, memory));
  GANTRY_ASSIGN_OR_RETURN(const std::span<float> values, floats(size));
  dequantize(view, 0, values);
  return std::span<const float>(values);
}

Result<WeightViews> Loader::matrices(const std::string& name, int64_t count, int64_t rows, int64_t cols) {
  WeightViews views;
  GANTRY_ASSIGN_OR_RETURN(const WeightInfo* info, find(name, Shape{count, rows, cols}));
  GANTRY_ASSIGN_OR_RETURN(views.values, stage(*info, views.values_memory));
  return views;
}

Result<const float*> Loader::place(std::span<const float> values) {
  const MemorySpace* space = options_.backend->memory;
  if (space == nullptr) return values.data();
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> bytes, take(values.size_bytes()));
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
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> bytes, take(view.bytes()));
  GANTRY_RETURN_IF_ERROR(space->upload(bytes.data(), view.data, view.bytes()));
  view.data = bytes.data();
  return view;
}

Result<PackedWeight> Loader::prepare(const WeightSpec& spec, std::span<std::byte> storage,
                                     const std::string& module) {
  if (options_.sizes_only) {
    PackedWeight sizes{.cols = spec.parts[0].shape[1], .compute = spec.compute, .part_count = 1};
    const size_t parts = spec.parts.size() / static_cast<size_t>(spec.batch);
    for (const TensorView& part : spec.parts.first(parts)) sizes.rows += part.shape[0];
    sizes.bytes = storage.size();
    return sizes;
  }
  Result<PackedWeight> packed = options_.backend->prepare(spec, storage);
  if (!packed.ok()) return packed.status().with_context(path() + ": " + module);
  return packed;
}

void Loader::account(const PackedWeight& packed, int64_t output_width) {
  const std::lock_guard lock(mutex_);
  packed_bytes_ += packed.bytes;
  width_max_ = std::max({width_max_, output_width, packed.cols});
}

Result<PackedWeight> Loader::pack(const WeightSpec& spec, const std::string& module) {
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> storage, take(options_.backend->packed_bytes(spec)));
  GANTRY_ASSIGN_OR_RETURN(const PackedWeight packed, prepare(spec, storage, module));
  account(packed, packed.rows);
  return packed;
}

Result<Loader::Stack> Loader::open(std::span<const LinearPart> parts, int64_t cols) {
  Stack stack;
  stack.memory.resize(parts.size());
  stack.scales.resize(parts.size());
  stack.biases.resize(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearPart& part = parts[i];
    WeightViews& memory = stack.memory[i];
    GANTRY_ASSIGN_OR_RETURN(const WeightInfo* info,
                            find(part.name + ".weight", Shape{part.rows, cols}, true));
    stack.infos.push_back(info);
    if (by_rows()) {
      memory.values = {nullptr, info->view.dtype, info->view.shape};
    } else {
      GANTRY_ASSIGN_OR_RETURN(memory.values, stage(*info, memory.values_memory));
    }
    if (info->view.dtype == DType::kF8E4M3) {
      GANTRY_ASSIGN_OR_RETURN(memory.scales, stage_scales(part.name, part.rows, cols, memory.scales_memory));
    }
    stack.values.push_back(memory.values);
    stack.scales[i] = memory.scales;
    if (!part.bias) continue;
    GANTRY_ASSIGN_OR_RETURN(const std::span<const float> bias, vector_f32(part.name + ".bias", part.rows));
    stack.biases[i] = {bias.data(), DType::kF32, Shape{part.rows}};
  }
  return stack;
}

Result<PackedWeight> Loader::pack(const Stack& stack, Compute compute, std::span<std::byte> storage,
                                  const std::string& module) {
  GANTRY_ASSIGN_OR_RETURN(PackedWeight packed, prepare(stack.spec(compute, by_rows()), storage, module));
  if (by_rows()) GANTRY_RETURN_IF_ERROR(pack_rows(stack, packed, storage, module));
  return packed;
}

// In bands, so that the disk never waits for a whole matrix to be packed, nor memory holds one twice.
Status Loader::pack_rows(const Stack& stack, const PackedWeight& weight, std::span<std::byte> storage,
                         const std::string& module) {
  struct Band {
    size_t part;
    int64_t first, rows;
  };
  std::vector<Band> bands;
  std::vector<uint8_t> counts(stack.infos.size());
  for (size_t p = 0; p < stack.infos.size(); ++p) {
    const TensorView& view = stack.infos[p]->view;
    counts[p] = begin(*stack.infos[p]);
    const int64_t block = kScaleBlock * row_bytes(view.dtype, view.shape[1]);
    const int64_t step = kScaleBlock * std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes) / block);
    for (int64_t first = 0; first < view.shape[0]; first += step)
      bands.push_back({p, first, std::min(step, view.shape[0] - first)});
  }
  return threads_.for_each(static_cast<int64_t>(bands.size()), [&](int64_t i) -> Status {
    const auto [part, first, rows] = bands[static_cast<size_t>(i)];
    const WeightInfo& info = *stack.infos[part];
    const TensorView whole = info.view;
    const auto stride = static_cast<uint64_t>(row_bytes(whole.dtype, whole.shape[1]));
    const size_t bytes = static_cast<size_t>(rows) * stride;
    std::shared_ptr<std::byte> memory;
    GANTRY_ASSIGN_OR_RETURN(memory, staging_.take(bytes));
    GANTRY_RETURN_IF_ERROR(
        read_piece(info, static_cast<uint64_t>(first) * stride, {memory.get(), bytes}, counts[part] != 0));
    if (options_.sizes_only) return {};
    const Status status =
        options_.backend->pack_rows(weight, storage,
                                    {.part = static_cast<int>(part),
                                     .first = first,
                                     .values = {memory.get(), whole.dtype, Shape{rows, whole.shape[1]}},
                                     .scales = stack.scales[part]});
    return status.ok() ? status : status.with_context(path() + ": " + module);
  });
}

Result<PackedWeight> Loader::linear(std::span<const LinearPart> parts, int64_t cols,
                                    std::optional<Compute> compute) {
  return stack(parts, cols, compute.value_or(options_.compute), false);
}

Result<PackedWeight> Loader::head(const LinearPart& part, int64_t cols) {
  return stack({&part, 1}, cols, options_.compute, true);
}

Result<PackedWeight> Loader::stack(std::span<const LinearPart> parts, int64_t cols, Compute compute,
                                   bool is_head) {
  GANTRY_ASSIGN_OR_RETURN(const Stack stack, open(parts, cols));
  const size_t bytes = options_.backend->packed_bytes(stack.spec(compute, by_rows()));
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> storage, take(bytes));
  GANTRY_ASSIGN_OR_RETURN(const PackedWeight packed, pack(stack, compute, storage, parts[0].name));
  account(packed, is_head ? 0 : packed.rows);
  return packed;
}

// Each entry is packed alone, so that no more than the threads' entries are unpacked at a time: a layer of R1
// has 11 GB of them.
Result<PackedWeight> Loader::experts(const std::string& prefix, LayerRange range,
                                     std::span<const LinearPart> parts, int64_t cols,
                                     const std::string& last) {
  const int64_t count = range.count();
  GANTRY_CHECK(count > 0 && !parts.empty()) << count << " experts of " << parts.size() << " parts";
  if (on_device()) return experts_together(prefix, range, parts, cols, last);
  GANTRY_CHECK(last.empty());
  const auto open_entry = [&](int64_t e) -> Result<Stack> {
    std::vector<LinearPart> named(parts.begin(), parts.end());
    for (LinearPart& part : named) part.name = fmt::format("{}{}.{}", prefix, range.begin + e, part.name);
    return open(named, cols);
  };
  const auto name = [&](int64_t e) { return fmt::format("{}{}", prefix, range.begin + e); };
  GANTRY_ASSIGN_OR_RETURN(const Stack first, open_entry(0));
  const size_t stride = Arena::rounded(options_.backend->packed_bytes(first.spec(compute(), by_rows())));
  GANTRY_ASSIGN_OR_RETURN(const std::span<std::byte> storage, take(stride * static_cast<size_t>(count)));
  PackedWeight packed;
  GANTRY_RETURN_IF_ERROR(threads_.for_each(count, [&](int64_t e) -> Status {
    const std::span<std::byte> place = storage.subspan(static_cast<size_t>(e) * stride, stride);
    if (e == 0) {
      GANTRY_ASSIGN_OR_RETURN(packed, pack(first, compute(), place, name(0)));
      return {};
    }
    GANTRY_ASSIGN_OR_RETURN(const Stack entry, open_entry(e));
    for (size_t i = 0; i < parts.size(); ++i) {
      if (entry.values[i].dtype == first.values[i].dtype) continue;
      return unimplemented(
          fmt::format("{}: tensor {} is {}, that of expert {} is {}: the experts of a layer are of one dtype",
                      path(), entry.infos[i]->name, to_string(entry.values[i].dtype), range.begin,
                      to_string(first.values[i].dtype)));
    }
    return pack(entry, compute(), place, name(e)).status();
  }));
  packed.batch = count;
  packed.bytes *= static_cast<uint64_t>(count);
  for (PackedWeight::Part& part : packed.parts) {
    part.batch_stride = static_cast<int64_t>(stride);
    part.scale_batch_stride = static_cast<int64_t>(stride / sizeof(float));
  }
  account(packed, packed.rows);
  return packed;
}

// A device wants the entries of a part one after the other.
Result<PackedWeight> Loader::experts_together(const std::string& prefix, LayerRange range,
                                              std::span<const LinearPart> parts, int64_t cols,
                                              const std::string& last) {
  std::vector<std::string> modules;
  for (int64_t e = range.begin; e < range.end; ++e) modules.push_back(fmt::format("{}{}", prefix, e));
  if (!last.empty()) modules.push_back(last);
  std::vector<TensorView> weights, scales;
  std::vector<WeightViews> views;
  for (const std::string& module : modules) {
    for (const LinearPart& part : parts) {
      GANTRY_ASSIGN_OR_RETURN(WeightViews view,
                              weight(fmt::format("{}.{}", module, part.name), part.rows, cols));
      weights.push_back(view.values);
      scales.push_back(view.scales);
      views.push_back(std::move(view));
    }
  }
  return pack({.parts = weights,
               .scales = scales,
               .compute = options_.compute,
               .batch = static_cast<int64_t>(modules.size()),
               .transient = true},
              prefix + "*." + parts[0].name);
}

std::optional<DType> Loader::dtype(std::string_view tensor) const {
  const WeightInfo* info = source_.find(tensor);
  return info != nullptr ? std::optional(info->view.dtype) : std::nullopt;
}

void Loader::ignore(std::string_view name) {
  const WeightInfo* info = source_.find(name);
  const std::lock_guard lock(mutex_);
  if (info != nullptr && used_.insert(info->name).second) total_bytes_ -= info->view.bytes();
}

void Loader::ignore_prefix(std::string_view prefix) {
  for (const WeightInfo& info : source_.weights()) {
    if (info.name.starts_with(prefix)) ignore(info.name);
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
  GANTRY_RETURN_IF_ERROR(source_.check_unchanged());
  arena_.trim();
  if (options_.on_progress) options_.on_progress(total_bytes_, total_bytes_);
  return {};
}

}  // namespace gantry
