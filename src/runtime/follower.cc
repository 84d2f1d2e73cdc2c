#include "runtime/follower.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/child_process.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "model/model.h"
#include "runtime/model_runner.h"
#include "runtime/rank_messages.h"
#include "runtime/rank_network.h"
#include "runtime/step_codec.h"

namespace gantry {
namespace {

// What rank 0 says, read on a thread of its own: signs of life are answered whatever the rank is at.
class Inbox {
 public:
  explicit Inbox(RankLink& link) : link_(link) {
    std::thread([this] { read(); }).detach();
  }

  // The next message, which is to be of this kind.
  Result<std::string> next(RankMessage kind) {
    std::unique_lock lock(mutex_);
    came_.wait(lock, [&] { return !messages_.empty(); });
    auto [message, payload] = std::move(messages_.front());
    messages_.pop_front();
    if (message != kind) return data_loss("rank 0 sent a message out of turn");
    return std::move(payload);
  }

 private:
  [[noreturn]] void read() {
    for (;;) {
      pollfd look{.fd = kParentSocket, .events = POLLIN, .revents = 0};
      poll(&look, 1, -1);
      const Result<bool> open = link_.receive();
      for (;;) {
        const auto received = link_.next();
        // Rank 0 ended, or what it says cannot be read.
        if (!received.ok()) std::_Exit(1);
        if (!*received) break;
        take(**received);
      }
      if (!open.ok() || !*open) std::_Exit(0);
    }
  }

  void take(const RankLink::Received& received) {
    if (received.message == RankMessage::kPing) {
      if (!link_.send(RankMessage::kPong).ok()) std::_Exit(0);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      messages_.emplace_back(received.message, std::string(received.payload));
    }
    came_.notify_one();
  }

  RankLink& link_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::pair<RankMessage, std::string>> messages_;  // as many as tickets in flight
};

class Follower {
 public:
  Follower(const OpenSource& open, RankLink& link) : open_(open), link_(link), inbox_(link) {}

  Status run() {
    GANTRY_RETURN_IF_ERROR(set_up());
    GANTRY_RETURN_IF_ERROR(join());
    GANTRY_RETURN_IF_ERROR(load());
    return follow();
  }
  // Whether an error came from a group: another rank is the cause.
  bool by_peer() const { return by_peer_; }

 private:
  Status set_up() {
    GANTRY_ASSIGN_OR_RETURN(const std::string payload, inbox_.next(RankMessage::kSetup));
    GANTRY_ASSIGN_OR_RETURN(setup_, decode_setup(payload));
    init_log(setup_.log_level);
    log::set_pattern(fmt::format("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ [rank {}] %v", setup_.rank),
                     spdlog::pattern_time_type::utc);
    RankNetwork::Memory memory;
    int inherited = kFirstInherited;
    if (has_stages_memory(setup_)) memory.stages = inherited++;
    if (has_stage_memory(setup_)) memory.stage = inherited++;
    GANTRY_ASSIGN_OR_RETURN(network_, RankNetwork::open(setup_, memory));
    return link_.send(RankMessage::kStarted, encode(network_->ports()));
  }

  Status join() {
    RankPeers peers;
    if (network_->listens()) {
      GANTRY_ASSIGN_OR_RETURN(const std::string payload, inbox_.next(RankMessage::kPeers));
      GANTRY_ASSIGN_OR_RETURN(peers, decode_peers(payload));
    }
    by_peer_ = true;
    GANTRY_RETURN_IF_ERROR(network_->join(peers));
    by_peer_ = false;
    return {};
  }

  Status load() {
    GANTRY_ASSIGN_OR_RETURN(backend_, backend_by_name(setup_.backend));
    pool_ = std::make_unique<ThreadPool>(setup_.threads);
    GANTRY_ASSIGN_OR_RETURN(const auto source, open_(setup_.model, setup_.load_format));
    GANTRY_ASSIGN_OR_RETURN(model_, load_model(*source, {.backend = backend_,
                                                         .pool = pool_.get(),
                                                         .compute = setup_.compute,
                                                         .kv_dtype = setup_.kv_dtype,
                                                         .rows_max = setup_.pass_rows_max,
                                                         .logit_rows_max = setup_.logit_rows_max,
                                                         .context_max = setup_.context_max,
                                                         .drafts = setup_.drafts > 0,
                                                         .on_progress = {},
                                                         .ranks = network_->groups()}));
    log::info("loaded {:.1f} MiB of weights",
              static_cast<double>(model_->resident_weight_bytes()) / (1 << 20));
    const RankLoaded loaded{KvStore::block_bytes(*backend_, model_->kv_layouts(), model_->kv_tail()),
                            this_process(setup_.rank)};
    return link_.send(RankMessage::kLoaded, encode(loaded));
  }

  Status follow() {
    GANTRY_ASSIGN_OR_RETURN(const std::string payload, inbox_.next(RankMessage::kBegin));
    GANTRY_ASSIGN_OR_RETURN(const RankBegin begin, decode_begin(payload));
    GANTRY_ASSIGN_OR_RETURN(
        const auto kv, KvStore::create(*backend_, model_->kv_layouts(), begin.kv_blocks, model_->kv_tail()));
    const int32_t sampling = setup_.sizes.ranks() - setup_.sizes.tensor;
    const bool samples = setup_.rank == sampling;
    const bool last_stage = setup_.rank >= sampling;
    ModelRunner runner(*model_, *kv, *pool_, nullptr,
                       {.slots = setup_.slots,
                        .rows_max = setup_.rows_max,
                        .logit_rows_max = setup_.logit_rows_max,
                        .context_max = begin.max_model_len,
                        .drafts = last_stage ? setup_.drafts : 0,
                        .samples = samples,
                        .tensor = last_stage ? network_->groups().tensor : nullptr});
    const PlanLimits limits{.slots = setup_.slots,
                            .rows = setup_.rows_max,
                            .logit_rows = setup_.logit_rows_max,
                            .context = begin.max_model_len,
                            .kv_blocks = begin.kv_blocks,
                            .vocab = model_->config().vocab,
                            .drafts = setup_.drafts};
    StepResult result;
    for (;;) {
      GANTRY_ASSIGN_OR_RETURN(const std::string bytes, inbox_.next(RankMessage::kPlan));
      GANTRY_ASSIGN_OR_RETURN(const StepPlan plan, decode_plan(bytes, limits));
      runner.submit(plan);
      if (!runner.status().ok()) {
        by_peer_ = true;
        return runner.status();
      }
      if (!samples) continue;
      GANTRY_RETURN_IF_ERROR(runner.collect(result));
      GANTRY_RETURN_IF_ERROR(link_.send(RankMessage::kResult, encode_result(result)));
    }
  }

  const OpenSource& open_;
  RankLink& link_;
  Inbox inbox_;
  bool by_peer_ = false;
  RankSetup setup_;
  std::unique_ptr<RankNetwork> network_;
  const Backend* backend_ = nullptr;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Model> model_;
};

}  // namespace

Status run_follower(pid_t parent, const OpenSource& open) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) return unavailable("the process that started this rank has ended");
  // A signal to the whole group, or by a service manager to every process, is rank 0's to act on.
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1}) std::signal(signal, SIG_IGN);
  fcntl(kParentSocket, F_SETFD, FD_CLOEXEC);
  RankLink link(kParentSocket);
  Follower follower(open, link);
  const Status status = follower.run();
  // Nothing is left to do if rank 0 has gone.
  (void)link.send(RankMessage::kFailed, encode(RankFailure{status, follower.by_peer()})).ok();
  return status;
}

}  // namespace gantry
