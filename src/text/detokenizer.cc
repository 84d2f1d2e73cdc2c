#include "text/detokenizer.h"

#include "text/unicode.h"

namespace gantry {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_specials)
    : tokenizer_(tokenizer), skip_specials_(skip_specials) {}

void Detokenizer::push(TokenId id, std::string& out) {
  if (skip_specials_ && tokenizer_.is_special(id)) return;
  pending_ += tokenizer_.bytes(id);
  const size_t incomplete = append_well_formed(pending_, out);
  pending_.erase(0, pending_.size() - incomplete);
}

void Detokenizer::finish(std::string& out) {
  if (!pending_.empty()) out += kReplacementCharacter;
  pending_.clear();
}

}  // namespace gantry
