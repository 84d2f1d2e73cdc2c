// Splits streamed text into reasoning and answer at <think> ... </think> (DeepSeek-R1's format).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "chat/chat_template.h"

namespace gantry {

struct ReasoningDelta {
  std::string reasoning;
  std::string content;
};

class ReasoningParser {
 public:
  // starts_inside: the prompt already ends with "<think>" (R1's template), so the first text is reasoning.
  // Otherwise a leading "<think>" (after white space) opens it, and any other text is content.
  explicit ReasoningParser(bool starts_inside);
  // The tags may be cut anywhere between two calls; what could still be a tag is held back. Line breaks right
  // after <think> and around </think> belong to neither side.
  ReasoningDelta push(std::string_view text);
  // Ends the stream: held text goes to the side that is open.
  ReasoningDelta finish();
  bool inside() const;

 private:
  enum class State { kStart, kReasoning, kAfterReasoning, kContent };
  bool step(ReasoningDelta& delta);
  void skip_breaks();

  State state_;
  std::string held_;
  bool trim_front_ = false;  // line breaks at the start of the open side are still to be dropped
};

// True if the rendered prompt leaves a <think> of the template open at its end. One that a message brings is
// plain text (docs/decisions/0004).
bool prompt_opens_reasoning(std::span<const PromptPiece> prompt);

}  // namespace gantry
