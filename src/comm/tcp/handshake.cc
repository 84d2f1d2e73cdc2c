#include "comm/tcp/handshake.h"

#include <openssl/crypto.h>

#include <utility>

#include "base/check.h"

namespace gantry::tcp {
namespace {

constexpr std::string_view kMagic("gantry\1\n", 8);  // the last but one is the version

void append_u32(std::string& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>((value >> shift) & 0xff));
}

uint32_t u32_at(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return value;
}

bool same(const Key& expected, std::string_view given) {
  return given.size() == expected.size() &&
         CRYPTO_memcmp(expected.data(), given.data(), expected.size()) == 0;
}

std::string_view text_of(const Key& key) { return {reinterpret_cast<const char*>(key.data()), key.size()}; }

SessionKeys session_keys(const Secret& secret, std::string_view transcript) {
  return {.to_server = secret.derive("records to server", transcript),
          .to_client = secret.derive("records to client", transcript)};
}

}  // namespace

ClientHandshake::ClientHandshake(const Secret& secret, const Hello& hello) : secret_(secret), hello_(kMagic) {
  hello_.push_back(static_cast<char>(hello.purpose));
  append_u32(hello_, hello.from);
  append_u32(hello_, hello.to);
  hello_ += random_bytes(kNonceBytes);
}

Result<std::string> ClientHandshake::answer(std::string_view reply) {
  GANTRY_CHECK(reply.size() == kReplyBytes);
  transcript_ = hello_;
  transcript_ += reply.substr(0, kNonceBytes);
  if (!same(secret_.derive("server", transcript_), reply.substr(kNonceBytes))) {
    return invalid_argument("the other end has another secret");
  }
  return std::string(text_of(secret_.derive("client", transcript_)));
}

SessionKeys ClientHandshake::keys() const { return session_keys(secret_, transcript_); }

Result<std::string> ServerHandshake::reply(std::string_view hello) {
  GANTRY_CHECK(hello.size() == kHelloBytes);
  const auto purpose = static_cast<uint8_t>(hello[kMagic.size()]);
  if (!hello.starts_with(kMagic) || purpose > static_cast<uint8_t>(Purpose::kAllGroup)) {
    return data_loss("the other end is no gantry of this version");
  }
  hello_ = {.purpose = static_cast<Purpose>(purpose),
            .from = u32_at(hello, kMagic.size() + 1),
            .to = u32_at(hello, kMagic.size() + 5)};
  const std::string nonce = random_bytes(kNonceBytes);
  transcript_ = hello;
  transcript_ += nonce;
  return nonce + std::string(text_of(secret_.derive("server", transcript_)));
}

Status ServerHandshake::finish(std::string_view proof) const {
  GANTRY_CHECK(!transcript_.empty());
  if (same(secret_.derive("client", transcript_), proof)) return {};
  return invalid_argument("the other end has another secret");
}

SessionKeys ServerHandshake::keys() const { return session_keys(secret_, transcript_); }

}  // namespace gantry::tcp
