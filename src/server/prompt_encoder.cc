#include "server/prompt_encoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"

namespace gantry {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool is_tag(const AddedToken& token) {
  return !token.special && token.content.size() > 2 && token.content.front() == '<' &&
         token.content.back() == '>';
}

std::vector<std::string> contents(const std::vector<AddedToken>& tokens, bool tags_only) {
  std::vector<std::string> out;
  for (const AddedToken& token : tokens) {
    if (!tags_only || is_tag(token)) out.push_back(token.content);
  }
  return out;
}

}  // namespace

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      added_(contents(tokenizer.spec().added, false), PatternSet::Tie::kLongest),
      tags_(contents(tokenizer.spec().added, true), PatternSet::Tie::kLongest) {
  for (const AddedToken& token : tokenizer.spec().added) {
    if (is_tag(token)) longest_tag_ = std::max(longest_tag_, token.content.size());
  }
  for (size_t id = 0; id < tokenizer.vocab_size(); ++id) {
    longest_token_ = std::max(longest_token_, tokenizer.bytes(static_cast<TokenId>(id)).size());
  }
}

void PromptEncoder::mark_control_tokens(std::string_view text, size_t begin, size_t end,
                                        std::vector<Mark>& out) const {
  if (added_.empty()) return;
  for (auto match = added_.find(text.substr(0, end), begin); match;
       match = added_.find(text.substr(0, end), match->end)) {
    out.push_back({match->begin, match->end, &tokenizer_.spec().added[static_cast<size_t>(match->pattern)]});
  }
}

// Tags that lie in [begin, end) of a message, or reach into it or out of it.
void PromptEncoder::mark_cuts(std::string_view text, size_t begin, size_t end, std::vector<Mark>& out) const {
  if (tags_.empty()) return;
  const size_t from = begin - std::min(begin, longest_tag_ - 1);
  const std::string_view reach = text.substr(0, std::min(text.size(), end + longest_tag_ - 1));
  for (auto match = tags_.find(reach, from); match; match = tags_.find(reach, match->begin + 1)) {
    if (match->begin >= end) break;
    if (match->end > begin) out.push_back({match->begin + 1, match->begin + 1, nullptr});
  }
}

std::vector<PromptEncoder::Mark> PromptEncoder::marks(std::string_view text,
                                                      const std::vector<PromptPiece>& pieces) const {
  std::vector<Mark> out;
  size_t begin = 0;
  for (size_t i = 0; i < pieces.size();) {
    const bool from_template = pieces[i].from_template;
    size_t end = begin;
    for (; i < pieces.size() && pieces[i].from_template == from_template; ++i) end += pieces[i].text.size();
    if (from_template) {
      mark_control_tokens(text, begin, end, out);
    } else {
      mark_cuts(text, begin, end, out);
    }
    begin = end;
  }
  // A cut before a message may lie ahead of the template's tokens; one inside a token has nothing to cut.
  std::stable_sort(out.begin(), out.end(), [](const Mark& a, const Mark& b) { return a.begin < b.begin; });
  return out;
}

Result<std::vector<TokenId>> PromptEncoder::encode(const std::vector<PromptPiece>& pieces) const {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  if (text.size() > limits::kTokenizeBytesMax) {
    return invalid_argument(fmt::format("the prompt has {} bytes, at most {} are allowed", text.size(),
                                        limits::kTokenizeBytesMax));
  }
  std::vector<TokenId> ids;
  size_t pos = 0;
  const auto encode_run = [&](size_t end) -> Status {
    if (pos >= end) return {};
    GANTRY_ASSIGN_OR_RETURN(const std::vector<TokenId> run,
                            tokenizer_.encode(std::string_view(text).substr(pos, end - pos),
                                              {.specials = Tokenizer::Specials::kText, .add_bos = false}));
    ids.insert(ids.end(), run.begin(), run.end());
    pos = end;
    return {};
  };
  for (const Mark& mark : marks(text, pieces)) {
    size_t end = mark.begin;
    if (mark.token != nullptr && mark.token->lstrip) {
      while (end > pos && is_space(text[end - 1])) --end;
    }
    GANTRY_RETURN_IF_ERROR(encode_run(end));
    if (mark.token == nullptr) continue;
    ids.push_back(mark.token->id);
    pos = mark.end;
    if (mark.token->rstrip) {
      while (pos < text.size() && is_space(text[pos])) ++pos;
    }
  }
  GANTRY_RETURN_IF_ERROR(encode_run(text.size()));
  return ids;
}

}  // namespace gantry
