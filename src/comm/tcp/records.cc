#include "comm/tcp/records.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace gantry::tcp {
namespace {

using Nonce = std::array<unsigned char, 12>;

Nonce nonce_of(uint64_t count) {
  Nonce nonce{};
  for (size_t i = 0; i < 8; ++i) nonce[4 + i] = static_cast<unsigned char>(count >> (8 * i));
  return nonce;
}

const unsigned char* bytes_at(const void* data) { return static_cast<const unsigned char*>(data); }

Cipher make_cipher(const Key& key, bool encrypts) {
  Cipher cipher(EVP_CIPHER_CTX_new());
  GANTRY_CHECK(cipher != nullptr && EVP_CipherInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.data(),
                                                      nullptr, encrypts ? 1 : 0) == 1);
  return cipher;
}

}  // namespace

void FreeCipher::operator()(evp_cipher_ctx_st* context) const { EVP_CIPHER_CTX_free(context); }

RecordSealer::RecordSealer(const Key& key) : cipher_(make_cipher(key, true)) {}

void RecordSealer::seal(RecordKind kind, std::span<const std::byte> data, std::string& out) {
  GANTRY_CHECK(data.size() <= limits::kRecordBytesMax) << data.size() << " bytes in a record";
  const size_t at = out.size();
  out.resize(at + kRecordOverheadBytes + data.size());
  auto* header = reinterpret_cast<unsigned char*>(out.data() + at);
  for (size_t i = 0; i < 3; ++i) header[i] = static_cast<unsigned char>(data.size() >> (8 * i));
  header[3] = static_cast<unsigned char>(kind);
  const Nonce nonce = nonce_of(count_++);
  unsigned char* sealed = header + kRecordHeaderBytes;
  int bytes = 0;
  EVP_CIPHER_CTX* cipher = cipher_.get();
  bool ok = EVP_EncryptInit_ex(cipher, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
            EVP_EncryptUpdate(cipher, nullptr, &bytes, header, kRecordHeaderBytes) == 1;
  if (!data.empty()) {
    ok = ok &&
         EVP_EncryptUpdate(cipher, sealed, &bytes, bytes_at(data.data()), static_cast<int>(data.size())) == 1;
  }
  ok = ok && EVP_EncryptFinal_ex(cipher, sealed + data.size(), &bytes) == 1 &&
       EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, kRecordTagBytes, sealed + data.size()) == 1;
  GANTRY_CHECK(ok) << "AES-256-GCM failed";
}

RecordOpener::RecordOpener(const Key& key)
    : cipher_(make_cipher(key, false)), buffer_(2 * (kRecordOverheadBytes + limits::kRecordBytesMax), '\0') {}

std::span<char> RecordOpener::space() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  return {buffer_.data() + end_, buffer_.size() - end_};
}

void RecordOpener::received(size_t bytes) {
  GANTRY_CHECK(bytes <= buffer_.size() - end_);
  end_ += bytes;
}

Result<std::optional<RecordOpener::Record>> RecordOpener::next() {
  if (broken_) return data_loss("the connection was broken before");
  if (end_ - begin_ < kRecordHeaderBytes) return std::optional<Record>();
  const auto* header = bytes_at(buffer_.data() + begin_);
  size_t size = 0;
  for (size_t i = 0; i < 3; ++i) size |= size_t{header[i]} << (8 * i);
  if (size > limits::kRecordBytesMax || header[3] > static_cast<unsigned char>(RecordKind::kAbort)) {
    broken_ = true;
    return data_loss(fmt::format("a record of {} bytes and kind {}: at most {} bytes are allowed", size,
                                 header[3], limits::kRecordBytesMax));
  }
  if (end_ - begin_ < kRecordOverheadBytes + size) return std::optional<Record>();
  auto* sealed = reinterpret_cast<unsigned char*>(buffer_.data() + begin_ + kRecordHeaderBytes);
  const Nonce nonce = nonce_of(count_++);
  int bytes = 0;
  EVP_CIPHER_CTX* cipher = cipher_.get();
  bool ok = EVP_DecryptInit_ex(cipher, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
            EVP_DecryptUpdate(cipher, nullptr, &bytes, header, kRecordHeaderBytes) == 1;
  if (size > 0) ok = ok && EVP_DecryptUpdate(cipher, sealed, &bytes, sealed, static_cast<int>(size)) == 1;
  ok = ok && EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, kRecordTagBytes, sealed + size) == 1 &&
       EVP_DecryptFinal_ex(cipher, sealed + size, &bytes) == 1;
  if (!ok) {
    broken_ = true;
    return data_loss("a record is not what the other end sealed");
  }
  begin_ += kRecordOverheadBytes + size;
  return std::optional(
      Record{static_cast<RecordKind>(header[3]), {reinterpret_cast<const char*>(sealed), size}});
}

}  // namespace gantry::tcp
