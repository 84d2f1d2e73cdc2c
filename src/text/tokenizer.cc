#include "text/tokenizer.h"

#include <fmt/format.h>

#include <array>
#include <unordered_map>

#include "base/limits.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/nfc.h"
#include "text/pre_tokenizer.h"
#include "text/unicode.h"

namespace gantry {
namespace {

// About what English text gives; only a first guess for the size of the result.
constexpr size_t kBytesPerToken = 4;
// Pieces whose table entries are loaded together: the vocabulary does not fit the nearer caches.
constexpr size_t kPiecesAhead = 16;

Status check_id(std::string_view name, TokenId id) {
  if (id >= 0 && static_cast<size_t>(id) < limits::kVocabularyMax) return {};
  return data_loss(fmt::format("{} id {}: token ids are 0 to {}", name, id, limits::kVocabularyMax - 1));
}

Status check_added(const std::vector<AddedToken>& added) {
  std::unordered_map<std::string_view, TokenId> ids;
  std::unordered_map<TokenId, std::string_view> contents;
  for (const AddedToken& token : added) {
    GANTRY_RETURN_IF_ERROR(check_id("added token", token.id));
    if (token.content.empty() || !is_valid_utf8(token.content)) {
      return data_loss(fmt::format("added token {}: its content is {}", token.id,
                                   token.content.empty() ? "empty" : "no well-formed UTF-8"));
    }
    if (const auto [at, inserted] = ids.emplace(token.content, token.id); !inserted) {
      return data_loss(
          fmt::format("added token '{}' has the ids {} and {}", token.content, at->second, token.id));
    }
    if (const auto [at, inserted] = contents.emplace(token.id, token.content); !inserted) {
      return data_loss(
          fmt::format("id {} is of two added tokens, '{}' and '{}'", token.id, at->second, token.content));
    }
  }
  return {};
}

Status check_size(const VocabSpec& spec) {
  if (spec.tokens.size() > limits::kVocabularyMax) {
    return resource_exhausted(
        fmt::format("{} tokens: a vocabulary may have {}", spec.tokens.size(), limits::kVocabularyMax));
  }
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].size() > limits::kTokenBytesMax) {
      return resource_exhausted(fmt::format("token {} has {} bytes: a token may have {}", id,
                                            spec.tokens[id].size(), limits::kTokenBytesMax));
    }
  }
  return {};
}

// Also the ids that the specification names must be tokens.
Status check_named_ids(const VocabSpec& spec) {
  const auto check = [&](std::string_view name, TokenId id) -> Status {
    if (id >= 0 && static_cast<size_t>(id) < spec.tokens.size()) return {};
    return data_loss(fmt::format("{} id {}: the vocabulary has {} tokens", name, id, spec.tokens.size()));
  };
  if (spec.bos) GANTRY_RETURN_IF_ERROR(check("BOS", *spec.bos));
  if (spec.pad) GANTRY_RETURN_IF_ERROR(check("padding", *spec.pad));
  if (spec.unk) GANTRY_RETURN_IF_ERROR(check("unknown token", *spec.unk));
  for (const TokenId id : spec.eos) GANTRY_RETURN_IF_ERROR(check("EOS", id));
  return {};
}

std::vector<AddedToken> select_added(const VocabSpec& spec, bool normalized) {
  std::vector<AddedToken> out;
  for (const AddedToken& token : spec.added) {
    if (token.normalized != normalized) continue;
    out.push_back(token);
    if (normalized && spec.normalize_nfc) out.back().content = to_nfc(token.content);
  }
  return out;
}

}  // namespace

struct Tokenizer::Impl {
  std::unique_ptr<const VocabSpec> spec;  // tokens hold the contents of the added ones too
  std::vector<bool> is_special;
  AddedTokens added;             // in the text as it comes
  AddedTokens added_normalized;  // in what is left of it, normalized
  Bpe bpe;

  void encode_text(std::string_view text, bool with_specials, BpeScratch& scratch,
                   std::vector<TokenId>& ids) const;
};

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(VocabSpec spec) {
  GANTRY_RETURN_IF_ERROR(check_added(spec.added));
  for (const AddedToken& token : spec.added) {
    const auto id = static_cast<size_t>(token.id);
    if (id >= spec.tokens.size()) spec.tokens.resize(id + 1);
    spec.tokens[id] = token.content;
  }
  GANTRY_RETURN_IF_ERROR(check_size(spec));
  GANTRY_RETURN_IF_ERROR(check_named_ids(spec));
  std::vector<bool> is_special(spec.tokens.size(), false);
  for (const AddedToken& token : spec.added) is_special[static_cast<size_t>(token.id)] = token.special;
  AddedTokens added(select_added(spec, false));
  AddedTokens added_normalized(select_added(spec, true));
  // The encoder points to the specification, which therefore comes to its place first.
  auto owned = std::make_unique<VocabSpec>(std::move(spec));
  GANTRY_ASSIGN_OR_RETURN(Bpe bpe, Bpe::create(*owned, is_special));
  return std::unique_ptr<Tokenizer>(
      new Tokenizer(std::unique_ptr<Impl>(new Impl{std::move(owned), std::move(is_special), std::move(added),
                                                   std::move(added_normalized), std::move(bpe)})));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

void Tokenizer::Impl::encode_text(std::string_view text, bool with_specials, BpeScratch& scratch,
                                  std::vector<TokenId>& ids) const {
  const auto encode_part = [&](const TextPart& part) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      return;
    }
    PreTokenizerScan scan(spec->pre_tokenizer, part.text);
    std::array<std::string_view, kPiecesAhead> pieces;
    size_t count = 0;
    do {
      for (count = 0; count < kPiecesAhead && scan.next(pieces[count]); ++count) bpe.prefetch(pieces[count]);
      for (size_t i = 0; i < count; ++i) bpe.encode(pieces[i], scratch, ids);
    } while (count == kPiecesAhead);
  };
  added.split(text, with_specials, [&](const TextPart& part) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else if (spec->normalize_nfc) {
      added_normalized.split(to_nfc(part.text), with_specials, encode_part);
    } else {
      added_normalized.split(part.text, with_specials, encode_part);
    }
  });
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > limits::kTokenizeBytesMax) {
    return invalid_argument(fmt::format("the text has {} bytes: at most {} are tokenized", text.size(),
                                        limits::kTokenizeBytesMax));
  }
  if (!is_valid_utf8(text)) return invalid_argument("the text is not well-formed UTF-8");
  std::vector<TokenId> ids;
  ids.reserve(text.size() / kBytesPerToken + 2);
  const VocabSpec& vocab = *impl_->spec;
  if (options.add_bos && vocab.add_bos && vocab.bos) ids.push_back(*vocab.bos);
  BpeScratch scratch;
  impl_->encode_text(text, options.specials == Specials::kControl, scratch, ids);
  if (options.add_bos && vocab.add_eos && !vocab.eos.empty()) ids.push_back(vocab.eos.front());
  return ids;
}

std::string_view Tokenizer::bytes(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= vocab_size()) return {};
  return impl_->spec->tokens[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() && impl_->is_special[static_cast<size_t>(id)];
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool skip_specials) const {
  std::string joined;
  for (const TokenId id : ids) {
    if (!skip_specials || !is_special(id)) joined += bytes(id);
  }
  std::string out;
  out.reserve(joined.size());
  if (append_well_formed(joined, out) > 0) out += kReplacementCharacter;
  return out;
}

size_t Tokenizer::vocab_size() const { return impl_->spec->tokens.size(); }
const VocabSpec& Tokenizer::spec() const { return *impl_->spec; }

}  // namespace gantry
