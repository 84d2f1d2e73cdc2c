#include "kernels/cpu/packing.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"
#include "kernels/cpu/weight_layout.h"
#include "kernels/cpu/word_panel.h"
#include "tensor/convert.h"

namespace gantry::cpu {
namespace {

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The spec's tensors by part and batch entry, however they are given: one view of a part for all entries,
// [batch, rows, cols], or one view [rows, cols] for each, [gate_0, up_0, gate_1, up_1, ...].
class PartViews {
 public:
  explicit PartViews(const WeightSpec& spec)
      : spec_(spec), stacked_(spec.batch == 1 || (!spec.parts.empty() && spec.parts[0].shape.rank() == 3)) {}

  bool stacked() const { return stacked_; }
  size_t parts() const {
    return stacked_ ? spec_.parts.size() : spec_.parts.size() / static_cast<size_t>(spec_.batch);
  }
  const TensorView& view(size_t part, int64_t entry) const {
    return spec_.parts[stacked_ ? part : static_cast<size_t>(entry) * parts() + part];
  }
  DType dtype(size_t part) const { return view(part, 0).dtype; }
  int64_t rows(size_t part) const { return dim(part, -2); }
  int64_t cols() const { return dim(0, -1); }
  const uint8_t* data(size_t part, int64_t entry) const {
    const auto* base = view(part, entry).as<uint8_t>();
    return stacked_ ? base + entry * rows(part) * row_bytes(dtype(part), cols()) : base;
  }
  // Of an FP8 part.
  const float* scales(size_t part, int64_t entry) const {
    return spec_.scales[static_cast<size_t>(entry) * parts() + part].as<float>();
  }
  bool has_bias(size_t part) const { return !spec_.biases.empty() && spec_.biases[part].data != nullptr; }

 private:
  int64_t dim(size_t part, int from_end) const {
    const Shape& shape = view(part, 0).shape;
    return shape[shape.rank() + from_end];
  }

  const WeightSpec& spec_;
  bool stacked_;
};

Status check_view(const TensorView& view, const TensorView& first, int64_t cols, int64_t batch_in_view) {
  const std::string what = std::string(to_string(view.dtype)) + " weight " + view.shape.to_string();
  if (!can_pack(view.dtype)) {
    return unimplemented(
        what + ": weights are F32, F16, BF16, F8_E4M3, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K");
  }
  const int lead = view.shape.rank() - 2;
  if (!(lead == 0 && batch_in_view == 1) && !(lead == 1 && view.shape[0] == batch_in_view)) {
    return invalid_argument(what + ": want " +
                            (batch_in_view > 1 ? std::to_string(batch_in_view) + " x " : "") + "rows x cols");
  }
  if (view.dtype == DType::kF8E4M3 && lead == 1) {
    return unimplemented(what + ": the entries of an FP8 batch come one by one");
  }
  if (view.shape[lead] < 1 || view.shape[lead + 1] < 1) return invalid_argument(what + ": empty");
  if (view.shape[lead + 1] != cols) {
    return invalid_argument(what + ": stacked on " + std::to_string(cols) + " columns");
  }
  if (cols % dtype_info(view.dtype).block_elements != 0) {
    return invalid_argument(what + ": rows are no multiple of " +
                            std::to_string(dtype_info(view.dtype).block_elements) + " elements");
  }
  if (view.dtype != first.dtype || view.shape != first.shape) {
    return invalid_argument(what + ": the same part of another entry is " +
                            std::string(to_string(first.dtype)) + " " + first.shape.to_string());
  }
  return {};
}

Status check_spec(const WeightSpec& spec) {
  if (spec.batch < 1)
    return invalid_argument("a weight's batch is at least 1, not " + std::to_string(spec.batch));
  const PartViews views(spec);
  const size_t parts = views.parts();
  if (parts < 1 || parts > PackedWeight{}.parts.size() ||
      (!views.stacked() && spec.parts.size() != parts * static_cast<size_t>(spec.batch))) {
    return invalid_argument("a weight has 1 to 4 stacked parts for each of its " +
                            std::to_string(spec.batch) + " entries, not " +
                            std::to_string(spec.parts.size()) + " in all");
  }
  if (!spec.biases.empty() && spec.biases.size() != spec.parts.size()) {
    return invalid_argument("a weight of " + std::to_string(spec.parts.size()) + " parts has " +
                            std::to_string(spec.biases.size()) + " biases");
  }
  for (const TensorView& bias : spec.biases) {
    if (bias.data != nullptr && spec.batch != 1) {
      return unimplemented("a bias of a batched weight: want none for " + std::to_string(spec.batch) +
                           " entries");
    }
  }
  for (const TensorView& view : spec.parts) {
    if (view.shape.rank() < 2 || view.shape.rank() > 3) {
      return invalid_argument("weight " + view.shape.to_string() + ": want rows x cols");
    }
  }
  for (size_t p = 0; p < parts; ++p) {
    for (int64_t e = 0; e < (views.stacked() ? 1 : spec.batch); ++e) {
      GANTRY_RETURN_IF_ERROR(
          check_view(views.view(p, e), views.view(p, 0), views.cols(), views.stacked() ? spec.batch : 1));
    }
    if (!views.has_bias(p)) continue;
    const TensorView& bias = spec.biases[p];
    if (bias.dtype != DType::kF32 || bias.shape.elements() != views.rows(p)) {
      return invalid_argument(std::string(to_string(bias.dtype)) + " bias " + bias.shape.to_string() +
                              ": want F32 [" + std::to_string(views.rows(p)) + "]");
    }
  }
  return {};
}

struct PartPlan {
  int64_t panels;
  int64_t panel_bytes;
  int64_t batch_stride;
  int64_t bias_bytes;
  int64_t total(int64_t batch) const { return batch_stride * batch + bias_bytes; }
};

PartPlan plan_part(const PartViews& views, size_t part) {
  PartPlan plan{};
  plan.panels = panel_count(views.rows(part));
  plan.panel_bytes = panel_bytes(views.dtype(part), views.cols());
  plan.batch_stride = plan.panels * plan.panel_bytes;
  plan.bias_bytes = views.has_bias(part) ? plan.panels * kPanelRows * 4 : 0;
  return plan;
}

uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
uint32_t load_u32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
void store_u16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, sizeof(v)); }
void store_u32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, sizeof(v)); }

