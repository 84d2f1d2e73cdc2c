// Messages to text: the Jinja subset that published chat templates use (Jinja 3.1 semantics, as transformers
// runs it: trim_blocks, lstrip_blocks, loop controls), with fuel, depth and output limits. No attribute of a
// host object is reachable.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"

namespace gantry {

struct ChatTemplateInput {
  nlohmann::ordered_json
      messages;  // [{role, content, ...}]; content is a string, or parts where the template takes them
  nlohmann::ordered_json tools;  // null where there are none
  nlohmann::ordered_json
      kwargs;  // extra variables (chat_template_kwargs, already allow-listed); object or null
  bool add_generation_prompt = true;
  std::string bos_token;
  std::string eos_token;
  int64_t now_unix_seconds = 0;  // for strftime_now, which gives UTC
};

// A rendered prompt in pieces, so that text of a message never becomes a control token. Control tokens are
// cut out of the template's pieces; what is left over between two of them is one text, whatever its origins,
// or words would be tokenised otherwise than Hugging Face does.
struct PromptPiece {
  std::string text;
  bool from_template =
      false;  // literal text of the template or a token variable: control tokens count; else plain text
};

class ChatTemplate {
 public:
  // Parses the source. kInvalidArgument with the line for a syntax error, kUnimplemented with the construct's
  // name for Jinja outside the subset.
  static Result<std::unique_ptr<ChatTemplate>> parse(std::string source);
  ~ChatTemplate();

  // The text, as python jinja2 gives it. raise_exception(m) gives kInvalidArgument with m. Thread-safe.
  Result<std::string> render(const ChatTemplateInput& input) const;
  // The same text cut where its origin changes. Provenance survives concatenation, slicing, strip, split,
  // replace and the filters; what came from `messages`, `tools` or `kwargs` is not from_template. Two things
  // are the template's although they come with the request, because templates make one control token of them
  // and their own text ("<|user|>", "<|image_1|>"): a message's role if it is system, user, assistant, tool,
  // developer, function, ipython or model; and numbers. The text of a list or mapping is the caller's if any
  // string in it is.
  Result<std::vector<PromptPiece>> render_pieces(const ChatTemplateInput& input) const;
  // True if the template mentions the variable (e.g. "enable_thinking", "tools").
  bool uses(std::string_view variable) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gantry
