// Finds the added tokens of a vocabulary in text, before anything else sees it, as Hugging Face's
// AddedVocabulary does.
#pragma once

#include <string_view>
#include <vector>

#include "text/pattern_set.h"
#include "text/vocab_spec.h"

namespace gantry {

// A part of a text: an added token, or with id -1 text between two.
struct TextPart {
  std::string_view text;
  TokenId id;
};

class AddedTokens {
 public:
  // tokens: contents well-formed UTF-8, none empty.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  // Calls visit(TextPart) for each part of `text`, in order. Tokens are matched leftmost, the longest first;
  // special ones take part in that and then stay text unless with_specials is set. The spaces that lstrip and
  // rstrip name belong to the token and give no part.
  template <typename Visit>
  void split(std::string_view text, bool with_specials, const Visit& visit) const {
    size_t text_begin = 0;
    if (!tokens_.empty()) {
      for (auto match = set_.find(text, 0); match; match = set_.find(text, match->end)) {
        const AddedToken& token = tokens_[static_cast<size_t>(match->pattern)];
        if (token.special && !with_specials) continue;
        size_t begin = match->begin;
        size_t end = match->end;
        if (token.lstrip) begin = strip_left(text, text_begin, begin);
        if (token.rstrip) end = strip_right(text, end);
        if (text_begin < begin) visit(TextPart{text.substr(text_begin, begin - text_begin), -1});
        visit(TextPart{text.substr(begin, end - begin), token.id});
        text_begin = end;
      }
    }
    if (text_begin < text.size()) visit(TextPart{text.substr(text_begin), -1});
  }

 private:
  static size_t strip_left(std::string_view text, size_t low, size_t begin);
  static size_t strip_right(std::string_view text, size_t end);

  std::vector<AddedToken> tokens_;
  PatternSet set_;
};

}  // namespace gantry
