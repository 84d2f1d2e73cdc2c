#include "control/front.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "control/control_limits.h"

namespace gantry {
namespace {

constexpr int kNowhere = -1;

struct Stream {
  std::shared_ptr<StreamSink> sink;
  int64_t deadline_ns = 0;
  uint32_t epoch = 0;    // of its newest submission
  int lane = kNowhere;   // where it was submitted
  bool started = false;  // there, a step has taken it up
  int blame = 0;         // for deaths of its replica, since something was committed (control_limits.h)

  bool suspect() const { return blame >= limits::kBlameForTrial; }
};

// What a request that was running pays for the end of its replica.
int blame_for(StatusCode cause) {
  if (cause == StatusCode::kCancelled) return 0;
  return cause == StatusCode::kInternal ? limits::kBlameForCrash : limits::kBlameForKill;
}

// A call of a stream's owner, made once no lock is held.
using Call = std::function<void()>;

}  // namespace

struct Front::Impl {
  // One replica.
  struct Lane : FrameSink {
    Lane(Impl& f, int i, ReplicaClient& c) : front(f), index(i), client(c) {}
    void on_frame(StepFrame&& frame) override { front.take_frame(*this, std::move(frame)); }
    void on_started(std::span<const RequestId> requests) override { front.mark_started(*this, requests); }
    void on_refused(RequestId request, uint32_t epoch, const Status& status) override {
      front.refuse(request, epoch, status);
    }
    void on_lost(const Status& cause) override { front.lose(*this, blame_for(cause.code())); }
    void on_ready() override { front.welcome(*this); }
    void on_tick() override { front.expire(); }

    Impl& front;
    const int index;
    ReplicaClient& client;
    bool up = true;
    size_t streams = 0;              // submitted here
    std::optional<RequestId> trial;  // the only one that may run here
  };

  explicit Impl(const std::vector<ReplicaClient*>& replicas) {
    GANTRY_CHECK(!replicas.empty());
    for (ReplicaClient* replica : replicas) {
      lanes.push_back(std::make_unique<Lane>(*this, static_cast<int>(lanes.size()), *replica));
    }
  }

  // The next five need the mutex.
  Lane* lane_for_new();
  std::optional<Status> submit(RequestId id, Stream& stream, Lane& lane);
  void leave_lane(RequestId id, Stream& stream);
  std::shared_ptr<StreamSink> erase(RequestId id);
  // Ends the stream with an event for each open choice.
  void end(RequestId id, FinishReason reason, const std::string& why, std::vector<Call>& calls);
  void place_all(std::vector<Call>& calls);

  void take_frame(Lane& lane, StepFrame&& frame);
  // The owner to call for something that was committed; null if it has gone. The replica works: so much for suspicion.
  std::shared_ptr<StreamSink> acquit(Lane& lane, RequestId id, std::vector<Call>& calls);
  void finish(RequestId id, int32_t choice);
  void mark_started(Lane& lane, std::span<const RequestId> requests);
  void refuse(RequestId id, uint32_t epoch, const Status& status);
  void lose(Lane& lane, int blame);
  void welcome(Lane& lane);
  void expire();

