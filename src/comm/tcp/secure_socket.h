// A connection to a known peer: records in both directions over a TCP socket that does not block. One thread at a time.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/status.h"
#include "comm/tcp/endpoint.h"
#include "comm/tcp/handshake.h"
#include "comm/tcp/records.h"

namespace gantry::tcp {

class SecureSocket {
 public:
  enum class Side { kClient, kServer };
  SecureSocket(Fd fd, Side side, const SessionKeys& keys);

  int fd() const { return fd_.get(); }
  // Seals the data, in several records where it is longer than one, and writes as much as the socket takes.
  // kUnavailable, here and below: the peer is gone.
  Status send(RecordKind kind, std::span<const std::byte> data);
  // Writes on.
  Status flush();
  // Bytes that the socket has not taken.
  size_t unsent() const { return out_.size() - sent_; }

  enum class Got { kNothing, kBytes, kEnd };  // the stream's end, or an error that amounts to it
  // Reads what has come, once.
  Got receive();
  // What was received before the end can be read after it.
  Result<std::optional<RecordOpener::Record>> next() { return opener_.next(); }

 private:
  Fd fd_;
  RecordSealer sealer_;
  RecordOpener opener_;
  std::string out_;
  size_t sent_ = 0;
};

// Connects and proves the secret, within `limit` together. kInvalidArgument: the peer has another secret; kUnavailable.
Result<SecureSocket> connect_securely(const Endpoint& to, const Secret& secret, const Hello& hello,
                                      std::chrono::milliseconds limit);

}  // namespace gantry::tcp
