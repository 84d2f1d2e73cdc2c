#include "runtime/worker_group.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "comm/shm/shm_communicator.h"
#include "runtime/group_limits.h"
#include "runtime/step_codec.h"

namespace gantry {
namespace {

using std::chrono::steady_clock;

void wake(int fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);
}

}  // namespace

WorkerGroup::WorkerGroup(WorkerGroupOptions options) : options_(std::move(options)) {
  for (int32_t rank = 1; rank < sizes().ranks(); ++rank) followers_.push_back({.rank = rank});
}

Result<std::unique_ptr<WorkerGroup>> WorkerGroup::start(WorkerGroupOptions options) {
  GANTRY_CHECK(options.setup.sizes.ranks() > 1 && !options.command.empty());
  std::unique_ptr<WorkerGroup> group(new WorkerGroup(std::move(options)));
  GANTRY_ASSIGN_OR_RETURN(group->local_,
                          LocalHost::create({.sizes = group->sizes(), .command = group->options_.command}));
  for (Follower& follower : group->followers_) follower.host = group->local_.get();
  group->wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (group->wake_ < 0) return resource_exhausted("no descriptor is left for a group of ranks");
  group->watcher_ = std::thread([&watched = *group] { watched.watch(); });
  {
    std::unique_lock lock(group->mutex_);
    group->changed_.wait(lock, [&] {
      return !group->failed_.ok() || std::all_of(group->followers_.begin(), group->followers_.end(),
                                                 [](const Follower& f) { return f.started; });
    });
    GANTRY_RETURN_IF_ERROR(group->failed_);
  }
  if (const Status status = group->open_communicators(); !status.ok()) return group->cause(status);
  return group;
}

WorkerGroup::~WorkerGroup() {
  if (watcher_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake(wake_);
    watcher_.join();
  }
  if (wake_ >= 0) close(wake_);
}

Status WorkerGroup::open_communicators() {
  const auto open = [](const shm::Segment* segment, std::unique_ptr<Communicator>& out) -> Status {
    if (segment == nullptr) return {};
    GANTRY_ASSIGN_OR_RETURN(out, open_shm_communicator(segment->fd(), 0, {.deadline = limits::kRankWaitMax}));
    return {};
  };
  GANTRY_RETURN_IF_ERROR(open(local_->all_segment(), all_));
  return open(local_->tensor_segment(0), tensor_);
}

RankGroups WorkerGroup::ranks() const {
  return {.sizes = sizes(), .rank = 0, .tensor = tensor_.get(), .all = all_.get()};
}

Result<uint64_t> WorkerGroup::wait_loaded() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return !failed_.ok() ||
           std::all_of(followers_.begin(), followers_.end(), [](const Follower& f) { return f.loaded; });
  });
  GANTRY_RETURN_IF_ERROR(failed_);
  uint64_t most = 0;
  for (const Follower& follower : followers_) most = std::max(most, follower.kv_block_bytes);
  return most;
}

Status WorkerGroup::begin(const RankBegin& begin) {
  for (const Follower& follower : followers_) {
    const Status sent = follower.host->send(follower.rank, RankMessage::kBegin, encode(begin));
    if (!sent.ok()) return cause(sent);
  }
  return {};
}

Status WorkerGroup::send(const StepPlan& plan) {
  const int32_t sampling = sizes().ranks() - sizes().tensor;
  const std::string rows = encode_plan(plan, false);
  for (const Follower& follower : followers_) {
    const Status sent = follower.host->send(follower.rank, RankMessage::kPlan,
                                            follower.rank == sampling ? encode_plan(plan, true) : rows);
    if (!sent.ok()) return cause(sent);
  }
  return {};
}

Status WorkerGroup::receive(StepResult& result) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !failed_.ok() || !results_.empty(); });
  if (results_.empty()) return failed_;
  result = std::move(results_.front());
  results_.pop_front();
  return {};
}

Status WorkerGroup::cause(const Status& own) {
  std::unique_lock lock(mutex_);
  // A rank that is gone is seen by the watcher about as soon as by this one.
  changed_.wait_for(lock, 2 * limits::kRankSuspicion, [&] { return !failed_.ok(); });
  if (failed_.ok()) {
    lock.unlock();
    fail(own);
    lock.lock();
  }
  return failed_;
}

void WorkerGroup::watch() {
  if (const Status status = spawn(); !status.ok()) {
    fail(status);
  } else {
    listen();
  }
  end_followers();
}

Status WorkerGroup::spawn() {
  for (const Follower& follower : followers_) {
    RankSetup setup = options_.setup;
    setup.rank = follower.rank;
    GANTRY_RETURN_IF_ERROR(follower.host->start(setup));
    log::info("rank {} of {} is {}", follower.rank, sizes().ranks(), follower.host->place(follower.rank));
  }
  return {};
}

