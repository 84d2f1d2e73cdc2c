#include "runtime/worker_group.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
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

Result<std::unique_ptr<WorkerGroup>> WorkerGroup::start(WorkerGroupOptions options) {
  GANTRY_CHECK(options.setup.sizes.ranks() > 1 && !options.command.empty());
  std::unique_ptr<WorkerGroup> group(new WorkerGroup(std::move(options)));
  GANTRY_RETURN_IF_ERROR(group->open_segments());
  group->wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (group->wake_ < 0) return resource_exhausted("no descriptor is left for a group of ranks");
  group->watcher_ = std::thread([&watched = *group] { watched.watch(); });
  {
    std::unique_lock lock(group->mutex_);
    group->changed_.wait(lock, [&] {
      return !group->failed_.ok() ||
             (!group->followers_.empty() && std::all_of(group->followers_.begin(), group->followers_.end(),
                                                        [](const auto& f) { return f->started; }));
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

Status WorkerGroup::open_segments() {
  const ParallelSizes& sizes = options_.setup.sizes;
  if (sizes.pipeline > 1) {
    GANTRY_ASSIGN_OR_RETURN(all_segment_, shm::Segment::create(sizes.ranks()));
  }
  for (int32_t stage = 0; sizes.tensor > 1 && stage < sizes.pipeline; ++stage) {
    GANTRY_ASSIGN_OR_RETURN(auto segment, shm::Segment::create(sizes.tensor));
    tensor_segments_.push_back(std::move(segment));
  }
  return {};
}

Status WorkerGroup::open_communicators() {
  if (all_segment_ != nullptr) {
    GANTRY_ASSIGN_OR_RETURN(all_,
                            open_shm_communicator(all_segment_->fd(), 0, {.deadline = limits::kRankWaitMax}));
  }
  if (!tensor_segments_.empty()) {
    GANTRY_ASSIGN_OR_RETURN(
        tensor_, open_shm_communicator(tensor_segments_[0]->fd(), 0, {.deadline = limits::kRankWaitMax}));
  }
  return {};
}

RankGroups WorkerGroup::ranks() const {
  return {.sizes = sizes(), .rank = 0, .tensor = tensor_.get(), .all = all_.get()};
}

Result<uint64_t> WorkerGroup::wait_loaded() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return !failed_.ok() ||
           std::all_of(followers_.begin(), followers_.end(), [](const auto& f) { return f->loaded; });
  });
  GANTRY_RETURN_IF_ERROR(failed_);
  uint64_t most = 0;
  for (const auto& follower : followers_) most = std::max(most, follower->kv_block_bytes);
  return most;
}

Status WorkerGroup::begin(const RankBegin& begin) {
  for (const auto& follower : followers_) {
    if (const Status sent = follower->link->send(RankMessage::kBegin, encode(begin)); !sent.ok())
      return cause(sent);
  }
  return {};
}

Status WorkerGroup::send(const StepPlan& plan) {
  const int32_t sampling = sizes().ranks() - sizes().tensor;
  const std::string rows = encode_plan(plan, false);
  for (const auto& follower : followers_) {
    const Status sent = follower->rank == sampling
                            ? follower->link->send(RankMessage::kPlan, encode_plan(plan, true))
                            : follower->link->send(RankMessage::kPlan, rows);
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
  const ParallelSizes& sizes = options_.setup.sizes;
  std::vector<std::unique_ptr<Follower>> followers;
  for (int32_t rank = 1; rank < sizes.ranks(); ++rank) {
    std::vector<int> inherited;
    if (all_segment_ != nullptr) inherited.push_back(all_segment_->fd());
    if (!tensor_segments_.empty()) {
      inherited.push_back(tensor_segments_[static_cast<size_t>(rank / sizes.tensor)]->fd());
    }
    auto follower = std::make_unique<Follower>();
    follower->rank = rank;
    GANTRY_ASSIGN_OR_RETURN(follower->process, ChildProcess::start(options_.command, inherited));
    follower->link = std::make_unique<RankLink>(follower->process->socket());
    RankSetup setup = options_.setup;
    setup.rank = rank;
    GANTRY_RETURN_IF_ERROR(follower->link->send(RankMessage::kSetup, encode(setup)));
    log::info("rank {} of {} is process {}", rank, sizes.ranks(), follower->process->pid());
    followers.push_back(std::move(follower));
  }
  const std::lock_guard lock(mutex_);
  followers_ = std::move(followers);
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
    for (const auto& follower : followers_) {
      const ChildProcess& process = *follower->process;
      looks.push_back({.fd = follower->gone ? -1 : process.socket(), .events = POLLIN, .revents = 0});
      looks.push_back({.fd = follower->gone ? -1 : process.pidfd(), .events = POLLIN, .revents = 0});
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick - steady_clock::now());
    poll(looks.data(), looks.size(), static_cast<int>(std::max<int64_t>(0, left.count())));
    for (size_t i = 0; i < followers_.size(); ++i) {
      Follower& follower = *followers_[i];
      Status status;
      if (looks[1 + 2 * i].revents != 0) status = read(follower);
      if (status.ok() && !follower.gone && looks[2 + 2 * i].revents != 0) status = ended(follower);
      if (!status.ok()) return fail(status);
    }
    if (steady_clock::now() >= next_tick) {
      next_tick = steady_clock::now() + limits::kRankTick;
      if (const Status status = tick(); !status.ok()) return fail(status);
    }
  }
}

Status WorkerGroup::tick() {
  for (const auto& follower : followers_) {
    if (follower->gone) continue;
    const int ticks_max = follower->started ? limits::kRankSilentTicksMax : limits::kRankStartTicksMax;
    if (++follower->silent_ticks > ticks_max) {
      return Status(StatusCode::kDeadlineExceeded,
                    fmt::format("{} gave no sign of life for {} ms", name(*follower),
                                (limits::kRankTick * ticks_max).count()));
    }
    if (follower->started) follower->link->try_send(RankMessage::kPing);
  }
  const std::lock_guard lock(mutex_);
  return steady_clock::now() < suspected_at_ + limits::kRankSuspicion ? Status() : suspected_;
}

Status WorkerGroup::read(Follower& follower) {
  GANTRY_ASSIGN_OR_RETURN(const bool open, follower.link->receive());
  for (;;) {
    auto received = follower.link->next();
    if (!received.ok()) return received.status().with_context(name(follower));
    if (!*received) break;
    follower.silent_ticks = 0;
    GANTRY_RETURN_IF_ERROR(take(follower, **received));
  }
  return open ? Status() : ended(follower);
}

Status WorkerGroup::take(Follower& follower, const RankLink::Received& received) {
  switch (received.message) {
    case RankMessage::kStarted: {
      const std::lock_guard lock(mutex_);
      follower.started = true;
      break;
    }
    case RankMessage::kLoaded: {
      GANTRY_ASSIGN_OR_RETURN(const RankLoaded loaded, decode_loaded(received.payload));
      const std::lock_guard lock(mutex_);
      follower.kv_block_bytes = loaded.kv_block_bytes;
      follower.loaded = true;
      break;
    }
    case RankMessage::kResult: {
      auto result = decode_result(received.payload);
      if (!result.ok()) return result.status().with_context(name(follower));
      const std::lock_guard lock(mutex_);
      results_.push_back(std::move(*result));
      break;
    }
    case RankMessage::kFailed: {
      GANTRY_ASSIGN_OR_RETURN(const RankFailure failure, decode_failure(received.payload));
      const Status status = failure.status.with_context(name(follower));
      if (!failure.by_peer) return status;
      follower.gone = true;
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
      return data_loss(name(follower) + " sent what only rank 0 sends");
  }
  changed_.notify_all();
  return {};
}

// Its last words, if there are any, have been read when this is called for its socket; a process may be seen to end
// before its socket is.
Status WorkerGroup::ended(Follower& follower) {
  for (Result<bool> open = true; open.ok() && *open;) {
    pollfd look{.fd = follower.process->socket(), .events = POLLIN, .revents = 0};
    if (poll(&look, 1, 0) != 1) break;
    open = follower.link->receive();
    for (auto received = follower.link->next(); received.ok() && *received;
         received = follower.link->next()) {
      GANTRY_RETURN_IF_ERROR(take(follower, **received));
    }
  }
  if (follower.gone) return {};
  pollfd end{.fd = follower.process->pidfd(), .events = POLLIN, .revents = 0};
  poll(&end, 1, static_cast<int>(limits::kRankExitMax.count()));
  const std::optional<ChildProcess::End>& ended = follower.process->end();
  return unavailable(name(follower) + (ended ? " " + ended->how : " closed its socket"));
}

void WorkerGroup::fail(const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_.ok()) failed_ = status;
  }
  if (all_segment_ != nullptr) abort_group(*all_segment_, status.message());
  for (const auto& segment : tensor_segments_) abort_group(*segment, status.message());
  changed_.notify_all();
  wake(wake_);
}

