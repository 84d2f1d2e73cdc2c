// The layout inside a KV block of limits::kKvBlockTokens positions, and writing to it.
//
// Per KV head, one after the other: keys [key_dim][64], so that lanes are positions when scores are made,
// then values [64][value_dim rounded up to 16]. With value_dim 0 (MLA) a token's vector stays in one piece,
// as it is key and value: [64][key_dim rounded up to 16], the padding zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/micro_kernels.h"
#include "kernels/ops/args.h"

namespace gantry::cpu {

size_t kv_block_bytes(const KvLayout& layout);

struct KvSlot {
  int32_t block = 0;
  int32_t token = 0;  // inside the block
};
// Where each of `rows` rows from `first_row` writes.
void find_slots(std::span<const Segment> segments, int64_t first_row, int64_t rows, KvSlot* slots);

const void* key_tile(const KvView& kv, int32_t block, int32_t kv_head);
const void* value_tile(const KvView& kv, int32_t block, int32_t kv_head);  // MLA: the key tile
int key_stride(const KvLayout& layout);    // elements from one token to the next with value_dim 0
int value_stride(const KvLayout& layout);  // elements

void store_key(const MicroKernels& micro, const KvView& kv, KvSlot slot, int32_t kv_head, const float* key);
void store_value(const MicroKernels& micro, const KvView& kv, KvSlot slot, int32_t kv_head,
                 const float* value);

}  // namespace gantry::cpu
