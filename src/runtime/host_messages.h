// What rank 0 of a replica and the agents of other hosts tell each other, frames (protocol/frame_stream) in the records of a
// connection between hosts (comm/tcp).
#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "comm/tcp/secure_socket.h"
#include "protocol/frame_stream.h"
#include "runtime/rank_messages.h"

namespace gantry {

enum class HostMessage : uint8_t {
  kJoin,       // from the agent, first: HostJoin
  kRefused,    // to it, last: why it cannot join
  kStartRank,  // to it: RankSetup
  kRankRuns,   // from it: RankProcess
  kToRank,     // to it: RankEnvelope
  kFromRank,   // from it: RankEnvelope
  kRankEnded,  // from it: RankEnd
  kEnd,        // to it, last: its ranks shall end, and no others are coming soon
  kPing,       // to it; a sign of life is due
  kPong,       // from it: RankList of those that a signal has stopped
};

struct HostJoin {
  std::string name;   // of the host
  int64_t agent = 0;  // process id
  std::string version;
};
struct RankProcess {
  int32_t rank = 0;
  int64_t pid = 0;
};
struct RankEnvelope {
  int32_t rank = 0;
  RankMessage message{};
  std::string_view payload;
};
struct RankEnd {
  int32_t rank = 0;
  std::string how;
  bool crashed = false;
};

struct RankList {
  std::vector<int32_t> ranks;
};

// kDataLoss unless the bytes are one whole message with values in range.
std::string encode(const HostJoin& join);
std::string encode(const RankProcess& process);
std::string encode(const RankEnvelope& envelope);
std::string encode(const RankEnd& end);
std::string encode(const RankList& list);
Result<HostJoin> decode_join(std::string_view bytes);
Result<RankProcess> decode_process(std::string_view bytes);
// The payload is part of `bytes`.
Result<RankEnvelope> decode_envelope(std::string_view bytes);
Result<RankEnd> decode_end(std::string_view bytes);
Result<RankList> decode_list(std::string_view bytes);

// One end of the connection between rank 0 and an agent.
class HostLink {
 public:
  explicit HostLink(tcp::SecureSocket socket) : socket_(std::move(socket)) {}

  // Waits while the peer does not take what was sent before. kUnavailable: it has gone, or has taken nothing for
  // kHostSendMax. Thread-safe.
  Status send(HostMessage message, std::string_view payload = {});
  // False where that would wait.
  bool try_send(HostMessage message, std::string_view payload = {});
  // Ends the connection in both directions, and every send(). Thread-safe.
  void hang_up();
  // Ends it in this direction, and waits until the peer has read all and does the same, at most that long.
  void finish(std::chrono::milliseconds limit);

  // What follows is one thread's. pollfd's descriptor and events.
  pollfd watch() const { return {.fd = socket_.fd(), .events = POLLIN, .revents = 0}; }
  struct Received {
    HostMessage message;
    std::string_view payload;  // until the next call
  };
  // The next message that has come, without waiting; empty if none has come whole.
  Result<std::optional<Received>> next();
  // Whether the stream has ended; next() has given everything.
  bool ended() const { return ended_; }

 private:
  Status write(std::string_view bytes);

  std::mutex send_mutex_;
  tcp::SecureSocket socket_;
  FrameSplitter splitter_;
  bool ended_ = false;
};

}  // namespace gantry
