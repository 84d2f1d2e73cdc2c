// Text to token ids and back: byte-level BPE (Sennrich et al. 2016; GPT-2's byte alphabet).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "text/vocab_spec.h"

namespace gantry {

// Immutable and thread-safe once created.
class Tokenizer {
 public:
  // Refuses a vocabulary that cannot be used: a merge whose parts or product are no tokens, duplicate tokens,
  // ids out of range, tokens of more than limits::kTokenBytesMax bytes. One line, names the entry.
  static Result<std::unique_ptr<Tokenizer>> create(VocabSpec spec);
  ~Tokenizer();

  enum class Specials {
    kText,     // control tokens in the text are plain text: what a user's message must use. Added tokens that
               // are not special are recognised (Hugging Face: encode_special_tokens)
    kControl,  // all added tokens are recognised: what a rendered chat template must use
  };
  struct EncodeOptions {
    Specials specials = Specials::kText;
    bool add_bos = false;  // adds BOS and EOS where the VocabSpec says so
  };
  // Time is linear in the text, whatever it is. Ill-formed UTF-8 is refused (kInvalidArgument), and so is a
  // text of more than limits::kTokenizeBytesMax bytes.
  Result<std::vector<TokenId>> encode(std::string_view text, EncodeOptions options) const;

  // The bytes of one token; control tokens give their content. Empty for an id that is out of range or a
  // hole.
  std::string_view bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  // Bytes of all ids, with ill-formed UTF-8 replaced by U+FFFD.
  std::string decode(const std::vector<TokenId>& ids, bool skip_specials) const;

  size_t vocab_size() const;  // ids are [0, vocab_size)
  const VocabSpec& spec() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace gantry
