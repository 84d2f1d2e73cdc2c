// The reference's KV block: keys [tokens, kv_heads, key_dim], then values [tokens, kv_heads, value_dim], in
// the layout's dtype.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/args.h"

namespace gantry::reference {

size_t kv_block_bytes(const KvLayout& layout);

// key_dim (value_dim) floats, rounded to nearest even into the cache.
void write_key(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head, const float* key);
void write_value(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head,
                 const float* value);
void read_key(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head, float* key);
void read_value(const KvView& kv, const Segment& segment, int64_t position, int32_t kv_head, float* value);

}  // namespace gantry::reference
