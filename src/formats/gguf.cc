#include "formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstring>
#include <limits>
#include <set>

#include "base/limits.h"
#include "formats/quote_name.h"

namespace gantry {
namespace {

enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// The fewest bytes that a value of the type takes in the file; 0 for an unknown type.
uint64_t bytes_min(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
    case ValueType::kString:
      return 8;
    case ValueType::kArray:
      return 12;
  }
  return 0;
}

// A ggml tensor type by its number in the file.
struct TensorType {
  uint32_t number;
  std::string_view name;
  std::optional<DType> dtype;
};

constexpr TensorType kTensorTypes[] = {
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ4_0},
    {3, "Q4_1", DType::kQ4_1},
    {6, "Q5_0", DType::kQ5_0},
    {7, "Q5_1", DType::kQ5_1},
    {8, "Q8_0", DType::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", DType::kQ4_K},
    {13, "Q5_K", DType::kQ5_K},
    {14, "Q6_K", DType::kQ6_K},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
};

std::string supported_types() {
  std::string names;
  for (const TensorType& type : kTensorTypes) {
    if (!type.dtype) continue;
    if (!names.empty()) names += ", ";
    names += type.name;
  }
  return names;
}

// Reads little-endian values from the front; fails, and stays failed, past the end.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> data) : data_(data) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return data_.size() - position_; }

  template <typename T>
  bool read(T& value) {
    if (remaining() < sizeof(T)) return false;
    std::memcpy(&value, data_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return true;
  }
  bool read_string(std::string_view& value, uint64_t bytes_max) {
    uint64_t size;
    if (!read(size) || size > bytes_max || size > remaining()) return false;
    value = {reinterpret_cast<const char*>(data_.data()) + position_, size};
    position_ += size;
    return true;
  }

 private:
  std::span<const std::byte> data_;
  uint64_t position_ = 0;
};

class Parser {
 public:
  Parser(std::span<const std::byte> head, uint64_t file_bytes, const std::string& file)
      : reader_(head), file_(file), file_bytes_(file_bytes) {}

  Result<GgufFile> parse() {
    GANTRY_RETURN_IF_ERROR(read_header());
    for (uint64_t i = 0; i < entry_count_; ++i) GANTRY_RETURN_IF_ERROR(read_entry());
    GANTRY_RETURN_IF_ERROR(read_alignment());
    for (uint64_t i = 0; i < tensor_count_; ++i) GANTRY_RETURN_IF_ERROR(read_tensor(i));
    GANTRY_RETURN_IF_ERROR(place_tensors());
    return std::move(out_);
  }

 private:
  Status lost(std::string_view what) const { return data_loss(fmt::format("{}: {}", file_, what)); }
  Status lost_key(std::string_view key, std::string_view what) const {
    return data_loss(fmt::format("{}: metadata key {}: {}", file_, quote_name(key), what));
  }
  Status lost_tensor(std::string_view tensor, std::string_view what) const {
    return data_loss(fmt::format("{}: tensor {}: {}", file_, quote_name(tensor), what));
  }

  Status read_header() {
    char magic[4];
    if (!reader_.read(magic) || std::string_view(magic, 4) != "GGUF") {
      return lost("is not a GGUF file (it does not begin with \"GGUF\")");
    }
    if (!reader_.read(out_.version)) return lost("is truncated inside its header");
    if (out_.version != 2 && out_.version != 3) {
      const bool swapped = out_.version == 0x02000000 || out_.version == 0x03000000;
      return unimplemented(
          swapped
              ? fmt::format("{}: is a big-endian GGUF file; only little-endian is supported", file_)
              : fmt::format("{}: GGUF version {} is not supported; supported: 2, 3", file_, out_.version));
    }
    if (!reader_.read(tensor_count_) || !reader_.read(entry_count_))
      return lost("is truncated inside its header");
    if (tensor_count_ > limits::kGgufTensorsMax) {
      return resource_exhausted(fmt::format("{}: says that it has {} tensors; at most {} are accepted", file_,
                                            tensor_count_, limits::kGgufTensorsMax));
    }
    if (entry_count_ > limits::kGgufMetadataEntriesMax) {
      return resource_exhausted(
          fmt::format("{}: says that it has {} metadata entries; at most {} are accepted", file_,
                      entry_count_, limits::kGgufMetadataEntriesMax));
    }
    return Status();
  }

