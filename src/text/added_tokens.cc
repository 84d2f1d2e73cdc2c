#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace gantry {
namespace {

std::vector<std::string> contents(const std::vector<AddedToken>& tokens) {
  std::vector<std::string> out;
  out.reserve(tokens.size());
  for (const AddedToken& token : tokens) out.push_back(token.content);
  return out;
}

size_t last_character(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

uint8_t class_at(std::string_view text, size_t at) {
  return char_classes()[decode_utf8(text.data() + at).value];
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), set_(contents(tokens_), PatternSet::Tie::kLongest) {}

size_t AddedTokens::strip_left(std::string_view text, size_t low, size_t begin) {
  while (begin > low) {
    const size_t at = last_character(text, begin);
    if ((class_at(text, at) & kSpace) == 0) break;
    begin = at;
  }
  return std::max(begin, low);
}

size_t AddedTokens::strip_right(std::string_view text, size_t end) {
  while (end < text.size() && (class_at(text, end) & kSpace) != 0)
    end += decode_utf8(text.data() + end).bytes;
  return end;
}

}  // namespace gantry