// One row of one block in file-independent form: 32 unsigned quants.
using Quants = std::array<uint8_t, kBlock>;

void put_quants(const Quants& q, int bits, int n, uint8_t* out) {
  if (bits == 8) {
    for (int g = 0; g < 8; ++g) std::memcpy(out + g * kGroupBytes + n * 4, &q[static_cast<size_t>(g * 4)], 4);
    return;
  }
  for (int k = 0; k < 16; ++k) {
    const auto low = static_cast<size_t>(k);
    out[k / 4 * kGroupBytes + n * 4 + k % 4] =
        static_cast<uint8_t>((q[low] & 15) | ((q[low + 16] & 15) << 4));
  }
  if (bits == 5) {
    uint32_t high = 0;
    for (int k = 0; k < kBlock; ++k) {
      high |= static_cast<uint32_t>(q[static_cast<size_t>(k)] >> 4) << (8 * (k % 4) + k / 4);
    }
    store_u32(out + 256 + n * 4, high);
  } else if (bits == 6) {
    for (int half = 0; half < 2; ++half) {
      uint32_t high = 0;
      for (int k = 0; k < 16; ++k) {
        high |= static_cast<uint32_t>(q[static_cast<size_t>(half * 16 + k)] >> 4)
                << (8 * (k % 4) + k / 4 * 2);
      }
      store_u32(out + 256 + half * kGroupBytes + n * 4, high);
    }
  }
}

Quants get_quants(int bits, int n, const uint8_t* in) {
  Quants q{};
  if (bits == 8) {
    for (int g = 0; g < 8; ++g) std::memcpy(&q[static_cast<size_t>(g * 4)], in + g * kGroupBytes + n * 4, 4);
    return q;
  }
  for (int k = 0; k < 16; ++k) {
    const uint8_t byte = in[k / 4 * kGroupBytes + n * 4 + k % 4];
    q[static_cast<size_t>(k)] = byte & 15;
    q[static_cast<size_t>(k + 16)] = byte >> 4;
  }
  for (int k = 0; k < kBlock && bits > 4; ++k) {
    const int high = bits == 5 ? static_cast<int>(load_u32(in + 256 + n * 4) >> (8 * (k % 4) + k / 4)) & 1
                               : static_cast<int>(load_u32(in + 256 + k / 16 * kGroupBytes + n * 4) >>
                                                  (8 * (k % 4) + k % 16 / 4 * 2)) &
                                     3;
    q[static_cast<size_t>(k)] = static_cast<uint8_t>(q[static_cast<size_t>(k)] | (high << 4));
  }
  return q;
}