  Status read_entry() {
    std::string_view key;
    if (!reader_.read_string(key, limits::kTensorNameBytesMax)) {
      return lost(fmt::format("metadata entry {}: its key is truncated or longer than {} bytes",
                              out_.metadata.size(), limits::kTensorNameBytesMax));
    }
    if (out_.find(key) != nullptr) return lost_key(key, "is there twice");
    uint32_t type;
    if (!reader_.read(type)) return lost_key(key, "is truncated");
    GANTRY_ASSIGN_OR_RETURN(GgufValue value, read_value(static_cast<ValueType>(type), key, 0));
    out_.metadata.emplace(key, std::move(value));
    return Status();
  }

  // T: the file's type. Wide: what it becomes.
  template <typename T, typename Wide>
  Result<GgufValue> read_scalar(std::string_view key) {
    T value;
    if (!reader_.read(value)) return lost_key(key, "is truncated");
    return GgufValue{static_cast<Wide>(value)};
  }

  Result<GgufValue> read_value(ValueType type, std::string_view key, int depth) {
    switch (type) {
      case ValueType::kU8:
        return read_scalar<uint8_t, uint64_t>(key);
      case ValueType::kI8:
        return read_scalar<int8_t, int64_t>(key);
      case ValueType::kU16:
        return read_scalar<uint16_t, uint64_t>(key);
      case ValueType::kI16:
        return read_scalar<int16_t, int64_t>(key);
      case ValueType::kU32:
        return read_scalar<uint32_t, uint64_t>(key);
      case ValueType::kI32:
        return read_scalar<int32_t, int64_t>(key);
      case ValueType::kU64:
        return read_scalar<uint64_t, uint64_t>(key);
      case ValueType::kI64:
        return read_scalar<int64_t, int64_t>(key);
      case ValueType::kF32:
        return read_scalar<float, float>(key);
      case ValueType::kF64:
        return read_scalar<double, double>(key);
      case ValueType::kBool: {
        uint8_t value;
        if (!reader_.read(value)) return lost_key(key, "is truncated");
        if (value > 1) return lost_key(key, fmt::format("a boolean is {}, not 0 or 1", value));
        return GgufValue{value == 1};
      }
      case ValueType::kString: {
        std::string_view value;
        if (!reader_.read_string(value, limits::kGgufStringBytesMax)) {
          return lost_key(
              key, fmt::format("a string is truncated or longer than {} bytes", limits::kGgufStringBytesMax));
        }
        return GgufValue{value};
      }
      case ValueType::kArray:
        return read_array(key, depth + 1);
    }
    return lost_key(key, fmt::format("its type {} is unknown", static_cast<uint32_t>(type)));
  }

  Result<GgufValue> read_array(std::string_view key, int depth) {
    if (depth > limits::kGgufArrayDepthMax) {
      return lost_key(key, fmt::format("arrays are nested deeper than {}", limits::kGgufArrayDepthMax));
    }
    uint32_t number;
    uint64_t count;
    if (!reader_.read(number) || !reader_.read(count)) return lost_key(key, "is truncated");
    const auto type = static_cast<ValueType>(number);
    const uint64_t each = bytes_min(type);
    if (each == 0) return lost_key(key, fmt::format("its element type {} is unknown", number));
    if (count > limits::kGgufArrayElementsMax) {
      return lost_key(key, fmt::format("says that it has {} elements; at most {} are accepted", count,
                                       limits::kGgufArrayElementsMax));
    }
    if (count > reader_.remaining() / each)
      return lost_key(key, fmt::format("says that it has {} elements, but is truncated", count));
    switch (type) {
      case ValueType::kU8:
        return read_items<uint8_t, uint64_t>(key, count);
      case ValueType::kI8:
        return read_items<int8_t, int64_t>(key, count);
      case ValueType::kU16:
        return read_items<uint16_t, uint64_t>(key, count);
      case ValueType::kI16:
        return read_items<int16_t, int64_t>(key, count);
      case ValueType::kU32:
        return read_items<uint32_t, uint64_t>(key, count);
      case ValueType::kI32:
        return read_items<int32_t, int64_t>(key, count);
      case ValueType::kU64:
        return read_items<uint64_t, uint64_t>(key, count);
      case ValueType::kI64:
        return read_items<int64_t, int64_t>(key, count);
      case ValueType::kF32:
        return read_items<float, double>(key, count);
      case ValueType::kF64:
        return read_items<double, double>(key, count);
      case ValueType::kBool:
        return read_values<bool>(type, key, count, depth);
      case ValueType::kString:
        return read_values<std::string_view>(type, key, count, depth);
      case ValueType::kArray:
        break;
    }
    std::vector<GgufValue> items;
    for (uint64_t i = 0; i < count; ++i) {
      GANTRY_ASSIGN_OR_RETURN(GgufValue item, read_array(key, depth + 1));
      items.push_back(std::move(item));
    }
    return GgufValue{GgufArray{std::move(items)}};
  }

