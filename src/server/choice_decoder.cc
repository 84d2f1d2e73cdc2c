#include "server/choice_decoder.h"

#include <algorithm>

namespace gantry {

ChoiceDecoder::ChoiceDecoder(const GenerationSpec& spec)
    : spec_(spec), tokenizer_(spec.model->served.tokenizer), stops_(spec.stops) {
  if (tokenizer_ != nullptr) detokenizer_.emplace(*tokenizer_);
  if (spec.split_reasoning) reasoning_.emplace(spec.starts_in_reasoning);
}

// In some vocabularies the tags are control tokens, which the detokenizer leaves out.
bool ChoiceDecoder::is_reasoning_tag(TokenId id) const {
  if (!reasoning_ || !tokenizer_->is_special(id)) return false;
  const std::string_view bytes = tokenizer_->bytes(id);
  return bytes == "<think>" || bytes == "</think>";
}

void ChoiceDecoder::push(TokenEvent&& event, ChoiceDelta& delta) {
  if (event.token >= 0) {
    ++tokens_;
    const bool was_inside = reasoning_ && reasoning_->inside();
    if (spec_.return_token_ids) delta.ids.push_back(event.token);
    if (spec_.params.logprobs >= 0) {
      delta.logprobs.push_back({.id = event.token, .logprob = event.logprob, .top = std::move(event.top)});
    }
    if (tokenizer_ != nullptr) {
      std::string text;
      if (is_reasoning_tag(event.token)) {
        detokenizer_->finish(text);
        text += tokenizer_->bytes(event.token);
      } else {
        detokenizer_->push(event.token, text);
      }
      push_text(text, delta);
    }
    if (was_inside || (reasoning_ && reasoning_->inside())) ++reasoning_tokens_;
  }
  if (delta.finish != FinishReason::kNone || event.finish == FinishReason::kNone) return;
  delta.finish = event.finish;
  if (event.stop_token >= 0) {
    ++tokens_;  // it was generated, though it has no text
    if (spec_.return_token_ids) delta.ids.push_back(event.stop_token);
    const auto& asked = spec_.params.stop_token_ids;
    if (std::find(asked.begin(), asked.end(), event.stop_token) != asked.end())
      delta.stop_token = event.stop_token;
  }
  finish(delta);
}

void ChoiceDecoder::push_text(const std::string& text, ChoiceDelta& delta) {
  if (text.empty()) return;
  // Stop strings count from the token after min_tokens, as end tokens do.
  if (spec_.stops.empty() || tokens_ <= spec_.params.min_tokens) return show(text, delta);
  std::string visible;
  const int hit = stops_.push(text, visible);
  show(visible, delta);
  if (hit >= 0) stop(hit, delta);
}

void ChoiceDecoder::stop(int hit, ChoiceDelta& delta) {
  delta.stop_string = spec_.stops[static_cast<size_t>(hit)];
  delta.stop_token = -1;
  delta.finish = FinishReason::kStop;
  end_reasoning(delta);
}

void ChoiceDecoder::show(std::string_view text, ChoiceDelta& delta) {
  if (!reasoning_) {
    delta.content += text;
    return;
  }
  ReasoningDelta parsed = reasoning_->push(text);
  delta.content += parsed.content;
  if (spec_.include_reasoning) delta.reasoning += parsed.reasoning;
}

void ChoiceDecoder::end_reasoning(ChoiceDelta& delta) {
  if (!reasoning_) return;
  ReasoningDelta rest = reasoning_->finish();
  delta.content += rest.content;
  if (spec_.include_reasoning) delta.reasoning += rest.reasoning;
}

// The model ended the choice: what was held back is shown.
void ChoiceDecoder::finish(ChoiceDelta& delta) {
  std::string rest;
  if (detokenizer_) detokenizer_->finish(rest);
  push_text(rest, delta);
  if (!delta.stop_string.empty()) return;
  std::string held;
  const int hit = stops_.finish(held);
  show(held, delta);
  if (hit >= 0) return stop(hit, delta);
  end_reasoning(delta);
}

}  // namespace gantry
