#include "runtime/worker_group.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/check.h"
#include "base/child_process.h"
#include "base/log.h"
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
  GANTRY_CHECK(options.setup.sizes.ranks() > 1 && !options.command.empty() &&
               options.setup.sizes.pipeline % options.hosts.count == 0);
  std::unique_ptr<WorkerGroup> group(new WorkerGroup(std::move(options)));
  GANTRY_RETURN_IF_ERROR(group->open());
  group->watcher_ = std::thread([&watched = *group] { watched.watch(); });
  GANTRY_RETURN_IF_ERROR(group->join());
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

Status WorkerGroup::open() {
  const GroupHosts& hosts = options_.hosts;
  setup_ = options_.setup;
  // Ranks without memory in common have an address, and a secret that only this group has.
  setup_.memory_ranks = hosts.memory ? ranks_per_host() : 1;
  if (setup_.memory_ranks < sizes().ranks()) {
    setup_.address = hosts.rendezvous.host;
    setup_.group_secret = tcp::Secret::random().bytes();
  }
  if (hosts.count > 1) {
    GANTRY_CHECK(hosts.secret.has_value());
    GANTRY_ASSIGN_OR_RETURN(acceptor_, tcp::Acceptor::listen({.at = hosts.rendezvous}, *hosts.secret));
    setup_.address = acceptor_->endpoint().host;
    log::info("waiting at {} for {} more hosts", acceptor_->endpoint().text(), hosts.count - 1);
  }
  remotes_.resize(static_cast<size_t>(hosts.count) - 1);
  GANTRY_ASSIGN_OR_RETURN(local_, LocalHost::create({.sizes = sizes(),
                                                     .memory_ranks = setup_.memory_ranks,
                                                     .address = setup_.address,
                                                     .command = options_.command}));
  GANTRY_ASSIGN_OR_RETURN(network_, RankNetwork::open(setup_, local_->memory(0)));
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return wake_ < 0 ? resource_exhausted("no descriptor is left for a group of ranks") : Status();
}

Status WorkerGroup::join() {
  RankPeers peers{.ranks = {{.address = setup_.address, .ports = network_->ports()}}};
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return !failed_.ok() ||
             std::all_of(followers_.begin(), followers_.end(), [](const Follower& f) { return f.started; });
    });
    GANTRY_RETURN_IF_ERROR(failed_);
    for (const Follower& follower : followers_) {
      peers.ranks.push_back({.address = follower.host->address(), .ports = follower.ports});
    }
  }
  log::info("the ranks run, {}", since_start());
  for (const Follower& follower : followers_) {
    if (follower.ports.tensor_port == 0 && follower.ports.all_port == 0) continue;
    const Status sent = follower.host->send(follower.rank, RankMessage::kPeers, encode(peers));
    if (!sent.ok()) return cause(sent);
  }
  if (const Status joined = network_->join(peers); !joined.ok()) return cause(joined);
  log::info("the ranks are connected, {}", since_start());
  return {};
}

RankSetup WorkerGroup::setup_of(int32_t rank) const {
  RankSetup setup = setup_;
  setup.rank = rank;
  setup.memory_first = options_.hosts.memory ? rank / ranks_per_host() * ranks_per_host() : rank;
  return setup;
}

std::string WorkerGroup::since_start() const {
  const std::chrono::duration<double> passed = steady_clock::now() - started_at_;
  return fmt::format("{:.2f} s after the start of the group", passed.count());
}

RankGroups WorkerGroup::ranks() const { return network_->groups(); }

Result<uint64_t> WorkerGroup::wait_loaded() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return !failed_.ok() ||
           std::all_of(followers_.begin(), followers_.end(), [](const Follower& f) { return f.loaded; });
  });
  GANTRY_RETURN_IF_ERROR(failed_);
  log::info("the ranks have loaded, {}", since_start());
  uint64_t most = 0;
  for (const Follower& follower : followers_) most = std::max(most, follower.kv_block_bytes);
  return most;
}

std::vector<ReplicaRank> WorkerGroup::processes() {
  std::vector<ReplicaRank> all{this_process(0)};
  const std::lock_guard lock(mutex_);
  for (const Follower& follower : followers_) all.push_back(follower.process);
  return all;
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
  if (const Status status = spawn(0); !status.ok()) {
    fail(status);
  } else {
    listen();
  }
  end_followers();
}

Status WorkerGroup::spawn(int32_t host) {
  RankHost* const on =
      host == 0 ? static_cast<RankHost*>(local_.get()) : remotes_[static_cast<size_t>(host) - 1].get();
  for (Follower& follower : followers_) {
    if (follower.rank / ranks_per_host() != host) continue;
    GANTRY_RETURN_IF_ERROR(on->start(setup_of(follower.rank)));
    follower.host = on;
    if (host == 0) log::info("rank {} of {} is {}", follower.rank, sizes().ranks(), on->place(follower.rank));
  }
  return {};
}

