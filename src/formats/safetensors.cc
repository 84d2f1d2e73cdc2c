#include "formats/safetensors.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "base/check.h"
#include "base/limits.h"
#include "formats/quote_name.h"

namespace gantry {
namespace {

namespace dom = simdjson::dom;

constexpr uint64_t kLengthBytes = kSafetensorsLengthBytes;
constexpr int kHeaderDepth = 4;  // header, tensor, shape, number

constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8,
                             DType::kU8,  DType::kI16, DType::kI32,  DType::kI64,    DType::kBool};

std::optional<DType> dtype_from(std::string_view name) {
  for (const DType dtype : kDTypes) {
    if (to_string(dtype) == name) return dtype;
  }
  return std::nullopt;
}

std::string dtype_names() {
  std::string names;
  for (const DType dtype : kDTypes) {
    if (!names.empty()) names += ", ";
    names += to_string(dtype);
  }
  return names;
}

// Where a message belongs: "FILE: tensor "NAME": ".
struct Place {
  const std::string& file;
  std::string_view tensor;

  Status lost(std::string_view what) const {
    return data_loss(fmt::format("{}: tensor {}: {}", file, quote_name(tensor), what));
  }
};

Status check_metadata(dom::element value, const std::string& file) {
  dom::object entries;
  if (value.get_object().get(entries) != simdjson::SUCCESS) {
    return data_loss(file + ": __metadata__ is not an object of strings");
  }
  std::unordered_set<std::string_view> keys;
  for (const dom::key_value_pair entry : entries) {
    if (!entry.value.is_string()) {
      return data_loss(fmt::format("{}: __metadata__ entry {} is not a string", file, quote_name(entry.key)));
    }
    if (!keys.insert(entry.key).second) {
      return data_loss(fmt::format("{}: __metadata__ has the key {} twice", file, quote_name(entry.key)));
    }
  }
  return Status();
}

Result<DType> read_dtype(dom::element value, const Place& place) {
  std::string_view name;
  if (value.get_string().get(name) != simdjson::SUCCESS) return place.lost("dtype is not a string");
  const std::optional<DType> dtype = dtype_from(name);
  if (dtype) return *dtype;
  return unimplemented(fmt::format("{}: tensor {}: dtype {} is not supported; supported: {}", place.file,
                                   quote_name(place.tensor), quote_name(name), dtype_names()));
}

Result<std::vector<uint64_t>> read_numbers(dom::element value, std::string_view what, const Place& place) {
  dom::array items;
  if (value.get_array().get(items) != simdjson::SUCCESS) {
    return place.lost(fmt::format("{} is not an array", what));
  }
  std::vector<uint64_t> numbers;
  for (const dom::element item : items) {
    uint64_t number = 0;
    if (item.get_uint64().get(number) != simdjson::SUCCESS) {
      return place.lost(fmt::format("{} holds something else than whole numbers from 0", what));
    }
    numbers.push_back(number);
  }
  return numbers;
}

// Offsets are relative to the end of the header here.
Result<SafetensorsTensor> read_tensor(dom::element value, const Place& place) {
  dom::object fields;
  if (value.get_object().get(fields) != simdjson::SUCCESS) return place.lost("its entry is not an object");
  std::optional<DType> dtype;
  std::optional<std::vector<uint64_t>> dims, offsets;
  for (const dom::key_value_pair field : fields) {
    if (field.key == "dtype" && !dtype) {
      GANTRY_ASSIGN_OR_RETURN(dtype, read_dtype(field.value, place));
    } else if (field.key == "shape" && !dims) {
      GANTRY_ASSIGN_OR_RETURN(dims, read_numbers(field.value, "shape", place));
    } else if (field.key == "data_offsets" && !offsets) {
      GANTRY_ASSIGN_OR_RETURN(offsets, read_numbers(field.value, "data_offsets", place));
    } else {
      return place.lost(fmt::format("unexpected or repeated key {}", quote_name(field.key)));
    }
  }
  if (!dtype || !dims || !offsets) return place.lost("needs dtype, shape and data_offsets");
  if (dims->size() > static_cast<size_t>(limits::kTensorRankMax)) {
    return unimplemented(fmt::format("{}: tensor {}: has {} dimensions; at most {} are supported", place.file,
                                     quote_name(place.tensor), dims->size(), limits::kTensorRankMax));
  }
  const std::optional<Shape> shape = Shape::checked(*dims);
  if (!shape) return place.lost("the product of its dimensions overflows");
  const std::optional<uint64_t> bytes = bytes_of(*dtype, static_cast<uint64_t>(shape->elements()));
  if (!bytes) return place.lost("its size in bytes overflows");
  if (offsets->size() != 2) return place.lost("data_offsets needs two numbers, begin and end");
  const uint64_t begin = (*offsets)[0], end = (*offsets)[1];
  if (begin > end) return place.lost(fmt::format("data_offsets begin at {} and end at {}", begin, end));
  if (end - begin != *bytes) {
    return place.lost(fmt::format("data_offsets span {} bytes, {} {} needs {}", end - begin,
                                  to_string(*dtype), shape->to_string(), *bytes));
  }
  return SafetensorsTensor{std::string(place.tensor), *dtype, *shape, begin, *bytes};
}

// Sorts by offset, checks that the tensors tile [0, data_bytes), and makes offsets absolute.
Status place_tensors(std::vector<SafetensorsTensor>& tensors, uint64_t header_end, uint64_t data_bytes,
                     const std::string& file) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  uint64_t expected = 0;
  for (SafetensorsTensor& tensor : tensors) {
    const Place place{file, tensor.name};
    if (tensor.offset < expected) {
      return place.lost(fmt::format("its data at {} overlaps the tensor before it, which ends at {}",
                                    tensor.offset, expected));
    }
    if (tensor.offset > expected) {
      return place.lost(
          fmt::format("its data begins at {}, which leaves a hole from {}", tensor.offset, expected));
    }
    if (tensor.bytes > data_bytes - expected) {
      return place.lost(
          fmt::format("its data ends at byte {}, the file holds {} bytes of data: it is truncated",
                      tensor.offset + tensor.bytes, data_bytes));
    }
    expected += tensor.bytes;
    tensor.offset += header_end;
  }
  if (expected != data_bytes) {
    return data_loss(
        fmt::format("{}: {} bytes follow the data of the last tensor", file, data_bytes - expected));
  }
  return Status();
}

}  // namespace

