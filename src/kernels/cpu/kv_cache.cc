#include "kernels/cpu/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"

namespace gantry::cpu {
namespace {

constexpr int64_t kTokens = limits::kKvBlockTokens;
constexpr int kPadding = 16;

int64_t padded(int64_t dim) { return (dim + kPadding - 1) / kPadding * kPadding; }
int64_t element_bytes(const KvLayout& layout) { return dtype_info(layout.dtype).block_bytes; }
bool in_one_piece(const KvLayout& layout) { return layout.value_dim == 0; }

int64_t head_elements(const KvLayout& layout) {
  if (in_one_piece(layout)) return kTokens * padded(layout.key_dim);
  return kTokens * (layout.key_dim + padded(layout.value_dim));
}

std::byte* head_base(const KvView& kv, int32_t block, int32_t kv_head) {
  return static_cast<std::byte*>(kv.base) + block * kv.block_stride +
         kv_head * head_elements(kv.layout) * element_bytes(kv.layout);
}
std::byte* value_base(const KvView& kv, int32_t block, int32_t kv_head) {
  return head_base(kv, block, kv_head) + kTokens * kv.layout.key_dim * element_bytes(kv.layout);
}

void store_contiguous(const MicroKernels& micro, DType dtype, const float* x, int64_t n, int64_t n_padded,
                      std::byte* to) {
  switch (dtype) {
    case DType::kF16:
      micro.round_f16(x, n, reinterpret_cast<uint16_t*>(to));
      break;
    case DType::kBF16:
      micro.round_bf16(x, n, reinterpret_cast<uint16_t*>(to));
      break;
    default:
      std::memcpy(to, x, static_cast<size_t>(n) * sizeof(float));
      break;
  }
  const int64_t bytes = dtype_info(dtype).block_bytes;
  std::memset(to + n * bytes, 0, static_cast<size_t>((n_padded - n) * bytes));
}

}  // namespace

size_t kv_block_bytes(const KvLayout& layout) {
  return static_cast<size_t>(layout.kv_heads * head_elements(layout) * element_bytes(layout));
}

void find_slots(std::span<const Segment> segments, int64_t first_row, int64_t rows, KvSlot* slots) {
  for (const Segment& segment : segments) {
    const int64_t from = std::max<int64_t>(segment.first_row, first_row);
    const int64_t to = std::min<int64_t>(int64_t{segment.first_row} + segment.rows, first_row + rows);
    for (int64_t row = from; row < to; ++row) {
      const int64_t position = segment.first_position + (row - segment.first_row);
      slots[row - first_row] = {segment.block_table[position / kTokens],
                                static_cast<int32_t>(position % kTokens)};
    }
  }
}

const void* key_tile(const KvView& kv, int32_t block, int32_t kv_head) {
  return head_base(kv, block, kv_head);
}
const void* value_tile(const KvView& kv, int32_t block, int32_t kv_head) {
  return in_one_piece(kv.layout) ? head_base(kv, block, kv_head) : value_base(kv, block, kv_head);
}
int key_stride(const KvLayout& layout) { return static_cast<int>(padded(layout.key_dim)); }
int value_stride(const KvLayout& layout) {
  return static_cast<int>(padded(in_one_piece(layout) ? layout.key_dim : layout.value_dim));
}

void store_key(const MicroKernels& micro, const KvView& kv, KvSlot slot, int32_t kv_head, const float* key) {
  const KvLayout& layout = kv.layout;
  std::byte* base = head_base(kv, slot.block, kv_head);
  if (in_one_piece(layout)) {
    store_contiguous(micro, layout.dtype, key, layout.key_dim, padded(layout.key_dim),
                     base + slot.token * padded(layout.key_dim) * element_bytes(layout));
    return;
  }
  if (layout.dtype == DType::kF32) {
    float* to = reinterpret_cast<float*>(base) + slot.token;
    for (int64_t d = 0; d < layout.key_dim; ++d) to[d * kTokens] = key[d];
    return;
  }
  constexpr int64_t kChunk = 64;
  uint16_t halves[kChunk];
  uint16_t* to = reinterpret_cast<uint16_t*>(base) + slot.token;
  for (int64_t first = 0; first < layout.key_dim; first += kChunk) {
    const int64_t count = std::min(kChunk, layout.key_dim - first);
    (layout.dtype == DType::kF16 ? micro.round_f16 : micro.round_bf16)(key + first, count, halves);
    for (int64_t d = 0; d < count; ++d) to[(first + d) * kTokens] = halves[d];
  }
}

void store_value(const MicroKernels& micro, const KvView& kv, KvSlot slot, int32_t kv_head,
                 const float* value) {
  const KvLayout& layout = kv.layout;
  const int64_t width = padded(layout.value_dim);
  store_contiguous(micro, layout.dtype, value, layout.value_dim, width,
                   value_base(kv, slot.block, kv_head) + slot.token * width * element_bytes(layout));
}

}  // namespace gantry::cpu
