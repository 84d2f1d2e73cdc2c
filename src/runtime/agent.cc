#include "runtime/agent.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "base/log.h"
#include "runtime/group_limits.h"
#include "runtime/host_messages.h"
#include "runtime/local_host.h"

namespace gantry {
namespace {

using std::chrono::steady_clock;

std::string host_name() {
  std::array<char, limits::kHostNameBytesMax> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unnamed";
}

// One connection with rank 0: what it asks for, until either end is lost.
class Session final : public RankEvents {
 public:
  Session(const AgentOptions& options, tcp::SecureSocket socket)
      : options_(options), address_(tcp::local_endpoint(socket.fd()).host), link_(std::move(socket)) {}
  ~Session() override {
    if (local_ == nullptr) return;
    local_->abort("rank 0 has gone");
    local_->end(!said_goodbye_);
  }

  enum class End { kStopped, kRefused, kLost };
  struct Outcome {
    End end;
    Status why;
  };
  Outcome run() {
    const HostJoin join{.name = host_name(), .agent = getpid(), .version = options_.version};
    Status status = link_.send(HostMessage::kJoin, encode(join));
    std::vector<pollfd> looks;
    auto next_tick = steady_clock::now() + limits::kRankTick;
    while (status.ok()) {
      looks.assign(1, {.fd = options_.stop, .events = POLLIN, .revents = 0});
      looks.push_back(link_.watch());
      if (local_ != nullptr) local_->watch(looks);
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick - steady_clock::now());
      poll(looks.data(), looks.size(), static_cast<int>(std::max<int64_t>(0, left.count())));
      if (looks[0].revents != 0) return {End::kStopped, {}};
      // The ranks' news first: rank 0 learns why they ended although it ends itself.
      if (local_ != nullptr) status = local_->take(std::span(looks).subspan(2), *this);
      if (status.ok() && looks[1].revents != 0) status = read();
      if (refused_) return {End::kRefused, *refused_};
      if (status.ok() && steady_clock::now() >= next_tick) {
        next_tick = steady_clock::now() + limits::kRankTick;
        if (++silent_ticks_ > limits::kHostSilentTicksMax) {
          status = unavailable(fmt::format("it gave no sign of life for {} ms",
                                           (limits::kRankTick * limits::kHostSilentTicksMax).count()));
        }
      }
    }
    return {End::kLost, status};
  }
  bool said_goodbye() const { return said_goodbye_; }

 private:
  Status on_message(int32_t rank, RankMessage message, std::string_view payload) override {
    return link_.send(HostMessage::kFromRank, encode(RankEnvelope{rank, message, payload}));
  }
  Status on_end(int32_t rank, const std::string& how, bool crashed) override {
    log::warn("rank {} ({}) {}", rank, local_->place(rank), how);
    return link_.send(HostMessage::kRankEnded, encode(RankEnd{rank, how, crashed}));
  }

  Status read() {
    for (;;) {
      GANTRY_ASSIGN_OR_RETURN(const auto received, link_.next());
      if (!received) break;
      silent_ticks_ = 0;
      GANTRY_RETURN_IF_ERROR(take(*received));
    }
    return link_.ended() ? unavailable("it closed the connection") : Status();
  }

  Status take(const HostLink::Received& received) {
    switch (received.message) {
      case HostMessage::kPing:
        return pong();
      case HostMessage::kToRank: {
        GANTRY_ASSIGN_OR_RETURN(const RankEnvelope envelope, decode_envelope(received.payload));
        return pass(envelope);
      }
      case HostMessage::kStartRank: {
        GANTRY_ASSIGN_OR_RETURN(RankSetup setup, decode_setup(received.payload));
        return start(std::move(setup));
      }
      case HostMessage::kRefused:
        refused_ = invalid_argument(std::string(received.payload));
        return {};
      case HostMessage::kEnd:
        said_goodbye_ = true;
        return {};
      default:
        return data_loss("it sent what only an agent sends");
    }
  }

  Status pong() {
    RankList stopped;
    for (const int32_t rank : ranks_) {
      if (local_->is_stopped(rank)) stopped.ranks.push_back(rank);
    }
    return link_.send(HostMessage::kPong, encode(stopped));
  }

