#include "server/reply.h"

#include <fmt/format.h>

#include <algorithm>

namespace gantry {

void write_usage(JsonWriter& out, const Usage& usage) {
  out.object()
      .key("prompt_tokens")
      .value(usage.prompt_tokens)
      .key("completion_tokens")
      .value(usage.completion_tokens)
      .key("total_tokens")
      .value(usage.prompt_tokens + usage.completion_tokens)
      .key("prompt_tokens_details")
      .object()
      .key("cached_tokens")
      .value(usage.cached_tokens)
      .end_object()
      .key("completion_tokens_details")
      .object()
      .key("reasoning_tokens")
      .value(usage.reasoning_tokens)
      .key("accepted_prediction_tokens")
      .value(usage.accepted_drafts)
      .key("rejected_prediction_tokens")
      .value(usage.rejected_drafts)
      .end_object()
      .end_object();
}

void write_token_ids(JsonWriter& out, const std::vector<TokenId>& ids) {
  out.array();
  for (const TokenId id : ids) out.value(id);
  out.end_array();
}

void write_finish_reason(JsonWriter& out, FinishReason finish) {
  switch (finish) {
    case FinishReason::kNone:
      out.null();
      return;
    case FinishReason::kStop:
      out.value("stop");
      return;
    case FinishReason::kLength:
      out.value("length");
      return;
    case FinishReason::kCancelled:
    case FinishReason::kError:
      out.value("error");
      return;
  }
}

void write_stop_reason(JsonWriter& out, const ChoiceDelta& delta) {
  if (!delta.stop_string.empty()) {
    out.value(delta.stop_string);
  } else if (delta.stop_token >= 0) {
    out.value(delta.stop_token);
  } else {
    out.null();
  }
}

double shown_logprob(float logprob) { return std::max(-9999.0, static_cast<double>(logprob)); }

std::string token_text(const Tokenizer* tokenizer, TokenId id) {
  if (tokenizer == nullptr) return fmt::format("token_id:{}", id);
  return std::string(tokenizer->bytes(id));
}

}  // namespace gantry
