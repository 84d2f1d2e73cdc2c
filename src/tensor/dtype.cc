#include "tensor/dtype.h"

#include <array>

namespace gantry {
namespace {

constexpr std::array<DTypeInfo, 18> kInfo{{
    {"F32", 1, 4},
    {"F16", 1, 2},
    {"BF16", 1, 2},
    {"F8_E4M3", 1, 1},
    {"I8", 1, 1},
    {"U8", 1, 1},
    {"I16", 1, 2},
    {"I32", 1, 4},
    {"I64", 1, 8},
    {"BOOL", 1, 1},
    {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},
    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},
    {"Q8_0", 32, 34},
    {"Q4_K", 256, 144},
    {"Q5_K", 256, 176},
    {"Q6_K", 256, 210},
}};

}  // namespace

const DTypeInfo& dtype_info(DType dtype) { return kInfo[static_cast<size_t>(dtype)]; }

std::optional<uint64_t> bytes_of(DType dtype, uint64_t elements) {
  const DTypeInfo& info = dtype_info(dtype);
  if (elements % static_cast<uint64_t>(info.block_elements) != 0) return std::nullopt;
  const uint64_t blocks = elements / static_cast<uint64_t>(info.block_elements);
  if (blocks > (uint64_t{1} << 62) / static_cast<uint64_t>(info.block_bytes)) return std::nullopt;
  return blocks * static_cast<uint64_t>(info.block_bytes);
}

}  // namespace gantry
