// Writers of small checkpoints for tests: well-formed unless told otherwise.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gantry::testing {

// A folder of its own, gone with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "gantry-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "mkdtemp failed: " << name;
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path() const { return path_.string(); }
  std::string file(std::string_view name) const { return (path_ / name).string(); }
  std::string write(std::string_view name, std::string_view content) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    if (!out) ADD_FAILURE() << "cannot write " << file(name);
    return file(name);
  }

 private:
  std::filesystem::path path_;
};

template <typename T>
void append(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

template <typename T>
std::string bytes_of_values(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// A safetensors file with this very header text.
inline std::string safetensors_with_header(std::string_view header, std::string_view data) {
  std::string file;
  append<uint64_t>(file, header.size());
  file += header;
  file += data;
  return file;
}

class SafetensorsWriter {
 public:
  SafetensorsWriter& tensor(const std::string& name, const std::string& dtype,
                            const std::vector<int64_t>& shape, std::string_view bytes) {
    header_[name] = {
        {"dtype", dtype}, {"shape", shape}, {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
    return *this;
  }
  // The header is padded with spaces to a multiple of 8 bytes, as the safetensors library does.
  std::string build() const {
    std::string header = header_.dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    return safetensors_with_header(header, data_);
  }

 private:
  nlohmann::ordered_json header_ = nlohmann::ordered_json::object();
  std::string data_;
};

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3) : version_(version) {}

  // Numbers are GGUF's value types.
  GgufWriter& u8(std::string_view key, uint8_t value) { return entry(key, 0, raw(value)); }
  GgufWriter& i8(std::string_view key, int8_t value) { return entry(key, 1, raw(value)); }
  GgufWriter& u16(std::string_view key, uint16_t value) { return entry(key, 2, raw(value)); }
  GgufWriter& i16(std::string_view key, int16_t value) { return entry(key, 3, raw(value)); }
  GgufWriter& u32(std::string_view key, uint32_t value) { return entry(key, 4, raw(value)); }
  GgufWriter& i32(std::string_view key, int32_t value) { return entry(key, 5, raw(value)); }
  GgufWriter& f32(std::string_view key, float value) { return entry(key, 6, raw(value)); }
  GgufWriter& boolean(std::string_view key, bool value) { return entry(key, 7, raw<uint8_t>(value)); }
  GgufWriter& string(std::string_view key, std::string_view value) { return entry(key, 8, text(value)); }
  GgufWriter& u64(std::string_view key, uint64_t value) { return entry(key, 10, raw(value)); }
  GgufWriter& i64(std::string_view key, int64_t value) { return entry(key, 11, raw(value)); }
  GgufWriter& f64(std::string_view key, double value) { return entry(key, 12, raw(value)); }
  GgufWriter& strings(std::string_view key, const std::vector<std::string>& values) {
    std::string payload = array_head(8, values.size());
    for (const std::string& value : values) payload += text(value);
    return entry(key, 9, payload);
  }
  GgufWriter& i32s(std::string_view key, const std::vector<int32_t>& values) {
    return entry(key, 9, array_head(5, values.size()) + bytes_of_values(values));
  }
  // The value's bytes as given.
  GgufWriter& entry(std::string_view key, uint32_t type, std::string_view payload) {
    metadata_ += text(key);
    append(metadata_, type);
    metadata_ += payload;
    ++entries_;
    return *this;
  }

  // dims in GGUF's order: the fastest first. The offset is the next multiple of 32.
  GgufWriter& tensor(std::string_view name, uint32_t type, const std::vector<uint64_t>& dims,
                     std::string_view bytes) {
    tensor_at(name, type, dims, data_.size());
    data_ += bytes;
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    return *this;
  }
  // An entry of the tensor table alone.
  GgufWriter& tensor_at(std::string_view name, uint32_t type, const std::vector<uint64_t>& dims,
                        uint64_t offset) {
    table_ += text(name);
    append(table_, static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) append(table_, dim);
    append(table_, type);
    append(table_, offset);
    ++tensors_;
    return *this;
  }

  std::string build() const {
    std::string file = "GGUF";
    append(file, version_);
    append(file, tensors_);
    append(file, entries_);
    file += metadata_;
    file += table_;
    file.resize((file.size() + 31) / 32 * 32, '\0');
    return file + data_;
  }

  template <typename T>
  static std::string raw(T value) {
    std::string bytes;
    append(bytes, value);
    return bytes;
  }
  static std::string text(std::string_view value) { return raw<uint64_t>(value.size()).append(value); }
  static std::string array_head(uint32_t type, uint64_t count) { return raw(type) + raw(count); }

 private:
  uint32_t version_;
  uint64_t tensors_ = 0, entries_ = 0;
  std::string metadata_, table_, data_;
};

// The keys that every llama file has, for 2 layers of hidden size 8 with 2 heads and a vocabulary of 4.
inline GgufWriter small_llama_metadata() {
  GgufWriter writer;
  writer.string("general.architecture", "llama")
      .u32("llama.block_count", 2)
      .u32("llama.context_length", 64)
      .u32("llama.embedding_length", 8)
      .u32("llama.feed_forward_length", 16)
      .u32("llama.attention.head_count", 2)
      .u32("llama.attention.head_count_kv", 1)
      .f32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .u32("llama.vocab_size", 4);
  return writer;
}

}  // namespace gantry::testing
