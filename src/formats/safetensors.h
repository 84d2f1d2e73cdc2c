// The safetensors container: u64 header size, JSON header, tensor data
// (https://github.com/huggingface/safetensors#format).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace gantry {

struct SafetensorsTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t offset = 0;  // of the first byte, from the start of the file; any alignment
  uint64_t bytes = 0;
};

// Bytes that the head of a file of `file_bytes` bytes takes: the size that its first 8 bytes say and the header, or the
// 8 where they say what parse_safetensors() refuses; all of a shorter file.
inline constexpr uint64_t kSafetensorsLengthBytes = 8;
uint64_t safetensors_head_bytes(std::span<const std::byte> first, uint64_t file_bytes);

// The tensors of a file that has `file_bytes` bytes and begins with `head`, in order of their data. They cover what
// follows the header exactly: no overlap, no hole, nothing behind. kDataLoss or kUnimplemented (dtype, rank); messages
// start with `file` and name the tensor.
Result<std::vector<SafetensorsTensor>> parse_safetensors(std::span<const std::byte> head, uint64_t file_bytes,
                                                         const std::string& file);

}  // namespace gantry
