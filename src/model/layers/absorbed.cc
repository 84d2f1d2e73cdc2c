#include "model/layers/absorbed.h"

#include <cstring>
#include <vector>

#include "tensor/convert.h"

namespace gantry {
namespace {

// Engines leave the activations of these two products alone, whatever the recipe of the linears.
Compute absorbed_compute(const Loader& loader) {
  return loader.compute() == Compute::kAuto ? Compute::kAuto : Compute::kF32;
}

// kv_b_proj [heads * (nope + value), latent] holds per head W_UK above W_UV. W_UK is kept transposed, since
// it meets the queries: q_latent = W_UK^T q_nope. Both stay in the file's dtype where that is a float, FP8 with
// its scales included: at R1's width they are 16.8 MB a layer and read for every token, in f32 four times that.
class KvB {
 public:
  KvB(const WeightViews& views, const Mla& layer)
      : views_(views),
        heads_(layer.heads),
        nope_(layer.dims.qk_nope_head_dim),
        value_(layer.dims.v_head_dim),
        latent_(layer.dims.kv_lora_rank) {}

  // FP8 whose blocks a head's rows share in a way that scales of their own cannot say, and GGUF's blocks,
  // which do not transpose, become f32.
  void make_sliceable() {
    if (views_.values.dtype == DType::kF8E4M3 ? heads_fit_blocks() : !is_quantized(views_.values.dtype))
      return;
    floats_.resize(static_cast<size_t>(views_.values.shape.elements()));
    dequantize(views_.values, 0, floats_);
    for (int64_t i = 0; views_.scales.data != nullptr && i < views_.values.shape.elements(); ++i) {
      floats_[static_cast<size_t>(i)] *= scale(i / latent_, i % latent_ / kScaleBlock);
    }
    views_.values = {floats_.data(), DType::kF32, views_.values.shape};
    views_.scales = {};
  }

  Result<PackedWeight> pack_w_uk(Loader& loader, const std::string& module) const {
    const TensorView& from = views_.values;
    const auto width = static_cast<size_t>(dtype_info(from.dtype).block_bytes);
    std::vector<std::byte> transposed(static_cast<size_t>(heads_ * nope_ * latent_) * width);
    const int64_t scale_rows = scale_blocks(latent_), scale_cols = scale_blocks(nope_);
    std::vector<float> scales;
    for (int64_t head = 0; head < heads_; ++head) {
      const auto* rows = from.as<std::byte>() + static_cast<size_t>(first_row(head) * latent_) * width;
      std::byte* to = transposed.data() + static_cast<size_t>(head * nope_ * latent_) * width;
      for (int64_t l = 0; l < latent_; ++l) {
        for (int64_t n = 0; n < nope_; ++n, to += width) {
          std::memcpy(to, rows + static_cast<size_t>(n * latent_ + l) * width, width);
        }
      }
      if (views_.scales.data == nullptr) continue;
      for (int64_t l = 0; l < scale_rows; ++l) {
        for (int64_t n = 0; n < scale_cols; ++n)
          scales.push_back(scale(first_row(head) + n * kScaleBlock, l));
      }
    }
    std::vector<TensorView> parts, part_scales;
    for (int64_t head = 0; head < heads_; ++head) {
      parts.push_back({transposed.data() + static_cast<size_t>(head * nope_ * latent_) * width, from.dtype,
                       Shape{latent_, nope_}});
      if (scales.empty()) continue;
      part_scales.push_back(
          {scales.data() + head * scale_rows * scale_cols, DType::kF32, Shape{scale_rows, scale_cols}});
    }
    return loader.pack(spec(loader, parts, part_scales), module);
  }

  Result<PackedWeight> pack_w_uv(Loader& loader, const std::string& module) const {
    const TensorView& from = views_.values;
    std::vector<TensorView> parts, part_scales;
    for (int64_t head = 0; head < heads_; ++head) {
      const int64_t first = first_row(head) + nope_;
      parts.push_back({from.as<std::byte>() + first * row_bytes(from.dtype, latent_), from.dtype,
                       Shape{value_, latent_}});
      if (views_.scales.data == nullptr) continue;
      part_scales.push_back({views_.scales.as<float>() + first / kScaleBlock * scale_blocks(latent_),
                             DType::kF32, Shape{scale_blocks(value_), scale_blocks(latent_)}});
    }
    return loader.pack(spec(loader, parts, part_scales), module);
  }

 private:
  int64_t first_row(int64_t head) const { return head * (nope_ + value_); }
  float scale(int64_t row, int64_t col_block) const {
    return views_.scales.as<float>()[row / kScaleBlock * scale_blocks(latent_) + col_block];
  }
  // Each head's W_UK and W_UV begin with a block of rows or lie within one.
  bool heads_fit_blocks() const {
    const auto fits = [](int64_t first, int64_t count) {
      return first % kScaleBlock == 0 || first % kScaleBlock + count <= kScaleBlock;
    };
    for (int64_t head = 0; head < heads_; ++head) {
      if (!fits(first_row(head), nope_) || !fits(first_row(head) + nope_, value_)) return false;
    }
    return true;
  }
  WeightSpec spec(const Loader& loader, std::span<const TensorView> parts,
                  std::span<const TensorView> scales) const {
    return {.parts = parts,
            .scales = scales,
            .compute = absorbed_compute(loader),
            .batch = heads_,
            .transient = true};
  }

  WeightViews views_;
  std::vector<float> floats_;
  int64_t heads_, nope_, value_, latent_;
};

// [heads, rows, cols] of the file, head by head.
Result<PackedWeight> pack_heads(Loader& loader, const std::string& name, int64_t heads, int64_t rows,
                                int64_t cols) {
  GANTRY_ASSIGN_OR_RETURN(const WeightViews views, loader.matrices(name, heads, rows, cols));
  const TensorView& all = views.values;
  std::vector<TensorView> parts;
  for (int64_t head = 0; head < heads; ++head) {
    parts.push_back(
        {all.as<std::byte>() + head * rows * row_bytes(all.dtype, cols), all.dtype, Shape{rows, cols}});
  }
  return loader.pack({.parts = parts, .compute = absorbed_compute(loader), .batch = heads, .transient = true},
                     name);
}

}  // namespace

Status load_absorbed(Loader& loader, const std::string& base, Mla& layer) {
  const MlaConfig& dims = layer.dims;
  if (loader.has(base + "k_b_proj.weight")) {
    // k_b [heads, latent, nope], which is W_UK transposed, and v_b [heads, value, latent].
    GANTRY_ASSIGN_OR_RETURN(layer.w_uk, pack_heads(loader, base + "k_b_proj.weight", layer.heads,
                                                   dims.kv_lora_rank, dims.qk_nope_head_dim));
    GANTRY_ASSIGN_OR_RETURN(layer.w_uv, pack_heads(loader, base + "v_b_proj.weight", layer.heads,
                                                   dims.v_head_dim, dims.kv_lora_rank));
    return {};
  }
  const std::string module = base + "kv_b_proj";
  GANTRY_ASSIGN_OR_RETURN(
      const WeightViews views,
      loader.weight(module, int64_t{layer.heads} * (dims.qk_nope_head_dim + dims.v_head_dim),
                    dims.kv_lora_rank));
  KvB kv_b(views, layer);
  kv_b.make_sliceable();
  GANTRY_ASSIGN_OR_RETURN(layer.w_uk, kv_b.pack_w_uk(loader, module));
  GANTRY_ASSIGN_OR_RETURN(layer.w_uv, kv_b.pack_w_uv(loader, module));
  return {};
}

}  // namespace gantry
