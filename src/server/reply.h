// The JSON of an answer, whole or as server-sent events. One per route.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/choice_decoder.h"
#include "server/json_writer.h"

namespace gantry {

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t reasoning_tokens = 0;
  int64_t accepted_drafts = 0;
  int64_t rejected_drafts = 0;
};

class Reply {
 public:
  virtual ~Reply() = default;
  // Each appends events ("data: ...\n\n") to `out`.
  virtual void start_choice(std::string& out, int32_t choice) = 0;
  virtual void delta(std::string& out, const ChoiceDelta& delta) = 0;
  virtual void usage(std::string& out, const Usage& usage) = 0;
  // The body of an answer that is not streamed; choices in order.
  virtual std::string whole(const std::vector<ChoiceDelta>& choices, const Usage& usage) = 0;
  // Before start_choice() or whole(), once per prompt that has them.
  virtual void prompt_logprobs(int32_t /*prompt*/, std::vector<LogprobItem> /*items*/) {}
};

// id: of the answer; created: unix seconds. The spec outlives the reply.
std::unique_ptr<Reply> make_chat_reply(const GenerationSpec& spec, std::string id, int64_t created);
std::unique_ptr<Reply> make_completion_reply(const GenerationSpec& spec, std::string id, int64_t created);

void write_usage(JsonWriter& out, const Usage& usage);
void write_token_ids(JsonWriter& out, const std::vector<TokenId>& ids);
// "stop", "length", "error", or null while it goes on.
void write_finish_reason(JsonWriter& out, FinishReason finish);
// The stop string or token that ended the choice, or null (a field of vllm's).
void write_stop_reason(JsonWriter& out, const ChoiceDelta& delta);
// A logprob as clients take it: minus infinity becomes -9999.
double shown_logprob(float logprob);
// What a logprob calls the token: its text, or "token_id:N" without a tokenizer.
std::string token_text(const Tokenizer* tokenizer, TokenId id);

}  // namespace gantry