  Journal journal;
  std::atomic<uint64_t> last_id{0};
  mutable std::mutex
      mutex;  // guards the rest; held while a replica is told something, never while an owner is
  std::map<RequestId, Stream> streams;  // oldest first
  std::vector<std::unique_ptr<Lane>> lanes;
  size_t waiting = 0;  // streams that are nowhere
};

Front::Impl::Lane* Front::Impl::lane_for_new() {
  Lane* best = nullptr;
  for (const auto& lane : lanes) {
    if (!lane->up || lane->trial) continue;
    if (best == nullptr || lane->streams < best->streams) best = lane.get();
  }
  return best;
}

// An error only if the replica says so at once; the stream is nowhere then.
std::optional<Status> Front::Impl::submit(RequestId id, Stream& stream, Lane& lane) {
  std::optional<GenerateRequest> request = journal.resume(id, stream.epoch + 1);
  if (!request) return std::nullopt;  // every choice has finished: its owner is about to be told
  ++stream.epoch;
  stream.started = false;
  if (Status status = lane.client.submit(std::move(*request)); !status.ok()) return status;
  stream.lane = lane.index;
  ++lane.streams;
  --waiting;
  return std::nullopt;
}

void Front::Impl::leave_lane(RequestId id, Stream& stream) {
  if (stream.lane == kNowhere) return;
  Lane& lane = *lanes[static_cast<size_t>(std::exchange(stream.lane, kNowhere))];
  --lane.streams;
  if (lane.trial == id) lane.trial.reset();
  ++waiting;
}

std::shared_ptr<StreamSink> Front::Impl::erase(RequestId id) {
  const auto it = streams.find(id);
  if (it == streams.end()) return nullptr;
  leave_lane(id, it->second);
  --waiting;
  std::shared_ptr<StreamSink> sink = std::move(it->second.sink);
  streams.erase(it);
  return sink;
}

void Front::Impl::end(RequestId id, FinishReason reason, const std::string& why, std::vector<Call>& calls) {
  const auto it = streams.find(id);
  const std::optional<GenerateRequest> record = journal.resume(id, it->second.epoch);
  journal.erase(id);
  const std::shared_ptr<StreamSink> sink = erase(id);
  if (!record) return;
  for (size_t choice = 0; choice < record->finished.size(); ++choice) {
    if (record->finished[choice]) continue;
    TokenEvent event;
    event.request = id;
    event.epoch = record->epoch;
    event.choice = static_cast<int32_t>(choice);
    event.index = static_cast<int32_t>(record->emitted[choice].size());
    event.finish = reason;
    event.error = why;
    calls.emplace_back([sink, event]() mutable { sink->on_token(std::move(event)); });
  }
}

void Front::Impl::place_all(std::vector<Call>& calls) {
  if (waiting == 0) return;
  std::vector<std::pair<RequestId, Status>> refused;
  const auto place = [&](RequestId id, Stream& stream, Lane& lane) {
    if (const auto status = submit(id, stream, lane)) refused.emplace_back(id, *status);
  };
  for (auto& [id, stream] : streams) {  // suspects: each alone on a replica
    if (stream.lane != kNowhere || !stream.suspect()) continue;
    const auto free = std::find_if(lanes.begin(), lanes.end(), [](const auto& lane) {
      return lane->up && !lane->trial && lane->streams == 0;
    });
    if (free == lanes.end()) break;
    log::warn("request {} is tried alone: its replica died again and again while it ran", id.value);
    (*free)->trial = id;
    place(id, stream, **free);
    if (stream.lane == kNowhere) (*free)->trial.reset();
  }
  for (auto& [id, stream] : streams) {
    if (stream.lane != kNowhere || stream.suspect()) continue;
    Lane* lane = lane_for_new();
    if (lane == nullptr) break;
    place(id, stream, *lane);
  }
  for (const auto& [id, status] : refused) {
    journal.erase(id);
    if (const auto sink = erase(id)) calls.emplace_back([sink, why = status] { sink->on_refused(why); });
  }
}

void Front::Impl::take_frame(Lane& lane, StepFrame&& frame) {
  std::vector<Call> calls;
  for (PromptLogprobs& logprobs : frame.prompts) {
    if (!journal.commit_prompt(logprobs)) continue;
    if (const auto sink = acquit(lane, logprobs.request, calls))
      sink->on_prompt_logprobs(std::move(logprobs));
  }
  for (TokenEvent& event : frame.tokens) {
    if (!journal.commit(event)) continue;
    const RequestId id = event.request;
    const int32_t choice = event.choice;
    const bool last = event.finish != FinishReason::kNone;
    if (const auto sink = acquit(lane, id, calls)) sink->on_token(std::move(event));
    if (last) finish(id, choice);
  }
  for (const Call& call : calls) call();
}

std::shared_ptr<StreamSink> Front::Impl::acquit(Lane& lane, RequestId id, std::vector<Call>& calls) {
  const std::lock_guard lock(mutex);
  const auto it = streams.find(id);
  if (it == streams.end()) return nullptr;
  Stream& stream = it->second;
  stream.blame = 0;
  if (lane.trial == id) {
    lane.trial.reset();
    // While others wait for their trial it makes room for them.
    const bool more = std::any_of(streams.begin(), streams.end(), [](const auto& entry) {
      return entry.second.lane == kNowhere && entry.second.suspect();
    });
    if (more) {
      lane.client.cancel(id, -1);
      leave_lane(id, stream);
    }
    place_all(calls);
  }
  return stream.sink;
}

// The owner's sink is destroyed outside of the lock: its destructor may call the front.
void Front::Impl::finish(RequestId id, int32_t choice) {
  if (!journal.finish(id, choice)) return;
  std::shared_ptr<StreamSink> dropped;
  std::vector<Call> calls;
  {
    const std::lock_guard lock(mutex);
    dropped = erase(id);
    place_all(calls);
  }
  for (const Call& call : calls) call();
}

void Front::Impl::mark_started(Lane& lane, std::span<const RequestId> requests) {
  const std::lock_guard lock(mutex);
  for (const RequestId id : requests) {
    const auto it = streams.find(id);
    if (it != streams.end() && it->second.lane == lane.index) it->second.started = true;
  }
}

void Front::Impl::refuse(RequestId id, uint32_t epoch, const Status& status) {
  std::shared_ptr<StreamSink> sink;
  std::vector<Call> calls;
  {
    const std::lock_guard lock(mutex);
    const auto it = streams.find(id);
    if (it == streams.end() || it->second.epoch != epoch) return;
    journal.erase(id);
    sink = erase(id);
    place_all(calls);
  }
  sink->on_refused(status);
  for (const Call& call : calls) call();
}

void Front::Impl::lose(Lane& lane, int blame) {
  std::vector<Call> calls;
  {
    const std::lock_guard lock(mutex);
    lane.up = false;
    const std::optional<RequestId> trial = lane.trial;
    std::vector<RequestId> given_up;
    for (auto& [id, stream] : streams) {
      if (stream.lane != lane.index) continue;
      leave_lane(id, stream);
      if (!std::exchange(stream.started, false)) continue;
      stream.blame += blame;
      if (trial == id && stream.blame > limits::kBlameMax) given_up.push_back(id);
    }
    for (const RequestId id : given_up) {
      log::error("request {} is given up: it ended its replica when it ran alone", id.value);
      end(id, FinishReason::kError, "the request ended the process that worked on it, again and again",
          calls);
    }
    place_all(calls);
  }
  for (const Call& call : calls) call();
}

void Front::Impl::welcome(Lane& lane) {
  std::vector<Call> calls;
  {
    const std::lock_guard lock(mutex);
    lane.up = true;
    if (waiting > 0) log::info("{} streams are submitted again", waiting);
    place_all(calls);
  }
  for (const Call& call : calls) call();
}

void Front::Impl::expire() {
  std::vector<Call> calls;
  {
    const std::lock_guard lock(mutex);
    if (waiting == 0) return;
    const int64_t now = monotonic_ns();
    std::vector<RequestId> late;
    for (const auto& [id, stream] : streams) {
      if (stream.lane == kNowhere && stream.deadline_ns != 0 && stream.deadline_ns <= now) late.push_back(id);
    }
    for (const RequestId id : late) {
      end(id, FinishReason::kCancelled, "the deadline of the request passed", calls);
    }
  }
  for (const Call& call : calls) call();
}

Front::Front(std::vector<ReplicaClient*> replicas) : impl_(std::make_unique<Impl>(replicas)) {
  for (const auto& lane : impl_->lanes) lane->client.set_sink(lane.get());
}

Front::~Front() {
  for (const auto& lane : impl_->lanes) lane->client.set_sink(nullptr);
}

RequestId Front::next_id() { return RequestId{impl_->last_id.fetch_add(1) + 1}; }

Status Front::open(GenerateRequest request, std::shared_ptr<StreamSink> sink) {
  const RequestId id = request.id;
  Stream stream;
  stream.sink = std::move(sink);
  stream.deadline_ns = request.deadline_ns;
  stream.epoch = request.epoch;
  const std::lock_guard lock(impl_->mutex);
  Impl::Lane* lane = impl_->lane_for_new();
  if (lane == nullptr && impl_->waiting >= limits::kWaitingRequestsMax) {
    return resource_exhausted(fmt::format("{} requests wait for a replica to come back, no more are taken",
                                          limits::kWaitingRequestsMax));
  }
  impl_->journal.open(request);
  if (lane != nullptr) {
    stream.lane = lane->index;
    if (Status status = lane->client.submit(std::move(request)); !status.ok()) {
      impl_->journal.erase(id);
      return status;
    }
    ++lane->streams;
  } else {
    ++impl_->waiting;
  }
  impl_->streams.emplace(id, std::move(stream));
  return {};
}

void Front::close(RequestId id, int32_t choice) {
  std::shared_ptr<StreamSink> dropped;
  std::vector<Call> calls;
  {
    const std::lock_guard lock(impl_->mutex);
    const auto it = impl_->streams.find(id);
    if (it == impl_->streams.end()) return;
    if (it->second.lane != kNowhere) {
      impl_->lanes[static_cast<size_t>(it->second.lane)]->client.cancel(id, choice);
    }
    if (choice < 0) impl_->journal.erase(id);
    if (choice < 0 || impl_->journal.finish(id, choice)) dropped = impl_->erase(id);
    impl_->place_all(calls);
  }
  for (const Call& call : calls) call();
}

size_t Front::open_streams() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->streams.size();
}

const ReplicaInfo& Front::info() const { return impl_->lanes.front()->client.info(); }

ReplicaStats Front::stats() const {
  ReplicaStats sum = impl_->lanes.front()->client.stats();
  for (size_t i = 1; i < impl_->lanes.size(); ++i) {
    const ReplicaStats s = impl_->lanes[i]->client.stats();
    sum.running += s.running;
    sum.waiting += s.waiting;
    sum.kv_blocks_used += s.kv_blocks_used;
    sum.kv_blocks_total += s.kv_blocks_total;
    add_counters(sum, s);
    sum.waiting_tokens += s.waiting_tokens;
    sum.queue_wait_s = std::min(sum.queue_wait_s, s.queue_wait_s);
    sum.last_token_ns = std::max(sum.last_token_ns, s.last_token_ns);
    sum.step_running_ns = std::max(sum.step_running_ns, s.step_running_ns);
  }
  const std::lock_guard lock(impl_->mutex);
  sum.waiting += static_cast<int32_t>(impl_->waiting);
  return sum;
}

}  // namespace gantry