int bits_of(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return 8;
    case DType::kQ6_K:
      return 6;
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ5_K:
      return 5;
    default:
      return 4;
  }
}

void pack_simple_block(DType dtype, const uint8_t* src, int n, uint8_t* quants) {
  uint8_t* scales = quants + block_layout(dtype).quant_bytes;
  const bool has_min = dtype == DType::kQ4_1 || dtype == DType::kQ5_1;
  store_u16(scales + n * 2, load_u16(src));
  if (has_min) store_u16(scales + 32 + n * 2, load_u16(src + 2));
  const uint8_t* p = src + (has_min ? 4 : 2);
  const int bits = bits_of(dtype);
  if (bits == 4) {  // the file's bytes already pair column j with j + 16
    for (int i = 0; i < 4; ++i) std::memcpy(quants + i * kGroupBytes + n * 4, p + i * 4, 4);
    return;
  }
  Quants q;
  if (bits == 8) {
    for (size_t k = 0; k < kBlock; ++k) q[k] = p[k] ^ 0x80;
  } else {
    const uint32_t high = load_u32(p);
    for (size_t k = 0; k < 16; ++k) {
      q[k] = static_cast<uint8_t>((p[4 + k] & 15) | (((high >> k) & 1) << 4));
      q[k + 16] = static_cast<uint8_t>((p[4 + k] >> 4) | (((high >> (k + 16)) & 1) << 4));
    }
  }
  put_quants(q, bits, n, quants);
}

void pack_super_block(DType dtype, const uint8_t* src, int n, uint8_t* header) {
  const BlockLayout layout = block_layout(dtype);
  const auto quants_of = [&](int b) { return header + layout.block_offset(b); };
  Quants q;
  if (dtype == DType::kQ6_K) {
    store_u16(header + n * 2, load_u16(src + 208));
    for (int b = 0; b < kSuperBlocks; ++b) {
      const uint8_t* low = src + b / 4 * 64 + b % 2 * 32;
      const uint8_t* high = src + 128 + b / 4 * 32;
      for (size_t k = 0; k < kBlock; ++k) {
        const int nibble = b % 4 < 2 ? low[k] & 15 : low[k] >> 4;
        q[k] = static_cast<uint8_t>(nibble | (((high[k] >> (b % 4 * 2)) & 3) << 4));
      }
      put_quants(q, 6, n, quants_of(b));
      uint8_t* scales = quants_of(b) + layout.quant_bytes;
      scales[n] = src[192 + b * 2];
      scales[16 + n] = src[192 + b * 2 + 1];
    }
    return;
  }
  const bool five = dtype == DType::kQ5_K;
  store_u16(header + n * 2, load_u16(src));
  store_u16(header + 32 + n * 2, load_u16(src + 2));
  const uint8_t* s = src + 4;
  const uint8_t* high = src + 16;
  const uint8_t* low = src + (five ? 48 : 16);
  for (int b = 0; b < kSuperBlocks; ++b) {
    for (size_t k = 0; k < kBlock; ++k) {
      const uint8_t byte = low[static_cast<size_t>(b / 2 * 32) + k];
      int v = b % 2 ? byte >> 4 : byte & 15;
      if (five) v |= ((high[k] >> b) & 1) << 4;
      q[k] = static_cast<uint8_t>(v);
    }
    put_quants(q, five ? 5 : 4, n, quants_of(b));
    uint8_t* scales = quants_of(b) + layout.quant_bytes;
    const int scale = b < 4 ? s[b] & 63 : (s[b + 4] & 15) | ((s[b - 4] >> 6) << 4);
    const int min = b < 4 ? s[b + 4] & 63 : (s[b + 4] >> 4) | ((s[b] >> 6) << 4);
    scales[n] = static_cast<uint8_t>(scale);
    scales[16 + n] = static_cast<uint8_t>(min);
  }
}

