#include "runtime/host_messages.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "runtime/byte_codec.h"
#include "runtime/group_limits.h"

namespace gantry {
namespace {

Status cut_short(const char* what) {
  return data_loss(std::string("a host's ") + what + " is no whole message");
}

std::string framed(HostMessage message, std::string_view payload) {
  std::string content(1, static_cast<char>(message));
  content += payload;
  std::string bytes;
  append_frame(content, bytes);
  return bytes;
}

}  // namespace

std::string encode(const HostJoin& join) { return write_all(join.name, join.agent, join.version); }
std::string encode(const RankProcess& process) { return write_all(process.rank, process.pid); }
std::string encode(const RankEnd& end) { return write_all(end.rank, end.how, end.crashed); }
std::string encode(const RankEnvelope& envelope) {
  return write_all(envelope.rank, envelope.message).append(envelope.payload);
}

std::string encode(const RankList& list) {
  ByteWriter writer;
  numbers(writer, list.ranks);
  return writer.take();
}

Result<RankList> decode_list(std::string_view bytes) {
  ByteReader reader(bytes);
  RankList list;
  numbers(reader, list.ranks);
  if (!reader.done()) return cut_short("list of ranks");
  return list;
}

Result<HostJoin> decode_join(std::string_view bytes) {
  HostJoin join;
  if (!read_all(bytes, join.name, join.agent, join.version) || join.name.size() > limits::kHostNameBytesMax) {
    return cut_short("join");
  }
  return join;
}

Result<RankProcess> decode_process(std::string_view bytes) {
  RankProcess process;
  if (!read_all(bytes, process.rank, process.pid)) return cut_short("report of a start");
  return process;
}

Result<RankEnvelope> decode_envelope(std::string_view bytes) {
  constexpr size_t kHeadBytes = sizeof(int32_t) + sizeof(RankMessage);
  RankEnvelope envelope;
  if (!read_all(bytes.substr(0, kHeadBytes), envelope.rank, envelope.message) ||
      envelope.message > RankMessage::kPeers) {
    return cut_short("envelope");
  }
  envelope.payload = bytes.substr(kHeadBytes);
  return envelope;
}

Result<RankEnd> decode_end(std::string_view bytes) {
  RankEnd end;
  if (!read_all(bytes, end.rank, end.how, end.crashed)) return cut_short("report of an end");
  return end;
}

Status HostLink::send(HostMessage message, std::string_view payload) {
  const std::string bytes = framed(message, payload);
  const std::lock_guard lock(send_mutex_);
  return write(bytes);
}

bool HostLink::try_send(HostMessage message, std::string_view payload) {
  const std::unique_lock lock(send_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || !socket_.flush().ok() || socket_.unsent() > 0) return false;
  const std::string bytes = framed(message, payload);
  return socket_.send(tcp::RecordKind::kData, std::as_bytes(std::span(bytes))).ok();
}

Status HostLink::write(std::string_view bytes) {
  GANTRY_RETURN_IF_ERROR(socket_.send(tcp::RecordKind::kData, std::as_bytes(std::span(bytes))));
  while (socket_.unsent() > 0) {
    pollfd look{.fd = socket_.fd(), .events = POLLOUT, .revents = 0};
    if (poll(&look, 1, static_cast<int>(limits::kHostSendMax.count())) == 0) {
      return unavailable("the other host takes nothing");
    }
    GANTRY_RETURN_IF_ERROR(socket_.flush());
  }
  return {};
}

void HostLink::hang_up() { shutdown(socket_.fd(), SHUT_RDWR); }

void HostLink::finish(std::chrono::milliseconds limit) {
  shutdown(socket_.fd(), SHUT_WR);
  const int64_t end_ns = monotonic_ns() + std::chrono::nanoseconds(limit).count();
  while (!ended_ && monotonic_ns() < end_ns) {
    pollfd look = watch();
    poll(&look, 1, static_cast<int>((end_ns - monotonic_ns()) / 1'000'000 + 1));
    if (!next().ok()) return;
  }
}

Result<std::optional<HostLink::Received>> HostLink::next() {
  for (;;) {
    GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string_view> frame, splitter_.next());
    if (frame) {
      if (frame->empty() || static_cast<uint8_t>(frame->front()) > static_cast<uint8_t>(HostMessage::kPong)) {
        return data_loss("a host sent a message of no known kind");
      }
      return std::optional(Received{static_cast<HostMessage>(frame->front()), frame->substr(1)});
    }
    GANTRY_ASSIGN_OR_RETURN(const auto record, socket_.next());
    if (!record) {
      const auto got = ended_ ? tcp::SecureSocket::Got::kEnd : socket_.receive();
      ended_ = got == tcp::SecureSocket::Got::kEnd;
      if (got != tcp::SecureSocket::Got::kBytes) return std::optional<Received>();
      continue;
    }
    if (record->kind != tcp::RecordKind::kData) return data_loss("a host sent a record of no known kind");
    std::string_view data = record->data;
    while (!data.empty()) {
      const std::span<char> space = splitter_.space();
      const std::string_view part = data.substr(0, space.size());
      std::memcpy(space.data(), part.data(), part.size());
      splitter_.received(part.size());
      data.remove_prefix(part.size());
    }
  }
}

}  // namespace gantry