  Status pass(const RankEnvelope& envelope) {
    if (std::find(ranks_.begin(), ranks_.end(), envelope.rank) == ranks_.end()) {
      return data_loss(fmt::format("it speaks to rank {}, which is not here", envelope.rank));
    }
    if (envelope.message == RankMessage::kPing) {
      local_->try_send(envelope.rank, envelope.message);
      return {};
    }
    // A rank that is about to be seen to end is not rank 0's fault.
    if (const Status sent = local_->send(envelope.rank, envelope.message, envelope.payload); !sent.ok()) {
      log::warn("rank {} ({}): {}", envelope.rank, local_->place(envelope.rank), sent.message());
    }
    return {};
  }

  Status start(RankSetup setup) {
    if (std::find(ranks_.begin(), ranks_.end(), setup.rank) != ranks_.end()) {
      return data_loss(fmt::format("it starts rank {} twice", setup.rank));
    }
    if (local_ == nullptr) {
      GANTRY_ASSIGN_OR_RETURN(local_, LocalHost::create({.sizes = setup.sizes,
                                                         .memory_first = setup.memory_first,
                                                         .memory_ranks = setup.memory_ranks,
                                                         .address = address_,
                                                         .command = options_.command,
                                                         .send_limit = limits::kHostSendMax}));
      memory_ = {setup.memory_first, setup.memory_ranks};
    }
    if (setup.memory_ranks > 1 && memory_ != std::pair(setup.memory_first, setup.memory_ranks)) {
      return data_loss(fmt::format("it gives rank {} memory that it does not share", setup.rank));
    }
    if (!options_.model.empty()) setup.model = options_.model;
    setup.address = address_;
    if (const Status started = local_->start(setup); !started.ok()) {
      return link_.send(HostMessage::kRankEnded, encode(RankEnd{setup.rank, started.message(), true}));
    }
    ranks_.push_back(setup.rank);
    log::info("rank {} of {} is {}", setup.rank, setup.sizes.ranks(), local_->place(setup.rank));
    return link_.send(HostMessage::kRankRuns, encode(RankProcess{setup.rank, local_->pid(setup.rank)}));
  }

  const AgentOptions& options_;
  const std::string address_;  // of the interface that leads to rank 0
  HostLink link_;
  std::unique_ptr<LocalHost> local_;
  std::pair<int32_t, int32_t> memory_;
  std::vector<int32_t> ranks_;
  int silent_ticks_ = 0;
  bool said_goodbye_ = false;
  std::optional<Status> refused_;
};

class Agent {
 public:
  explicit Agent(const AgentOptions& options) : options_(options) {}

  Status run() {
    log::info("host {} looks for rank 0 at {}", options_.number, options_.rendezvous.text());
    auto end = steady_clock::now() + options_.wait;
    bool was_there = false;
    for (;;) {
      GANTRY_ASSIGN_OR_RETURN(std::optional<tcp::SecureSocket> socket, connect(end, was_there));
      if (!socket) return {};
      log::info("host {} is connected with rank 0", options_.number);
      was_there = true;
      std::chrono::seconds lease = options_.lease;
      {
        Session session(options_, std::move(*socket));
        const Session::Outcome outcome = session.run();
        if (outcome.end == Session::End::kStopped) return {};
        if (outcome.end == Session::End::kRefused) return outcome.why;
        if (session.said_goodbye()) lease = std::min(lease, limits::kAgentGoodbye);
        log::warn("rank 0 is lost: {}; the ranks here end, it has {} s to come back", outcome.why.message(),
                  lease.count());
      }
      end = steady_clock::now() + lease;
    }
  }

 private:
  // Empty: the agent shall end.
  Result<std::optional<tcp::SecureSocket>> connect(steady_clock::time_point end, bool was_there) {
    const tcp::Hello hello{
        .purpose = tcp::Purpose::kAgent, .from = static_cast<uint32_t>(options_.number), .to = 0};
    for (;;) {
      auto socket =
          tcp::connect_securely(options_.rendezvous, options_.secret, hello, limits::kAgentConnectMax);
      if (socket.ok()) return std::optional(std::move(*socket));
      if (socket.status().code() == StatusCode::kInvalidArgument) return socket.status();
      if (steady_clock::now() >= end) {
        if (!was_there) return socket.status().with_context("rank 0 did not come in time");
        log::info("the lease is over: {}", socket.status().message());
        return std::optional<tcp::SecureSocket>();
      }
      pollfd stop{.fd = options_.stop, .events = POLLIN, .revents = 0};
      if (poll(&stop, 1, static_cast<int>(limits::kAgentRetry.count())) == 1)
        return std::optional<tcp::SecureSocket>();
    }
  }

  const AgentOptions& options_;
};

}  // namespace

Status run_agent(const AgentOptions& options) { return Agent(options).run(); }

}  // namespace gantry
