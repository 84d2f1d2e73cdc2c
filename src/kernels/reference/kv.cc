#include "kernels/reference/kv.h"

#include <cstring>

#include "base/limits.h"
#include "tensor/convert.h"

namespace gantry::reference {
namespace {

constexpr int64_t kTokens = limits::kKvBlockTokens;

// Address of the vector of `width` elements, `first_element` into the position's block.
std::byte* address(const KvView& kv, const Segment& segment, int64_t position, int64_t first_element) {
  const int64_t block = segment.block_table[position / kTokens];
  return static_cast<std::byte*>(kv.base) + block * kv.block_stride +
         first_element * dtype_info(kv.layout.dtype).block_bytes;
}
std::byte* key_address(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head) {
  const KvLayout& l = kv.layout;
  return address(kv, segment, position, (position % kTokens * l.kv_heads + kv_head) * l.key_dim);
}
std::byte* value_address(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head) {
  const KvLayout& l = kv.layout;
  return address(
      kv, segment, position,
      kTokens * l.kv_heads * l.key_dim + (position % kTokens * l.kv_heads + kv_head) * l.value_dim);
}

void store(DType dtype, const float* values, int64_t n, std::byte* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, values, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t half = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    std::memcpy(to + i * 2, &half, sizeof(half));
  }
}

void load(DType dtype, const std::byte* from, int64_t n, float* values) {
  dequantize(TensorView{from, dtype, Shape{n}}, 0, {values, static_cast<size_t>(n)});
}

}  // namespace

size_t kv_block_bytes(const KvLayout& layout) {
  return static_cast<size_t>(kTokens) * static_cast<size_t>(layout.kv_heads) *
         static_cast<size_t>(layout.key_dim + layout.value_dim) *
         static_cast<size_t>(dtype_info(layout.dtype).block_bytes);
}

void write_key(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head,
               const float* key) {
  store(kv.layout.dtype, key, kv.layout.key_dim, key_address(kv, segment, position, kv_head));
}
void write_value(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head,
                 const float* value) {
  store(kv.layout.dtype, value, kv.layout.value_dim, value_address(kv, segment, position, kv_head));
}
void read_key(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head, float* key) {
  load(kv.layout.dtype, key_address(kv, segment, position, kv_head), kv.layout.key_dim, key);
}
void read_value(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head, float* value) {
  load(kv.layout.dtype, value_address(kv, segment, position, kv_head), kv.layout.value_dim, value);
}

}  // namespace gantry::reference
