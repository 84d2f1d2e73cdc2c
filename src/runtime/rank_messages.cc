#include "runtime/rank_messages.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/limits.h"
#include "protocol/wire_limits.h"
#include "runtime/byte_codec.h"

namespace gantry {
namespace {

template <typename Codec, typename T>
void fields(Codec& c, T& setup)
  requires requires { setup.load_format; }
{
  c(setup.model);
  c(setup.load_format);
  c(setup.backend);
  c(setup.log_level);
  c(setup.sizes.tensor);
  c(setup.sizes.pipeline);
  c(setup.sizes.expert_parallel);
  c(setup.rank);
  c(setup.threads);
  c(setup.compute);
  c(setup.kv_dtype);
  c(setup.rows_max);
  c(setup.pass_rows_max);
  c(setup.logit_rows_max);
  c(setup.context_max);
  c(setup.slots);
  c(setup.drafts);
  c(setup.memory_first);
  c(setup.memory_ranks);
  c(setup.address);
  c(setup.group_secret);
}

template <typename Codec, typename T>
void fields(Codec& c, T& started)
  requires requires { started.tensor_port; }
{
  c(started.tensor_port);
  c(started.all_port);
}

template <typename Codec, typename T>
void fields(Codec& c, T& peers)
  requires requires { peers.ranks; }
{
  c.list(peers.ranks, [](Codec& item, auto& peer) {
    item(peer.address);
    fields(item, peer.ports);
  });
}

template <typename T>
std::string encode_fields(const T& value) {
  ByteWriter writer;
  fields(writer, value);
  return writer.take();
}

Status cut_short(const char* what) {
  return data_loss(std::string("a rank's ") + what + " is no whole message");
}

}  // namespace

std::string encode(const RankSetup& setup) { return encode_fields(setup); }
std::string encode(const RankBegin& begin) { return write_all(begin.kv_blocks, begin.max_model_len); }
std::string encode(const RankStarted& started) { return encode_fields(started); }
std::string encode(const RankPeers& peers) { return encode_fields(peers); }

std::string encode(const RankLoaded& loaded) {
  return write_all(loaded.kv_block_bytes, loaded.process.host, loaded.process.pid);
}
std::string encode(const RankFailure& failure) {
  const Status& status = failure.status;
  return write_all(status.code(), status.message(), status.param(), failure.by_peer);
}

Result<RankSetup> decode_setup(std::string_view bytes) {
  ByteReader reader(bytes);
  RankSetup setup;
  fields(reader, setup);
  const bool fits =
      setup.sizes.tensor > 0 && setup.sizes.tensor <= limits::kModelHeadsMax && setup.sizes.pipeline > 0 &&
      setup.sizes.pipeline <= limits::kLayersMax && setup.rank >= 0 && setup.rank < setup.sizes.ranks() &&
      setup.threads > 0 && setup.compute <= Compute::kF8PowerOfTwo &&
      (setup.kv_dtype == DType::kF32 || setup.kv_dtype == DType::kF16 || setup.kv_dtype == DType::kBF16) &&
      setup.rows_max > 0 && setup.pass_rows_max >= setup.rows_max && setup.drafts >= 0 &&
      setup.drafts <= kDraftsMax && setup.logit_rows_max > 0 && setup.context_max > 0 && setup.slots > 0 &&
      setup.slots <= limits::kSequencesMax && setup.memory_ranks > 0 && setup.memory_first >= 0 &&
      setup.memory_first <= setup.rank && setup.memory_ranks <= setup.sizes.ranks() - setup.memory_first &&
      setup.rank - setup.memory_first < setup.memory_ranks &&
      (setup.memory_ranks == 1 ||
       (setup.memory_first % setup.sizes.tensor == 0 && setup.memory_ranks % setup.sizes.tensor == 0));
  if (!reader.done() || !fits) return cut_short("setup");
  return setup;
}

Result<RankStarted> decode_started(std::string_view bytes) {
  ByteReader reader(bytes);
  RankStarted started;
  fields(reader, started);
  if (!reader.done()) return cut_short("start");
  return started;
}

Result<RankPeers> decode_peers(std::string_view bytes) {
  ByteReader reader(bytes);
  RankPeers peers;
  fields(reader, peers);
  if (!reader.done()) return cut_short("table of ranks");
  return peers;
}

Result<RankLoaded> decode_loaded(std::string_view bytes) {
  RankLoaded loaded;
  ReplicaRank& process = loaded.process;
  if (!read_all(bytes, loaded.kv_block_bytes, process.host, process.pid) || process.pid <= 0 ||
      process.host.size() > limits::kReplicaNameBytesMax) {
    return cut_short("report of loading");
  }
  return loaded;
}

Result<RankBegin> decode_begin(std::string_view bytes) {
  RankBegin begin;
  if (!read_all(bytes, begin.kv_blocks, begin.max_model_len) || begin.kv_blocks <= 0 ||
      begin.max_model_len <= 0) {
    return cut_short("begin");
  }
  return begin;
}

Result<RankFailure> decode_failure(std::string_view bytes) {
  StatusCode code{};
  std::string message, param;
  RankFailure failure;
  if (!read_all(bytes, code, message, param, failure.by_peer) || code <= StatusCode::kOk ||
      code > StatusCode::kInternal) {
    return cut_short("failure");
  }
  failure.status = Status(code, std::move(message), std::move(param));
  return failure;
}

ReplicaRank this_process(int32_t rank) {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return {rank, name.data(), getpid()};
}

Status RankLink::send(RankMessage message, std::string_view payload) {
  std::string content(1, static_cast<char>(message));
  content += payload;
  std::string bytes;
  append_frame(content, bytes);
  const std::lock_guard lock(send_mutex_);
  return write(bytes);
}

bool RankLink::try_send(RankMessage message) {
  const std::unique_lock lock(send_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  pollfd look{.fd = socket_, .events = POLLOUT, .revents = 0};
  if (poll(&look, 1, 0) != 1 || (look.revents & POLLOUT) == 0) return false;
  std::string bytes;
  append_frame(std::string(1, static_cast<char>(message)), bytes);
  return write(bytes).ok();
}

Status RankLink::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return unavailable(std::string("a rank's socket: ") + std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return {};
}

Result<bool> RankLink::receive() {
  for (;;) {
    const std::span<char> space = splitter_.space();
    const ssize_t got = ::recv(socket_, space.data(), space.size(), MSG_DONTWAIT);
    if (got == 0) return false;
    if (got > 0) {
      splitter_.received(static_cast<size_t>(got));
      return true;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
    if (errno == ECONNRESET) return false;
    if (errno != EINTR) return unavailable(std::string("a rank's socket: ") + std::strerror(errno));
  }
}

Result<std::optional<RankLink::Received>> RankLink::next() {
  GANTRY_ASSIGN_OR_RETURN(const std::optional<std::string_view> frame, splitter_.next());
  if (!frame) return std::optional<Received>();
  if (frame->empty() || static_cast<uint8_t>(frame->front()) > static_cast<uint8_t>(RankMessage::kPeers)) {
    return data_loss("a rank sent a message of no known kind");
  }
  return std::optional(Received{static_cast<RankMessage>(frame->front()), frame->substr(1)});
}

}  // namespace gantry
