// A rendered chat prompt to token ids, so that benign input gives the ids that Hugging Face gives, and no
// text of a message becomes a control token.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "chat/chat_template.h"
#include "text/pattern_set.h"
#include "text/tokenizer.h"

namespace gantry {

// Immutable and thread-safe. The tokenizer outlives it.
class PromptEncoder {
 public:
  explicit PromptEncoder(const Tokenizer& tokenizer);

  // Added tokens are control tokens in pieces from the template alone. What lies between two of them is one
  // run of plain text whatever its origin, so that merges cross from template text into a message as they do
  // for Hugging Face. Checkpoints mark some of their control tokens as not special (R1's "<｜User｜>"): in a
  // message a tag like that is cut after its first character, so that the tokenizer does not see it.
  // kInvalidArgument for ill-formed UTF-8 and for more than limits::kTokenizeBytesMax bytes.
  Result<std::vector<TokenId>> encode(const std::vector<PromptPiece>& pieces) const;

  // No text of that many bytes has fewer tokens.
  size_t tokens_min(size_t bytes) const { return bytes / longest_token_; }

 private:
  // A control token of the template, or with a null token a place where a run of text is cut in two.
  struct Mark {
    size_t begin;
    size_t end;
    const AddedToken* token;
  };
  void mark_control_tokens(std::string_view text, size_t begin, size_t end, std::vector<Mark>& marks) const;
  void mark_cuts(std::string_view text, size_t begin, size_t end, std::vector<Mark>& marks) const;
  std::vector<Mark> marks(std::string_view text, const std::vector<PromptPiece>& pieces) const;

  const Tokenizer& tokenizer_;
  PatternSet added_;  // all added tokens, in the order of the vocabulary's list
  PatternSet tags_;   // those that look like a tag and are not special
  size_t longest_token_ = 1;
  size_t longest_tag_ = 0;
};

}  // namespace gantry
