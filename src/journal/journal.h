// The truth about every stream: parameters, prompt ids, emitted ids, epoch. A token is committed here once,
// before any client sees it; what a dead replica left is resubmitted from here.
#pragma once

#include <mutex>
#include <optional>
#include <unordered_map>

#include "base/status.h"
#include "protocol/replica_client.h"

namespace gantry {

// Thread-safe.
class Journal {
 public:
  // Records the stream with nothing emitted. CHECKs that the id is new.
  void open(const GenerateRequest& request);
  // True if the event is of the stream's current epoch, of a choice that has not finished, and the next index
  // of it: then it is recorded. Anything else is stale or repeated and must be dropped.
  bool commit(const TokenEvent& event);
  // The same for prompt logprobs: true once per stream.
  bool commit_prompt(const PromptLogprobs& logprobs);
  // The choice takes no further token. Returns true if it was the stream's last open one; the record is
  // dropped then.
  bool finish(RequestId id, int32_t choice);
  void erase(RequestId id);
  // The request as it must be submitted to go on where it was, under a new epoch: events of the old one are
  // stale from here on. It is marked as admitted. Empty if unknown.
  std::optional<GenerateRequest> resume(RequestId id, uint32_t new_epoch);
  size_t size() const;

 private:
  struct Record {
    GenerateRequest request;  // emitted and finished are kept up to date, one entry per choice
    int32_t open = 0;         // choices that are not finished
    bool prompt_committed = false;
  };
  mutable std::mutex mutex_;
  std::unordered_map<RequestId, Record> records_;
};

}  // namespace gantry