  template <typename T, typename Wide>
  Result<GgufValue> read_items(std::string_view key, uint64_t count) {
    std::vector<Wide> items;
    items.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      T item;
      if (!reader_.read(item)) return lost_key(key, "is truncated");
      items.push_back(static_cast<Wide>(item));
    }
    return GgufValue{GgufArray{std::move(items)}};
  }

  template <typename T>
  Result<GgufValue> read_values(ValueType type, std::string_view key, uint64_t count, int depth) {
    std::vector<T> items;
    items.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      GANTRY_ASSIGN_OR_RETURN(const GgufValue item, read_value(type, key, depth));
      items.push_back(std::get<T>(item.value));
    }
    return GgufValue{GgufArray{std::move(items)}};
  }

  Status read_alignment() {
    const GgufValue* value = out_.find("general.alignment");
    if (value == nullptr) return Status();
    const auto alignment = value->as_int();
    // A multiple of 8 by the specification, so that every element type is aligned in the file.
    if (!alignment || *alignment < 8 || static_cast<uint64_t>(*alignment) > limits::kGgufAlignmentMax ||
        !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
      return lost_key("general.alignment",
                      fmt::format("is not a power of two from 8 to {}", limits::kGgufAlignmentMax));
    }
    alignment_ = static_cast<uint64_t>(*alignment);
    return Status();
  }

  Status read_tensor(uint64_t index) {
    GgufTensor tensor;
    std::string_view name;
    if (!reader_.read_string(name, limits::kTensorNameBytesMax)) {
      return lost(fmt::format("tensor {} of {}: its name is truncated or longer than {} bytes", index,
                              tensor_count_, limits::kTensorNameBytesMax));
    }
    tensor.name = name;
    if (!names_.insert(name).second) return lost_tensor(name, "is there twice");
    uint32_t rank;
    if (!reader_.read(rank)) return lost_tensor(name, "its entry is truncated");
    if (rank > static_cast<uint32_t>(limits::kTensorRankMax)) {
      return lost_tensor(
          name, fmt::format("has {} dimensions; at most {} are supported", rank, limits::kTensorRankMax));
    }
    std::vector<uint64_t> dims(rank);
    uint32_t type;
    for (uint64_t& dim : dims) {
      if (!reader_.read(dim)) return lost_tensor(name, "its entry is truncated");
    }
    if (!reader_.read(type) || !reader_.read(tensor.offset))
      return lost_tensor(name, "its entry is truncated");

    const auto known = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes),
                                    [&](const TensorType& t) { return t.number == type; });
    if (known == std::end(kTensorTypes) || !known->dtype) {
      return unimplemented(
          fmt::format("{}: tensor {}: type {} is not supported; supported: {}", file_, quote_name(name),
                      known == std::end(kTensorTypes) ? std::to_string(type) : std::string(known->name),
                      supported_types()));
    }
    tensor.dtype = *known->dtype;
    const auto block = static_cast<uint64_t>(dtype_info(tensor.dtype).block_elements);
    if (block > 1 && (rank == 0 || dims[0] % block != 0)) {
      return lost_tensor(name, fmt::format("a row of {} values is no multiple of {}'s block of {}",
                                           rank == 0 ? 1 : dims[0], to_string(tensor.dtype), block));
    }
    std::reverse(dims.begin(), dims.end());
    const std::optional<Shape> shape = Shape::checked(dims);
    if (!shape) return lost_tensor(name, "the product of its dimensions overflows");
    tensor.shape = *shape;
    const auto bytes = bytes_of(tensor.dtype, static_cast<uint64_t>(shape->elements()));
    if (!bytes) return lost_tensor(name, "its size in bytes overflows");
    tensor.bytes = *bytes;
    if (tensor.offset % alignment_ != 0) {
      return lost_tensor(
          name, fmt::format("its offset {} is no multiple of the alignment {}", tensor.offset, alignment_));
    }
    out_.tensors.push_back(std::move(tensor));
    return Status();
  }

  // Checks that tensors lie inside the file and apart, and makes offsets absolute.
  Status place_tensors() {
    auto& tensors = out_.tensors;
    if (tensors.empty()) return Status();
    std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
    });
    // The file is below 2^63 bytes and the alignment small: no overflow.
    const uint64_t start = (reader_.position() + alignment_ - 1) / alignment_ * alignment_;
    const uint64_t data_bytes = file_bytes_ > start ? file_bytes_ - start : 0;
    uint64_t end = 0;
    for (GgufTensor& tensor : tensors) {
      if (tensor.offset < end) {
        return lost_tensor(tensor.name,
                           fmt::format("its data at {} overlaps the tensor before it, which ends at {}",
                                       tensor.offset, end));
      }
      if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
        return lost_tensor(
            tensor.name, fmt::format("{} bytes at {} lie beyond the file's {} bytes of data: it is truncated",
                                     tensor.bytes, tensor.offset, data_bytes));
      }
      end = tensor.offset + tensor.bytes;
      tensor.offset += start;
    }
    return Status();
  }

  Reader reader_;
  const std::string& file_;
  uint64_t file_bytes_;
  uint64_t tensor_count_ = 0;
  uint64_t entry_count_ = 0;
  uint64_t alignment_ = 32;
  std::set<std::string_view> names_;
  GgufFile out_;
};

}  // namespace

