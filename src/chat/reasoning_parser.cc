#include "chat/reasoning_parser.h"

#include <algorithm>

namespace gantry {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kWhiteSpace = " \t\r\n";

bool is_space(char c) { return kWhiteSpace.find(c) != std::string_view::npos; }

// Bytes at the end of `text` that could be the start of `tag`.
size_t partial_tag(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(tag.size() - 1, text.size()); n > 0; --n) {
    if (text.substr(text.size() - n) == tag.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

ReasoningParser::ReasoningParser(bool starts_inside)
    : state_(starts_inside ? State::kReasoning : State::kStart) {
  trim_front_ = starts_inside;
}

bool ReasoningParser::inside() const { return state_ == State::kReasoning; }

ReasoningDelta ReasoningParser::push(std::string_view text) {
  held_ += text;
  ReasoningDelta delta;
  while (step(delta)) {
  }
  return delta;
}

// Moves what is certain from held_ to the delta; true if the state changed and there may be more.
bool ReasoningParser::step(ReasoningDelta& delta) {
  switch (state_) {
    case State::kStart: {
      size_t begin = 0;
      while (begin < held_.size() && is_space(held_[begin])) ++begin;
      const std::string_view rest = std::string_view(held_).substr(begin);
      if (rest.substr(0, kOpen.size()) == kOpen) {
        held_.erase(0, begin + kOpen.size());
        state_ = State::kReasoning;
        trim_front_ = true;
        return true;
      }
      if (kOpen.substr(0, rest.size()) == rest) return false;
      state_ = State::kContent;
      return true;
    }
    case State::kReasoning: {
      skip_breaks();
      const size_t close = held_.find(kClose);
      size_t end = close == std::string::npos ? held_.size() - partial_tag(held_, kClose) : close;
      // Line breaks in front of the tag go with it, so those at the end wait for what follows.
      while (end > 0 && held_[end - 1] == '\n') --end;
      delta.reasoning.append(held_, 0, end);
      if (close == std::string::npos) {
        held_.erase(0, end);
        return false;
      }
      held_.erase(0, close + kClose.size());
      state_ = State::kAfterReasoning;
      trim_front_ = true;
      return true;
    }
    case State::kAfterReasoning:
      skip_breaks();
      if (held_.empty()) return false;
      state_ = State::kContent;
      return true;
    case State::kContent:
      delta.content += held_;
      held_.clear();
      return false;
  }
  return false;
}

// Line breaks at the start of a side belong to the tag in front of it.
void ReasoningParser::skip_breaks() {
  if (!trim_front_) return;
  held_.erase(0, std::min(held_.find_first_not_of('\n'), held_.size()));
  if (!held_.empty()) trim_front_ = false;
}

ReasoningDelta ReasoningParser::finish() {
  ReasoningDelta delta;
  (state_ == State::kReasoning ? delta.reasoning : delta.content) = std::move(held_);
  held_.clear();
  return delta;
}

bool prompt_opens_reasoning(std::span<const PromptPiece> prompt) {
  std::string end;  // of the template's text, as far as nothing but white space of others follows
  for (const PromptPiece& piece : prompt) {
    if (piece.from_template) {
      end += piece.text;
    } else if (piece.text.find_first_not_of(kWhiteSpace) != std::string_view::npos) {
      end.clear();
    }
  }
  const size_t last = end.find_last_not_of(kWhiteSpace);
  return last != std::string_view::npos && std::string_view(end).substr(0, last + 1).ends_with(kOpen);
}

}  // namespace gantry
