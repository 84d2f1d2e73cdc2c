// Streaming: token ids in, well-formed UTF-8 out. Bytes of a character split over tokens wait for the rest of
// it.
#pragma once

#include <string>

#include "text/tokenizer.h"

namespace gantry {

class Detokenizer {
 public:
  // skip_specials: control tokens give no text. The tokenizer outlives this.
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_specials = true);
  // Appends the text that is complete after `id`; often empty in the middle of a character.
  void push(TokenId id, std::string& out);
  // Ends the stream: an incomplete character becomes U+FFFD.
  void finish(std::string& out);

 private:
  const Tokenizer& tokenizer_;
  bool skip_specials_;
  std::string pending_;  // at most 3 bytes
};

}  // namespace gantry
