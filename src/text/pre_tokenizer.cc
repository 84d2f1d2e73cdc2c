#include "text/pre_tokenizer.h"

#include "text/unicode.h"

// The expressions are those of the published tokenizer.json files, which Oniguruma runs there. (?!\S) holds
// at the end of the text, and a piece of the text that no alternative matches stays a piece of its own.

namespace gantry {
namespace {

constexpr uint8_t kWordOrSpace = kLetter | kNumber | kSpace;

// One character ahead; bytes is 0 at the end, and before a character of the classes in `stop`.
struct Ahead {
  uint8_t char_class = 0;
  uint32_t bytes = 0;
  bool in(uint8_t classes) const { return (char_class & classes) != 0; }
  bool outside(uint8_t classes) const { return bytes != 0 && (char_class & classes) == 0; }
};

template <uint8_t kStop>
class View {
 public:
  View(const char* end, const uint8_t* classes) : end_(end), classes_(classes) {}

  Ahead at(const char* p) const {
    if (p == end_) return {};
    const auto [c, bytes] = decode_utf8(p);
    const uint8_t char_class = classes_[c];
    if ((char_class & kStop) != 0) return {};
    return {char_class, bytes};
  }

  const char* skip(const char* p, uint8_t classes) const {
    for (Ahead a = at(p); a.in(classes); a = at(p)) p += a.bytes;
    return p;
  }
  const char* skip_outside(const char* p, uint8_t classes) const {
    for (Ahead a = at(p); a.outside(classes); a = at(p)) p += a.bytes;
    return p;
  }
  template <int kCount>
  const char* skip_at_most(const char* p, uint8_t classes) const {
    for (int i = 0; i < kCount; ++i) {
      const Ahead a = at(p);
      if (!a.in(classes)) break;
      p += a.bytes;
    }
    return p;
  }
  bool is_end(const char* p) const { return at(p).bytes == 0; }
  size_t left(const char* p) const { return static_cast<size_t>(end_ - p); }