// Row n of a panel from one row of the file, whatever word_panel.h does not pack. The panel is zero before.
void pack_row(DType dtype, const uint8_t* src, int64_t cols, int n, uint8_t* panel) {
  if (dtype == DType::kF16) {
    for (int64_t k = 0; k < cols; ++k) std::memcpy(panel + (k * kPanelRows + n) * 2, src + k * 2, 2);
    return;
  }
  const BlockLayout layout = block_layout(dtype);
  const int block_bytes = dtype_info(dtype).block_bytes;
  for (int64_t i = 0; i < cols / dtype_info(dtype).block_elements; ++i) {
    if (layout.is_super()) {
      pack_super_block(dtype, src + i * block_bytes, n, panel + layout.header_offset(i * kSuperBlocks));
    } else {
      pack_simple_block(dtype, src + i * block_bytes, n, panel + layout.block_offset(i));
    }
  }
}

// `rows` rows of the file, the first of them at a multiple of kScaleBlock, and their blocks' scales, as panels at `at`.
// False if an FP8 value is a NaN.
bool pack_panels(DType dtype, int64_t cols, const uint8_t* file, int64_t rows, const float* scales,
                 uint8_t* at) {
  const int64_t stride = row_bytes(dtype, cols), bytes = panel_bytes(dtype, cols);
  for (int64_t first = 0; first < rows; first += kPanelRows, at += bytes) {
    const int64_t count = std::min<int64_t>(kPanelRows, rows - first);
    const uint8_t* from = file + first * stride;
    if (dtype == DType::kF8E4M3) {
      if (!pack_fp8_panel(from, count, cols, scales + first / kScaleBlock * scale_blocks(cols), at))
        return false;
    } else if (dtype == DType::kF32 || dtype == DType::kBF16) {
      pack_word_panel(from, count, stride, at);
    } else {
      std::memset(at, 0, static_cast<size_t>(bytes));
      for (int64_t n = 0; n < count; ++n) pack_row(dtype, from + n * stride, cols, static_cast<int>(n), at);
    }
  }
  return true;
}

void unpack_block(DType dtype, const uint8_t* panel, int64_t b, int n, float* out) {
  const BlockLayout layout = block_layout(dtype);
  const uint8_t* quants = panel + layout.block_offset(b);
  const uint8_t* scales = quants + layout.quant_bytes;
  const uint8_t* factors = layout.is_super() ? panel + layout.header_offset(b) : scales;
  const Quants q = get_quants(bits_of(dtype), n, quants);
  const float d = f16_to_f32(load_u16(factors + n * 2));
  const float m = dtype == DType::kQ6_K ? 0.0f : f16_to_f32(load_u16(factors + 32 + n * 2));
  for (size_t k = 0; k < kBlock; ++k) {
    switch (dtype) {
      case DType::kQ4_0:
        out[k] = d * static_cast<float>(q[k] - 8);
        break;
      case DType::kQ5_0:
        out[k] = d * static_cast<float>(q[k] - 16);
        break;
      case DType::kQ8_0:
        out[k] = d * static_cast<float>(q[k] - 128);
        break;
      case DType::kQ4_1:
      case DType::kQ5_1:
        out[k] = d * static_cast<float>(q[k]) + m;
        break;
      case DType::kQ6_K: {
        const auto s = static_cast<int8_t>(scales[(k < 16 ? 0 : 16) + n]);
        out[k] = d * static_cast<float>(s) * static_cast<float>(q[k] - 32);
        break;
      }
      default:
        out[k] = d * static_cast<float>(scales[n]) * static_cast<float>(q[k]) -
                 m * static_cast<float>(scales[16 + n]);
        break;
    }
  }
}

}  // namespace

size_t packed_weight_bytes(const WeightSpec& spec) {
  if (!check_spec(spec).ok()) return 0;
  const PartViews views(spec);
  int64_t total = 0;
  for (size_t p = 0; p < views.parts(); ++p) total += round_up(plan_part(views, p).total(spec.batch), 64);
  return static_cast<size_t>(total);
}