void WorkerGroup::end_followers() {
  bool at_once = false;
  {
    const std::lock_guard lock(mutex_);
    at_once = !failed_.ok();
  }
  for (const auto& follower : followers_) {
    shutdown(follower->process->socket(), SHUT_RDWR);
    if (at_once) follower->process->kill();
  }
  for (const auto& follower : followers_) {
    pollfd end{.fd = follower->process->pidfd(), .events = POLLIN, .revents = 0};
    if (poll(&end, 1, static_cast<int>(limits::kRankExitMax.count())) == 0) follower->process->kill();
    (void)follower->process->end();  // leaves no zombie
  }
}

std::string WorkerGroup::name(const Follower& follower) const {
  return fmt::format("rank {} of {} (process {})", follower.rank, sizes().ranks(), follower.process->pid());
}

void GroupExecutor::submit(const StepPlan& plan) {
  if (!failed_.ok()) return;
  failed_ = group_.send(plan);
  if (!failed_.ok()) return;
  runner_.submit(plan);
  if (!runner_.status().ok()) failed_ = group_.cause(runner_.status());
}

Status GroupExecutor::collect(StepResult& result) {
  if (failed_.ok()) failed_ = group_.sizes().pipeline == 1 ? runner_.collect(result) : group_.receive(result);
  if (!failed_.ok() && end_process_) {
    log::error("{}", failed_.message());
    std::_Exit(1);  // the other ranks end with it
  }
  return failed_;
}

}  // namespace gantry
