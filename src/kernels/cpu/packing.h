// prepare() of the CPU backends: re-lays a weight's parts into panels (weight_layout.h), losslessly.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "kernels/ops/packed_weight.h"

namespace gantry::cpu {

// 64-byte aligned storage that pack_weight needs; 0 for a spec that it would refuse.
size_t packed_weight_bytes(const WeightSpec& spec);

// kInvalidArgument: no parts, ragged cols, a shape that is not [rows, cols] ([batch, rows, cols]), cols that
// are no multiple of the format's block, a bias that is not f32 [rows], or storage too small or misaligned.
// kUnimplemented: a dtype without a packed form.
Result<PackedWeight> pack_weight(const WeightSpec& spec, std::span<std::byte> storage);

// Backend::pack_rows().
Status pack_rows(const PackedWeight& weight, std::span<std::byte> storage, const PartRows& rows);

// Values of one row of a packed part, bit for bit those of dequantize(): what the tests compare.
void unpack_row(const PackedWeight& weight, int part, int64_t batch, int64_t row, std::span<float> out);

}  // namespace gantry::cpu
