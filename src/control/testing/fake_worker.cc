// A worker without a model, for remote_replica_test: `fake_worker BEHAVIOUR [FILE]`. It answers a request with max_tokens
// tokens that count up from the prompt's first id, unless that id asks for something else.
#include "control/testing/fake_worker.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <variant>

#include "base/child_process.h"
#include "protocol/frame_stream.h"
#include "protocol/replica_codec.h"

namespace gantry {
namespace {

void send_message(const FromReplica& message) {
  std::string out;
  append_frame(encode(message), out);
  for (size_t sent = 0; sent < out.size();) {
    const ssize_t n = send(kParentSocket, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
    if (n < 0) std::exit(0);
    sent += static_cast<size_t>(n);
  }
}

void answer(const GenerateRequest& request, ReplicaStats& stats) {
  send_message(StartedRequests{{request.id}});
  const TokenId first = request.prompt.front();
  if (first == fake_worker::kAbort) std::abort();
  if (first == fake_worker::kStop) raise(SIGSTOP);
  while (first == fake_worker::kSilent) pause();
  if (first == fake_worker::kSlowStep) stats.step_running_ns = int64_t{3600} * 1'000'000'000;
  if (first == fake_worker::kRefuse) {
    return send_message(
        RefusedRequest{request.id, request.epoch, invalid_argument("not this one", "prompt")});
  }
  StepFrame frame;
  for (int32_t i = 0; i < request.params.max_tokens; ++i) {
    TokenEvent event;
    event.request = request.id;
    event.epoch = request.epoch;
    event.index = i;
    event.token = first == fake_worker::kBadToken ? 5000 : first + i;
    if (i + 1 == request.params.max_tokens && first != fake_worker::kNoEnd)
      event.finish = FinishReason::kLength;
    frame.tokens.push_back(std::move(event));
  }
  stats.generated_tokens += request.params.max_tokens;
  send_message(std::move(frame));
}

int serve() {
  ReplicaStats stats;
  stats.kv_blocks_total = 8;
  send_message(ReplicaInfo{"fake", 512, fake_worker::kVocab, {{0, "host", getpid()}}});
  FrameSplitter splitter;
  for (;;) {
    send_message(stats);
    pollfd socket{kParentSocket, POLLIN, 0};
    if (poll(&socket, 1, 50) == 0) continue;
    const std::span<char> space = splitter.space();
    const ssize_t got = recv(kParentSocket, space.data(), space.size(), 0);
    if (got <= 0) return 0;
    splitter.received(static_cast<size_t>(got));
    for (;;) {
      const auto payload = splitter.next();
      if (!payload.ok()) return 1;
      if (!payload->has_value()) break;
      const auto message = decode_to_replica(**payload);
      if (!message.ok()) return 1;
      if (const auto* request = std::get_if<GenerateRequest>(&*message)) answer(*request, stats);
    }
  }
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  using namespace gantry;  // NOLINT(google-build-using-namespace): a test's program
  const std::string behaviour = argc > 1 ? argv[1] : "";
  if (behaviour == "refuse") {
    send_message(ReplicaFailed{not_found("no such model")});
    return 1;
  }
  if (behaviour == "die") return 3;
  if (behaviour == "die once") {
    if (access(argv[2], F_OK) != 0) {
      if (std::FILE* file = std::fopen(argv[2], "w")) std::fclose(file);
      std::abort();
    }
  }
  if (behaviour == "serve once") {
    if (access(argv[2], F_OK) == 0) return 3;
    if (std::FILE* file = std::fopen(argv[2], "w")) std::fclose(file);
  }
  if (behaviour == "load") {
    send_message(ReplicaLoading{1, 2});
    send_message(ReplicaLoading{2, 2});
  }
  return serve();
}