 private:
  const char* end_;
  const uint8_t* classes_;
};

// 's|'t|'re|'ve|'m|'ll|'d after the apostrophe at p: the number of bytes with it, or 0.
size_t contraction(const char* p, size_t left) {
  if (left < 2) return 0;
  switch (p[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return left > 2 && p[2] == 'e' ? 3 : 0;
    case 'l':
      return left > 2 && p[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

// The same under (?i), where U+017F (long s) folds to s.
size_t contraction_any_case(const char* p, size_t left) {
  if (left >= 3 && p[1] == '\xc5' && p[2] == '\xbf') return 3;
  const auto lower = [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c); };
  const char folded[3] = {'\'', left > 1 ? lower(p[1]) : '\0', left > 2 ? lower(p[2]) : '\0'};
  return contraction(folded, left < 3 ? left : 3);
}

// \s+(?!\S)|\s+ at a space.
template <typename AnyView>
const char* scan_spaces(AnyView view, const char* p) {
  const char* last = p;
  const char* q = p;
  for (Ahead a = view.at(q); a.in(kSpace); a = view.at(q)) {
    last = q;
    q += a.bytes;
  }
  return view.is_end(q) || last == p ? q : last;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at a space.
template <typename AnyView>
const char* scan_spaces_or_lines(AnyView view, const char* p) {
  const char* last = p;
  const char* after_newline = nullptr;
  const char* q = p;
  for (Ahead a = view.at(q); a.in(kSpace); a = view.at(q)) {
    last = q;
    q += a.bytes;
    if (a.in(kNewline)) after_newline = q;
  }
  if (after_newline != nullptr) return after_newline;
  return view.is_end(q) || last == p ? q : last;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
template <typename AnyView>
const char* scan_gpt2_piece(AnyView view, const char* p) {
  if (*p == '\'') {
    if (const size_t bytes = contraction(p, view.left(p)); bytes != 0) return p + bytes;
  }
  const char* const word = *p == ' ' ? p + 1 : p;
  const Ahead first = view.at(word);
  if (first.in(kLetter)) return view.skip(word + first.bytes, kLetter);
  if (first.in(kNumber)) return view.skip(word + first.bytes, kNumber);
  if (first.outside(kWordOrSpace)) return view.skip_outside(word + first.bytes, kWordOrSpace);
  return scan_spaces(view, p);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,kDigits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
// |\s+(?!\S)|\s+
template <int kDigits, typename AnyView>
const char* scan_llama3_piece(AnyView view, const char* p) {
  if (*p == '\'') {
    if (const size_t bytes = contraction_any_case(p, view.left(p)); bytes != 0) return p + bytes;
  }
  const Ahead first = view.at(p);
  const char* const second = p + first.bytes;
  if (first.in(kLetter)) return view.skip(second, kLetter);
  if (first.in(kNumber)) {
    return view.template skip_at_most<kDigits - 1>(second, kNumber);
  }
  const Ahead next = view.at(second);
  if (!first.in(kNewline) && next.in(kLetter)) return view.skip(second + next.bytes, kLetter);
  if (!first.in(kSpace)) return view.skip(view.skip_outside(second, kWordOrSpace), kNewline);
  if (*p == ' ' && next.outside(kWordOrSpace)) {
    return view.skip(view.skip_outside(second + next.bytes, kWordOrSpace), kNewline);
  }
  return scan_spaces_or_lines(view, p);
}

bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
// |\s*[\r\n]+|\s+(?!\S)|\s+
// Null where nothing matches at p.
template <typename AnyView>
const char* match_deepseek_v3(AnyView view, const char* p) {
  constexpr uint8_t kWord = kLetter | kMark;
  const Ahead first = view.at(p);
  const char* const second = p + first.bytes;
  if (first.in(kWord)) return view.skip(second, kWord);
  const Ahead next = view.at(second);
  if (first.in(kPunctuation)) {
    if (first.bytes == 1 && next.bytes == 1 && is_ascii_letter(*second)) {
      const char* q = second + 1;
      while (!view.is_end(q) && is_ascii_letter(*q)) ++q;
      return q;
    }
    return view.skip(view.skip(second, kPunctuation), kNewline);
  }
  if (!first.in(kNewline) && next.in(kWord)) return view.skip(second + next.bytes, kWord);
  if (*p == ' ' && next.in(kPunctuation)) {
    return view.skip(view.skip(second + next.bytes, kPunctuation), kNewline);
  }
  if (first.in(kSpace)) return scan_spaces_or_lines(view, p);
  return nullptr;
}

template <typename AnyView>
const char* scan_deepseek_v3_piece(AnyView view, const char* p) {
  if (const char* const end = match_deepseek_v3(view, p); end != nullptr) return end;
  do {
    p += view.at(p).bytes;
  } while (!view.is_end(p) && match_deepseek_v3(view, p) == nullptr);
  return p;
}

}  // namespace

PreTokenizerScan::PreTokenizerScan(PreTokenizer kind, std::string_view text)
    : p_(text.data()), end_(text.data() + text.size()), kana_han_end_(p_) {
  switch (kind) {
    case PreTokenizer::kGpt2:
      scan_ = &PreTokenizerScan::scan_gpt2;
      break;
    case PreTokenizer::kSmolLm2:
      scan_ = &PreTokenizerScan::scan_smollm2;
      break;
    case PreTokenizer::kLlama3:
      scan_ = &PreTokenizerScan::scan_llama3;
      break;
    case PreTokenizer::kQwen2:
      scan_ = &PreTokenizerScan::scan_qwen2;
      break;
    case PreTokenizer::kDeepSeekV3:
      scan_ = &PreTokenizerScan::scan_deepseek_v3;
      break;
  }
}

const char* PreTokenizerScan::scan_gpt2() { return scan_gpt2_piece(View<0>(end_, char_classes()), p_); }

// Digits, one each, are taken out first; the expression sees what lies between them.
const char* PreTokenizerScan::scan_smollm2() {
  const auto [c, bytes] = decode_utf8(p_);
  if ((char_classes()[c] & kDigit) != 0) return p_ + bytes;
  return scan_gpt2_piece(View<kDigit>(end_, char_classes()), p_);
}

const char* PreTokenizerScan::scan_llama3() {
  return scan_llama3_piece<3>(View<0>(end_, char_classes()), p_);
}

const char* PreTokenizerScan::scan_qwen2() { return scan_llama3_piece<1>(View<0>(end_, char_classes()), p_); }

// Three splits, one after the other: \p{N}{1,3}, then runs of kana and Han, then the expression within each
// part.
const char* PreTokenizerScan::scan_deepseek_v3() {
  const uint8_t* const classes = char_classes();
  if (p_ < kana_han_end_) return scan_deepseek_v3_piece(View<0>(kana_han_end_, classes), p_);
  const View<0> all(end_, classes);
  const Ahead first = all.at(p_);
  if (first.in(kNumber)) {
    return all.skip_at_most<2>(p_ + first.bytes, kNumber);
  }
  if (first.in(kKanaHan)) {
    kana_han_end_ = all.skip(p_, kKanaHan);
    return scan_deepseek_v3_piece(View<0>(kana_han_end_, classes), p_);
  }
  return scan_deepseek_v3_piece(View < kNumber | kKanaHan > (end_, classes), p_);
}

}  // namespace gantry