size_t GgufArray::size() const {
  return std::visit([](const auto& typed) { return typed.size(); }, items);
}

std::optional<int64_t> GgufValue::as_int() const {
  if (const auto* wide = std::get_if<uint64_t>(&value)) {
    if (*wide > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(*wide);
  }
  if (const auto* wide = std::get_if<int64_t>(&value)) return *wide;
  return std::nullopt;
}

std::optional<double> GgufValue::as_number() const {
  if (const auto* number = std::get_if<float>(&value)) return *number;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto integer = as_int()) return static_cast<double>(*integer);
  return std::nullopt;
}

std::optional<bool> GgufValue::as_bool() const {
  const auto* flag = std::get_if<bool>(&value);
  return flag != nullptr ? std::optional<bool>(*flag) : std::nullopt;
}

std::optional<std::string_view> GgufValue::as_string() const {
  const auto* text = std::get_if<std::string_view>(&value);
  return text != nullptr ? std::optional<std::string_view>(*text) : std::nullopt;
}

const GgufArray* GgufValue::as_array() const { return std::get_if<GgufArray>(&value); }

const std::vector<std::string_view>* GgufValue::as_strings() const {
  const GgufArray* array = as_array();
  return array != nullptr ? std::get_if<std::vector<std::string_view>>(&array->items) : nullptr;
}

std::optional<std::vector<int64_t>> GgufValue::as_ints() const {
  const GgufArray* array = as_array();
  if (array == nullptr) return std::nullopt;
  if (const auto* ints = std::get_if<std::vector<int64_t>>(&array->items)) return *ints;
  const auto* wide = std::get_if<std::vector<uint64_t>>(&array->items);
  if (wide == nullptr) return std::nullopt;
  std::vector<int64_t> ints;
  for (const uint64_t item : *wide) {
    if (item > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    ints.push_back(static_cast<int64_t>(item));
  }
  return ints;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata.find(key);
  return found != metadata.end() ? &found->second : nullptr;
}

Result<GgufFile> parse_gguf(std::span<const std::byte> head, uint64_t file_bytes, const std::string& file) {
  return Parser(head, file_bytes, file).parse();
}

}  // namespace gantry
