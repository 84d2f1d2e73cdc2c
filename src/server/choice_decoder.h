// One choice from tokens to what the client sees: detokenizer, stop strings, reasoning parser.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chat/reasoning_parser.h"
#include "protocol/replica_client.h"
#include "server/generation_spec.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"

namespace gantry {

struct LogprobItem {
  TokenId id = -1;
  std::optional<float> logprob;  // none: the first token of a prompt
  std::vector<TokenLogprob> top;
};

// What became known about a choice; a whole answer is the sum of its deltas.
struct ChoiceDelta {
  int32_t choice = 0;
  std::string content;
  std::string reasoning;
  std::vector<TokenId> ids;
  std::vector<LogprobItem> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string stop_string;  // with kStop: the stop string that was found
  TokenId stop_token = -1;  // with kStop: the stop_token_ids entry that ended it
  bool empty() const {
    return content.empty() && reasoning.empty() && ids.empty() && logprobs.empty() &&
           finish == FinishReason::kNone;
  }
};

class ChoiceDecoder {
 public:
  // The spec outlives this.
  explicit ChoiceDecoder(const GenerationSpec& spec);
  // Adds the event to `delta`. Sets delta.finish when the choice ends: by the event, or by a stop string,
  // when the rest of the tokens is not wanted.
  void push(TokenEvent&& event, ChoiceDelta& delta);

  int64_t tokens() const { return tokens_; }
  int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  void push_text(const std::string& text, ChoiceDelta& delta);
  void show(std::string_view text, ChoiceDelta& delta);
  void stop(int hit, ChoiceDelta& delta);
  void end_reasoning(ChoiceDelta& delta);
  void finish(ChoiceDelta& delta);
  bool is_reasoning_tag(TokenId id) const;

  const GenerationSpec& spec_;
  const Tokenizer* tokenizer_;  // null: no text
  std::optional<Detokenizer> detokenizer_;
  StopStrings stops_;
  std::optional<ReasoningParser> reasoning_;
  int64_t tokens_ = 0;
  int64_t reasoning_tokens_ = 0;
};

}  // namespace gantry
