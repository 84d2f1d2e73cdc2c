// Values to bytes and back, little endian and without padding: what the ranks of a replica tell each other. One function
// `template <typename Codec> void fields(Codec&, T&)` per message names its fields in order, for both directions; a message of
// a few plain values has write_all() and read_all().
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/ids.h"

namespace gantry {

template <typename T>
concept PlainValue = std::is_arithmetic_v<T> || std::is_enum_v<T>;

class ByteWriter {
 public:
  static constexpr bool kReads = false;

  template <PlainValue T>
  void operator()(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  template <typename Tag, typename Int>
  void operator()(const Id<Tag, Int>& id) {
    (*this)(id.value);
  }
  void operator()(const std::string& text) {
    (*this)(static_cast<uint32_t>(text.size()));
    bytes_ += text;
  }
  template <typename T, typename Item>
  void list(const std::vector<T>& values, Item item) {
    (*this)(static_cast<uint32_t>(values.size()));
    for (const T& value : values) item(*this, value);
  }

  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Never reads beyond its bytes: what is missing is 0, and ok() is false from then on.
class ByteReader {
 public:
  static constexpr bool kReads = true;

  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <PlainValue T>
  void operator()(T& value) {
    value = {};
    if (bytes_.size() < sizeof(T)) {
      fail();
    } else {
      std::memcpy(&value, bytes_.data(), sizeof(T));
      bytes_.remove_prefix(sizeof(T));
    }
  }
  void operator()(bool& value) {
    uint8_t byte = 0;
    (*this)(byte);
    if (byte > 1) fail();
    value = byte == 1;
  }
  template <typename Tag, typename Int>
  void operator()(Id<Tag, Int>& id) {
    (*this)(id.value);
  }
  void operator()(std::string& text) {
    text.assign(bytes_.substr(0, count(1)));
    bytes_.remove_prefix(text.size());
  }
  // Each item takes at least one byte, so that no more are made than the bytes can hold.
  template <typename T, typename Item>
  void list(std::vector<T>& values, Item item) {
    values.clear();
    for (size_t left = count(1); left > 0 && ok_; --left) item(*this, values.emplace_back());
  }

  bool ok() const { return ok_; }
  // Everything was there, and nothing more.
  bool done() const { return ok_ && bytes_.empty(); }

 private:
  // A length, of items of at least that many bytes.
  size_t count(size_t item_bytes) {
    uint32_t size = 0;
    (*this)(size);
    if (size > bytes_.size() / item_bytes) fail();
    return ok_ ? size : 0;
  }
  void fail() {
    ok_ = false;
    bytes_ = {};
  }

  std::string_view bytes_;
  bool ok_ = true;
};

template <typename... T>
std::string write_all(const T&... values) {
  ByteWriter writer;
  (writer(values), ...);
  return writer.take();
}

// False unless the bytes are these values and nothing more.
template <typename... T>
bool read_all(std::string_view bytes, T&... values) {
  ByteReader reader(bytes);
  (reader(values), ...);
  return reader.done();
}

template <typename Codec, typename T>
void numbers(Codec& codec, T& values) {
  codec.list(values, [](Codec& c, auto& value) { c(value); });
}

}  // namespace gantry