void WorkerGroup::listen() {
  std::vector<pollfd> looks;
  std::vector<std::pair<RankHost*, size_t>> hosts;  // with the first of its entries
  auto next_tick = steady_clock::now() + limits::kRankTick;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stop_ || !failed_.ok()) return;
    }
    looks.assign(1, {.fd = wake_, .events = POLLIN, .revents = 0});
    hosts.assign(1, {local_.get(), looks.size()});
    local_->watch(looks);
    for (const auto& remote : remotes_) {
      if (remote == nullptr) continue;
      hosts.emplace_back(remote.get(), looks.size());
      remote->watch(looks);
    }
    const size_t acceptor_at = looks.size();
    if (acceptor_ != nullptr) acceptor_->watch(looks);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick - steady_clock::now());
    poll(looks.data(), looks.size(), static_cast<int>(std::max<int64_t>(0, left.count())));
    Status status;
    for (const auto& [host, at] : hosts) {
      if (status.ok()) status = host->take(std::span(looks).subspan(at), *this);
    }
    if (status.ok() && acceptor_ != nullptr) status = take_hosts(std::span(looks).subspan(acceptor_at));
    if (status.ok() && steady_clock::now() >= next_tick) {
      next_tick = steady_clock::now() + limits::kRankTick;
      status = tick();
    }
    if (!status.ok()) return fail(status);
  }
}

Status WorkerGroup::take_hosts(std::span<const pollfd> looks) {
  std::vector<tcp::Admitted> admitted;
  acceptor_->take(looks, admitted);
  for (tcp::Admitted& agent : admitted) {
    const uint32_t number = agent.hello.from;
    if (const std::string why = refusal(number); !why.empty()) {
      log::warn("the agent at {} was refused: {}", agent.peer.text(), why);
      HostLink link(std::move(agent.socket));
      if (link.try_send(HostMessage::kRefused, why)) link.finish(limits::kRankTick);
      continue;
    }
    auto& remote = remotes_[number - 1];
    remote = std::make_unique<RemoteHost>(static_cast<int32_t>(number), std::move(agent));
    log::info("{} of {} hosts has come, {}", remote->name(), options_.hosts.count, since_start());
    GANTRY_RETURN_IF_ERROR(spawn(static_cast<int32_t>(number)));
  }
  if (!hosts_missing()) acceptor_.reset();  // nobody else is expected
  return {};
}

std::string WorkerGroup::refusal(uint32_t number) const {
  const auto hosts = static_cast<uint32_t>(options_.hosts.count);
  if (number == 0 || number >= hosts) {
    return fmt::format("host {} of a deployment on {}: the others are 1 to {}", number, hosts, hosts - 1);
  }
  const auto& taken = remotes_[number - 1];
  return taken == nullptr ? "" : fmt::format("host {} is there already: {}", number, taken->name());
}

bool WorkerGroup::hosts_missing() const {
  return std::any_of(remotes_.begin(), remotes_.end(), [](const auto& remote) { return remote == nullptr; });
}

Status WorkerGroup::tick() {
  if (acceptor_ != nullptr && steady_clock::now() > started_at_ + options_.hosts.wait) {
    const auto missing = std::find(remotes_.begin(), remotes_.end(), nullptr) - remotes_.begin() + 1;
    return Status(StatusCode::kDeadlineExceeded,
                  fmt::format("host {} of {} did not come to {} within {} s", missing, options_.hosts.count,
                              acceptor_->endpoint().text(), options_.hosts.wait.count()));
  }
  for (const auto& remote : remotes_) {
    if (remote != nullptr) GANTRY_RETURN_IF_ERROR(remote->tick());
  }
  for (Follower& follower : followers_) {
    if (follower.gone || follower.host == nullptr) continue;
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
      GANTRY_ASSIGN_OR_RETURN(const RankStarted started, decode_started(payload));
      const std::lock_guard lock(mutex_);
      from.ports = started;
      from.started = true;
      break;
    }
    case RankMessage::kLoaded: {
      GANTRY_ASSIGN_OR_RETURN(const RankLoaded loaded, decode_loaded(payload));
      const std::lock_guard lock(mutex_);
      from.kv_block_bytes = loaded.kv_block_bytes;
      from.process = loaded.process;
      from.process.rank = rank;
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

Status WorkerGroup::on_end(int32_t rank, const std::string& how, bool crashed) {
  const Follower& ended = follower(rank);
  if (ended.gone) return {};
  return Status(crashed ? StatusCode::kInternal : StatusCode::kUnavailable, name(ended) + " " + how);
}

bool WorkerGroup::failed() {
  const std::lock_guard lock(mutex_);
  return !failed_.ok();
}

void WorkerGroup::fail(const Status& status) {
  if (ends_process_) {  // before anybody acts on it: no stream may end
    log::error("{}", status.message());
    const bool taken =
        status.code() == StatusCode::kUnavailable || status.code() == StatusCode::kDeadlineExceeded;
    std::_Exit(taken ? kExitForLoss : 1);  // the other ranks end with it
  }
  {
    const std::lock_guard lock(mutex_);
    if (failed_.ok()) failed_ = status;
  }
  local_->abort(status.message());
  network_->abort(status.message());
  for (const auto& remote : remotes_) {
    if (remote != nullptr) remote->abort(status.message());
  }
  changed_.notify_all();
  wake(wake_);
}

void WorkerGroup::end_followers() {
  bool at_once = false;
  {
    const std::lock_guard lock(mutex_);
    at_once = !failed_.ok();
  }
  for (const auto& remote : remotes_) {
    if (remote != nullptr) remote->end(at_once);
  }
  local_->end(at_once);
}

std::string WorkerGroup::name(const Follower& follower) const {
  return fmt::format("rank {} of {} ({})", follower.rank, sizes().ranks(),
                     follower.host->place(follower.rank));
}

GroupExecutor::GroupExecutor(WorkerGroup& group, ModelRunner& runner) : group_(group), runner_(runner) {
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
  return failed_;
}

}  // namespace gantry