Result<PackedWeight> pack_weight(const WeightSpec& spec, std::span<std::byte> storage) {
  GANTRY_RETURN_IF_ERROR(check_spec(spec));
  GANTRY_RETURN_IF_ERROR(check_scales(spec));
  if (storage.size() < packed_weight_bytes(spec) || reinterpret_cast<uintptr_t>(storage.data()) % 64 != 0) {
    return invalid_argument("storage for a packed weight needs " + std::to_string(packed_weight_bytes(spec)) +
                            " bytes at a multiple of 64, and has " + std::to_string(storage.size()));
  }
  const PartViews views(spec);
  PackedWeight packed;
  packed.cols = views.cols();
  packed.batch = spec.batch;
  packed.compute = spec.compute;
  packed.part_count = static_cast<int>(views.parts());
  auto* at = reinterpret_cast<uint8_t*>(storage.data());
  for (size_t p = 0; p < views.parts(); ++p) {
    const DType dtype = views.dtype(p);
    const int64_t rows = views.rows(p);
    const PartPlan plan = plan_part(views, p);
    packed.parts[p] = {dtype, rows, at, kPanelLayout, plan.batch_stride, nullptr};
    for (int64_t e = 0; e < (spec.rows_follow ? 0 : spec.batch); ++e) {
      const float* scales = dtype == DType::kF8E4M3 ? views.scales(p, e) : nullptr;
      if (!pack_panels(dtype, packed.cols, views.data(p, e), rows, scales, at + e * plan.batch_stride))
        return holds_nan(views.view(p, e));
    }
    if (plan.bias_bytes > 0) {
      uint8_t* bias = at + plan.batch_stride * spec.batch;
      std::memset(bias, 0, static_cast<size_t>(plan.bias_bytes));
      std::memcpy(bias, spec.biases[p].data, static_cast<size_t>(rows) * 4);
      packed.parts[p].bias = reinterpret_cast<const float*>(bias);
    }
    packed.rows += rows;
    packed.bytes += static_cast<uint64_t>(plan.total(spec.batch));
    at += round_up(plan.total(spec.batch), 64);
  }
  return packed;
}

Status pack_rows(const PackedWeight& weight, std::span<std::byte> storage, const PartRows& rows) {
  const PackedWeight::Part& part = weight.parts[static_cast<size_t>(rows.part)];
  const int64_t count = rows.values.shape[0];
  GANTRY_CHECK(rows.part < weight.part_count && rows.values.dtype == part.dtype &&
               rows.values.shape == (Shape{count, weight.cols}) && rows.first % kScaleBlock == 0 &&
               (count % kScaleBlock == 0 || rows.first + count == part.rows) &&
               count <= part.rows - rows.first)
      << "rows " << rows.first << " + " << count << " of " << part.rows;
  auto* at = reinterpret_cast<uint8_t*>(storage.data()) +
             (static_cast<const std::byte*>(part.data) - storage.data()) +
             rows.first / kPanelRows * panel_bytes(part.dtype, weight.cols);
  const float* scales = part.dtype == DType::kF8E4M3
                            ? rows.scales.as<float>() + rows.first / kScaleBlock * scale_blocks(weight.cols)
                            : nullptr;
  if (pack_panels(part.dtype, weight.cols, rows.values.as<uint8_t>(), count, scales, at)) return {};
  return holds_nan({nullptr, part.dtype, Shape{part.rows, weight.cols}});
}

void unpack_row(const PackedWeight& weight, int part_index, int64_t batch, int64_t row,
                std::span<float> out) {
  const PackedWeight::Part& part = weight.parts[static_cast<size_t>(part_index)];
  GANTRY_CHECK(static_cast<int64_t>(out.size()) == weight.cols && row < part.rows && batch < weight.batch);
  const uint8_t* panel = static_cast<const uint8_t*>(part.data) + batch * part.batch_stride +
                         row / kPanelRows * panel_bytes(part.dtype, weight.cols);
  const int n = static_cast<int>(row % kPanelRows);
  if (is_quantized(part.dtype)) {
    for (int64_t b = 0; b < weight.cols / kBlock; ++b) {
      unpack_block(part.dtype, panel, b, n, &out[static_cast<size_t>(b * kBlock)]);
    }
    return;
  }
  for (int64_t k = 0; k < weight.cols; ++k) {
    float& value = out[static_cast<size_t>(k)];
    if (part.dtype == DType::kF32) {
      std::memcpy(&value, panel + (k * kPanelRows + n) * 4, 4);
    } else if (part.dtype == DType::kF16) {
      value = f16_to_f32(load_u16(panel + (k * kPanelRows + n) * 2));
    } else if (part.dtype == DType::kF8E4M3) {
      float scale;
      std::memcpy(&scale, panel + k / kScaleBlock * 4, 4);
      value =
          e4m3_to_f32(panel[scale_header_bytes(weight.cols) + k / 4 * kGroupBytes + n * 4 + k % 4]) * scale;
    } else {
      value = bf16_to_f32(load_u16(panel + ((k / 2 * kPanelRows + n) * 2 + k % 2) * 2));
    }
  }
}

}  // namespace gantry::cpu
