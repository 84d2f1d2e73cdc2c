#include "journal/journal.h"

#include <utility>

#include "base/check.h"

namespace gantry {

void Journal::open(const GenerateRequest& request) {
  Record record;
  record.request = request;
  const auto choices = static_cast<size_t>(request.params.n);
  record.request.emitted.resize(choices);
  record.request.finished.resize(choices, false);
  for (size_t i = 0; i < choices; ++i) record.open += record.request.finished[i] ? 0 : 1;
  std::lock_guard lock(mutex_);
  const bool inserted = records_.emplace(request.id, std::move(record)).second;
  GANTRY_CHECK(inserted) << "request " << request.id.value << " is in the journal already";
}

bool Journal::commit(const TokenEvent& event) {
  std::lock_guard lock(mutex_);
  const auto it = records_.find(event.request);
  if (it == records_.end()) return false;
  GenerateRequest& request = it->second.request;
  if (event.epoch != request.epoch || event.choice < 0 || event.choice >= request.params.n) return false;
  const auto choice = static_cast<size_t>(event.choice);
  std::vector<TokenId>& emitted = request.emitted[choice];
  if (request.finished[choice] || event.index != static_cast<int32_t>(emitted.size())) return false;
  if (event.token >= 0) emitted.push_back(event.token);
  return true;
}

bool Journal::commit_prompt(const PromptLogprobs& logprobs) {
  std::lock_guard lock(mutex_);
  const auto it = records_.find(logprobs.request);
  if (it == records_.end() || logprobs.epoch != it->second.request.epoch) return false;
  return !std::exchange(it->second.prompt_committed, true);
}

bool Journal::finish(RequestId id, int32_t choice) {
  std::lock_guard lock(mutex_);
  const auto it = records_.find(id);
  if (it == records_.end()) return false;
  Record& record = it->second;
  if (choice < 0 || choice >= record.request.params.n) return false;
  if (record.request.finished[static_cast<size_t>(choice)]) return false;
  record.request.finished[static_cast<size_t>(choice)] = true;
  if (--record.open > 0) return false;
  records_.erase(it);
  return true;
}

void Journal::erase(RequestId id) {
  std::lock_guard lock(mutex_);
  records_.erase(id);
}

std::optional<GenerateRequest> Journal::resume(RequestId id, uint32_t new_epoch) {
  std::lock_guard lock(mutex_);
  const auto it = records_.find(id);
  if (it == records_.end()) return std::nullopt;
  it->second.request.epoch = new_epoch;
  GenerateRequest request = it->second.request;
  request.admitted = true;
  if (it->second.prompt_committed && request.params.max_tokens > 0) request.params.prompt_logprobs = -1;
  return request;
}

size_t Journal::size() const {
  std::lock_guard lock(mutex_);
  return records_.size();
}

}  // namespace gantry
