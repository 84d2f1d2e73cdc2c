#include "control/front.h"

#include <atomic>
#include <unordered_map>

namespace gantry {

struct Front::Impl {
  Journal journal;
  std::atomic<uint64_t> last_id{0};
  mutable std::mutex mutex;
  std::unordered_map<RequestId, std::shared_ptr<StreamSink>> streams;

  std::shared_ptr<StreamSink> find(RequestId id) const {
    std::lock_guard lock(mutex);
    const auto it = streams.find(id);
    return it == streams.end() ? nullptr : it->second;
  }
  // The sink is destroyed outside the lock: its destructor may call the front.
  void forget(RequestId id) {
    std::shared_ptr<StreamSink> dropped;
    {
      std::lock_guard lock(mutex);
      const auto it = streams.find(id);
      if (it == streams.end()) return;
      dropped = std::move(it->second);
      streams.erase(it);
    }
  }
};

Front::Front(ReplicaClient& replica) : replica_(replica), impl_(std::make_unique<Impl>()) {
  replica_.set_sink(this);
}

Front::~Front() { replica_.set_sink(nullptr); }

RequestId Front::next_id() { return RequestId{impl_->last_id.fetch_add(1) + 1}; }

Status Front::open(GenerateRequest request, std::shared_ptr<StreamSink> sink) {
  const RequestId id = request.id;
  impl_->journal.open(request);
  {
    std::lock_guard lock(impl_->mutex);
    impl_->streams.emplace(id, std::move(sink));
  }
  Status status = replica_.submit(std::move(request));
  if (!status.ok()) {
    impl_->journal.erase(id);
    impl_->forget(id);
  }
  return status;
}

void Front::close(RequestId id, int32_t choice) {
  if (choice < 0) {
    impl_->journal.erase(id);
    impl_->forget(id);
  } else if (impl_->journal.finish(id, choice)) {
    impl_->forget(id);
  }
  replica_.cancel(id, choice);
}

size_t Front::open_streams() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->streams.size();
}

void Front::on_frame(StepFrame&& frame) {
  for (PromptLogprobs& logprobs : frame.prompts) {
    if (!impl_->journal.commit_prompt(logprobs)) continue;
    if (const auto sink = impl_->find(logprobs.request)) sink->on_prompt_logprobs(std::move(logprobs));
  }
  for (TokenEvent& event : frame.tokens) {
    if (!impl_->journal.commit(event)) continue;
    const RequestId id = event.request;
    const int32_t choice = event.choice;
    const bool last = event.finish != FinishReason::kNone;
    if (const auto sink = impl_->find(id)) sink->on_token(std::move(event));
    if (last && impl_->journal.finish(id, choice)) impl_->forget(id);
  }
}

}  // namespace gantry
