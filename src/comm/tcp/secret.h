// A key that the hosts of a deployment share, and keys made of it.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry::tcp {

using Key = std::array<unsigned char, 32>;

// Never printed; overwritten when it goes.
class Secret {
 public:
  // kInvalidArgument: shorter than kSecretBytesMin, or longer than kSecretBytesMax.
  static Result<Secret> create(std::string bytes);
  // The file's content without white space at its ends. Refuses a file that everyone may read.
  static Result<Secret> read(const std::string& path);
  static Secret random();
  ~Secret();
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;

  // HMAC-SHA256 (RFC 2104) of the label, which says what the key is for, a zero byte, and the context.
  Key derive(std::string_view label, std::string_view context) const;
  // derive()'s bytes as a secret.
  Secret child(std::string_view label, std::string_view context) const;
  const std::string& bytes() const { return bytes_; }

 private:
  explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}

  std::string bytes_;
};

// From the system's generator.
std::string random_bytes(size_t count);

}  // namespace gantry::tcp