uint64_t safetensors_head_bytes(std::span<const std::byte> first, uint64_t file_bytes) {
  if (first.size() < kLengthBytes) return file_bytes;
  uint64_t header_bytes;
  std::memcpy(&header_bytes, first.data(), kLengthBytes);
  const bool plausible =
      header_bytes <= limits::kSafetensorsHeaderBytesMax && header_bytes <= file_bytes - kLengthBytes;
  return kLengthBytes + (plausible ? header_bytes : 0);
}

Result<std::vector<SafetensorsTensor>> parse_safetensors(std::span<const std::byte> head, uint64_t file_bytes,
                                                         const std::string& file) {
  if (file_bytes < kLengthBytes) {
    return data_loss(fmt::format("{}: has {} bytes, too few for a safetensors file", file, file_bytes));
  }
  GANTRY_CHECK(head.size() >= safetensors_head_bytes(head, file_bytes)) << file;
  uint64_t header_bytes;
  std::memcpy(&header_bytes, head.data(), kLengthBytes);
  if (header_bytes > limits::kSafetensorsHeaderBytesMax) {
    return data_loss(
        fmt::format("{}: says that its header has {} bytes; at most {} are accepted (is this a "
                    "safetensors file?)",
                    file, header_bytes, limits::kSafetensorsHeaderBytesMax));
  }
  if (header_bytes > file_bytes - kLengthBytes) {
    return data_loss(fmt::format("{}: says that its header has {} bytes, but {} follow: it is truncated",
                                 file, header_bytes, file_bytes - kLengthBytes));
  }

  dom::parser parser;
  dom::element root;
  dom::object header;
  const auto* text = reinterpret_cast<const char*>(head.data()) + kLengthBytes;
  if (parser.allocate(header_bytes, kHeaderDepth) != simdjson::SUCCESS) {
    return resource_exhausted(file + ": no memory to parse the header");
  }
  if (const auto error = parser.parse(text, header_bytes).get(root); error != simdjson::SUCCESS) {
    return data_loss(
        fmt::format("{}: the header is not valid JSON: {}", file, simdjson::error_message(error)));
  }
  if (header_bytes == 0 || text[0] != '{' || root.get_object().get(header) != simdjson::SUCCESS) {
    return data_loss(file + ": the header is not a JSON object");
  }

  std::vector<SafetensorsTensor> tensors;
  std::unordered_set<std::string_view> names;
  for (const dom::key_value_pair entry : header) {
    if (!names.insert(entry.key).second) {
      return data_loss(fmt::format("{}: the header has {} twice", file, quote_name(entry.key)));
    }
    if (entry.key == "__metadata__") {
      GANTRY_RETURN_IF_ERROR(check_metadata(entry.value, file));
      continue;
    }
    if (entry.key.size() > limits::kTensorNameBytesMax || tensors.size() >= limits::kSafetensorsTensorsMax) {
      return resource_exhausted(fmt::format("{}: more than {} tensors, or a name of more than {} bytes", file,
                                            limits::kSafetensorsTensorsMax, limits::kTensorNameBytesMax));
    }
    GANTRY_ASSIGN_OR_RETURN(SafetensorsTensor tensor, read_tensor(entry.value, {file, entry.key}));
    tensors.push_back(std::move(tensor));
  }
  const uint64_t header_end = kLengthBytes + header_bytes;
  GANTRY_RETURN_IF_ERROR(place_tensors(tensors, header_end, file_bytes - header_end, file));
  return tensors;
}

}  // namespace gantry
