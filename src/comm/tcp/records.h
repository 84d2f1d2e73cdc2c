// What is sent on a connection between hosts once both ends are known: records, each encrypted and authenticated with the
// key of its direction (AES-256-GCM, NIST SP 800-38D). The nonce is the number of the record, so that one that is left
// out, repeated, moved or changed is an error.
//   4 bytes, authenticated too: length of the data (24 bits, little endian), kind (8 bits); the data; 16 bytes of tag
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "comm/tcp/secret.h"
#include "comm/tcp/tcp_limits.h"

struct evp_cipher_ctx_st;  // OpenSSL's EVP_CIPHER_CTX

namespace gantry::tcp {

enum class RecordKind : uint8_t { kData, kAbort };

inline constexpr size_t kRecordHeaderBytes = 4;
inline constexpr size_t kRecordTagBytes = 16;
inline constexpr size_t kRecordOverheadBytes = kRecordHeaderBytes + kRecordTagBytes;

struct FreeCipher {
  void operator()(evp_cipher_ctx_st* context) const;
};
using Cipher = std::unique_ptr<evp_cipher_ctx_st, FreeCipher>;

class RecordSealer {
 public:
  explicit RecordSealer(const Key& key);
  // Appends a record. data: at most kRecordBytesMax.
  void seal(RecordKind kind, std::span<const std::byte> data, std::string& out);

 private:
  Cipher cipher_;
  uint64_t count_ = 0;
};

class RecordOpener {
 public:
  explicit RecordOpener(const Key& key);

  // Memory for the next bytes; then received(n) says how many were put there. Empty only while next() has a record to give.
  std::span<char> space();
  void received(size_t bytes);

  struct Record {
    RecordKind kind = RecordKind::kData;
    std::string_view data;  // until space() is called
  };
  // The next record; empty if it has not come whole. kDataLoss: not what the other end sealed next. Nothing can be read
  // after that.
  Result<std::optional<Record>> next();

 private:
  Cipher cipher_;
  uint64_t count_ = 0;
  std::string buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool broken_ = false;
};

}  // namespace gantry::tcp
