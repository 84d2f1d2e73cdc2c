// Both ends of a new connection prove that they know the secret, and make the keys of its records. Messages of fixed size,
// in memory only:
//   client  magic, purpose, from, to, nonce
//   server  nonce, HMAC(secret, "server", all of the above)
//   client  HMAC(secret, "client", all but the server's HMAC)
// Fresh nonces of both sides make fresh keys, so that nothing of an earlier connection can be played again. Whoever sees
// a handshake can try secrets against it: a secret is random, not a word. What was sent is not safe from one who learns
// the secret later.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "comm/tcp/secret.h"

namespace gantry::tcp {

// What a connection is for: one of another kind is refused.
enum class Purpose : uint8_t { kAgent, kTensorGroup, kAllGroup };

struct Hello {
  Purpose purpose = Purpose::kAgent;
  uint32_t from = 0;  // rank, or number of the host
  uint32_t to = 0;
};

struct SessionKeys {
  Key to_server{};
  Key to_client{};
};

inline constexpr size_t kNonceBytes = 32;
inline constexpr size_t kHelloBytes = 8 + 1 + 4 + 4 + kNonceBytes;
inline constexpr size_t kReplyBytes = kNonceBytes + sizeof(Key);
inline constexpr size_t kProofBytes = sizeof(Key);

class ClientHandshake {
 public:
  ClientHandshake(const Secret& secret, const Hello& hello);
  const std::string& hello() const { return hello_; }
  // The proof to send. kInvalidArgument: the server has another secret.
  Result<std::string> answer(std::string_view reply);
  // After answer().
  SessionKeys keys() const;

 private:
  Secret secret_;
  std::string hello_;
  std::string transcript_;
};

class ServerHandshake {
 public:
  explicit ServerHandshake(const Secret& secret) : secret_(secret) {}
  // The reply to send. kDataLoss: not a hello.
  Result<std::string> reply(std::string_view hello);
  // After reply(). kInvalidArgument: the client has another secret.
  Status finish(std::string_view proof) const;
  const Hello& hello() const { return hello_; }
  SessionKeys keys() const;

 private:
  Secret secret_;
  Hello hello_;
  std::string transcript_;
};

}  // namespace gantry::tcp