void WorkerGroup::listen() {
  std::vector<pollfd> looks;
  auto next_tick = steady_clock::now() + limits::kRankTick;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stop_ || !failed_.ok()) return;
    }
    looks.assign(1, {.fd = wake_, .events = POLLIN, .revents = 0});
    local_->watch(looks);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick - steady_clock::now());
    poll(looks.data(), looks.size(), static_cast<int>(std::max<int64_t>(0, left.count())));
    if (const Status status = local_->take(std::span(looks).subspan(1), *this); !status.ok()) {
      return fail(status);
    }
    if (steady_clock::now() >= next_tick) {
      next_tick = steady_clock::now() + limits::kRankTick;
      if (const Status status = tick(); !status.ok()) return fail(status);
    }
  }
}

Status WorkerGroup::tick() {
  for (Follower& follower : followers_) {
    if (follower.gone) continue;
    const int ticks_max = follower.started ? limits::kRankSilentTicksMax : limits::kRankStartTicksMax;
    if (++follower.silent_ticks > ticks_max) {
      return Status(StatusCode::kDeadlineExceeded,
                    fmt::format("{} gave no sign of life for {} ms", name(follower),
                                (limits::kRankTick * ticks_max).count()));
    }
    if (follower.silent_ticks > limits::kRankStoppedTicksMax && follower.host->is_stopped(follower.rank)) {
      return Status(StatusCode::kDeadlineExceeded,
                    fmt::format("{} is stopped, and gave no sign of life for {} ms", name(follower),
                                (limits::kRankTick * limits::kRankStoppedTicksMax).count()));
    }
    if (follower.started) follower.host->try_send(follower.rank, RankMessage::kPing);
  }
  const std::lock_guard lock(mutex_);
  return steady_clock::now() < suspected_at_ + limits::kRankSuspicion ? Status() : suspected_;
}

Status WorkerGroup::on_message(int32_t rank, RankMessage message, std::string_view payload) {
  Follower& from = follower(rank);
  from.silent_ticks = 0;
  switch (message) {
    case RankMessage::kStarted: {
      const std::lock_guard lock(mutex_);
      from.started = true;
      break;
    }
    case RankMessage::kLoaded: {
      GANTRY_ASSIGN_OR_RETURN(const RankLoaded loaded, decode_loaded(payload));
      const std::lock_guard lock(mutex_);
      from.kv_block_bytes = loaded.kv_block_bytes;
      from.loaded = true;
      break;
    }
    case RankMessage::kResult: {
      auto result = decode_result(payload);
      if (!result.ok()) return result.status().with_context(name(from));
      const std::lock_guard lock(mutex_);
      results_.push_back(std::move(*result));
      break;
    }
    case RankMessage::kFailed: {
      GANTRY_ASSIGN_OR_RETURN(const RankFailure failure, decode_failure(payload));
      const Status status = failure.status.with_context(name(from));
      if (!failure.by_peer) return status;
      from.gone = true;
      const std::lock_guard lock(mutex_);
      if (suspected_.ok()) {
        suspected_ = status;
        suspected_at_ = steady_clock::now();
      }
      break;
    }
    case RankMessage::kPong:
      return {};
    default:
      return data_loss(name(from) + " sent what only rank 0 sends");
  }
  changed_.notify_all();
  return {};
}

Status WorkerGroup::on_end(int32_t rank, const std::string& how) {
  const Follower& ended = follower(rank);
  return ended.gone ? Status() : unavailable(name(ended) + " " + how);
}

void WorkerGroup::fail(const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_.ok()) failed_ = status;
  }
  local_->abort(status.message());
  changed_.notify_all();
  wake(wake_);
}

void WorkerGroup::end_followers() {
  bool at_once = false;
  {
    const std::lock_guard lock(mutex_);
    at_once = !failed_.ok();
  }
  local_->end(at_once);
}

std::string WorkerGroup::name(const Follower& follower) const {
  return fmt::format("rank {} of {} ({})", follower.rank, sizes().ranks(),
                     follower.host->place(follower.rank));
}

GroupExecutor::GroupExecutor(WorkerGroup& group, ModelRunner& runner, bool end_process)
    : group_(group), runner_(runner), end_process_(end_process) {
  if (group.setup().drafts > 0) draft_ids_.emplace(group.setup().slots);
}

void GroupExecutor::submit(const StepPlan& given) {
  if (!failed_.ok()) return;
  const StepPlan& plan = draft_ids_ ? draft_ids_->name_ids(given) : given;
  failed_ = group_.send(plan);
  if (!failed_.ok()) return;
  runner_.submit(plan);
  if (!runner_.status().ok()) failed_ = group_.cause(runner_.status());
}

Status GroupExecutor::collect(StepResult& result) {
  if (failed_.ok()) failed_ = group_.sizes().pipeline == 1 ? runner_.collect(result) : group_.receive(result);
  if (failed_.ok() && draft_ids_) draft_ids_->take(result);
  if (!failed_.ok() && end_process_) {
    log::error("{}", failed_.message());
    std::_Exit(1);  // the other ranks end with it
  }
  return failed_;
}

}  // namespace gantry
