// The GGUF container: typed metadata, tensor table, tensor data
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"

namespace gantry {

struct GgufValue;

// Elements of one type. Strings refer to the file's bytes.
struct GgufArray {
  std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>, std::vector<bool>,
               std::vector<std::string_view>, std::vector<GgufValue>>
      items;  // the last one: arrays
  size_t size() const;
};

// The types of a file are widened: u8..u64 to uint64_t, i8..i64 to int64_t, f32 to float and f64 to double.
struct GgufValue {
  std::variant<uint64_t, int64_t, float, double, bool, std::string_view, GgufArray> value;

  // Empty when the value is of another kind, or does not fit.
  std::optional<int64_t> as_int() const;  // u8..u64, i8..i64
  std::optional<double> as_number() const;
  std::optional<bool> as_bool() const;
  std::optional<std::string_view> as_string() const;
  const GgufArray* as_array() const;  // null for another kind
  const std::vector<std::string_view>* as_strings() const;
  // The integers of an array of any integer type.
  std::optional<std::vector<int64_t>> as_ints() const;
};

struct GgufTensor {
  std::string name;  // llama.cpp's
  DType dtype = DType::kF32;
  Shape shape;          // GGUF's dimensions reversed: row-major, [out_features, in_features] for a matrix
  uint64_t offset = 0;  // from the start of the file, a multiple of the file's alignment
  uint64_t bytes = 0;
};

struct GgufFile {
  uint32_t version = 0;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  // in order of their data

  const GgufValue* find(std::string_view key) const;  // null if absent
};

// Metadata and tensor table take no more than this; a vocabulary of 256,000 tokens with its merges has 15 MB.
inline constexpr uint64_t kGgufHeadBytesMax = 256ull << 20;

// Parses a file that has `file_bytes` bytes and begins with `head`, which the result refers to. A head that ends within
// metadata or tensor table reads as a truncated file. kDataLoss for a malformed file; kUnimplemented for
// another version, byte order or tensor type. Messages start with `file` and name the key or the tensor.
Result<GgufFile> parse_gguf(std::span<const std::byte> head, uint64_t file_bytes, const std::string& file);

}  // namespace gantry
