#include "formats/gguf_vocab.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "formats/quote_name.h"
#include "text/byte_alphabet.h"

namespace gantry {
namespace {

// tokenizer.ggml.token_type (llama.h, llama_token_type).
enum class TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// Control tokens that end a generation wherever they exist. Files written before eot_token_id existed do not
// name them, and Hugging Face's generation_config.json, which does, is not in the file.
constexpr std::string_view kEndTokens[] = {"<|eot_id|>",      "<|eom_id|>",    "<|im_end|>",
                                           "<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>"};

class VocabReader {
 public:
  VocabReader(const GgufFile& gguf, const std::string& file) : gguf_(gguf), file_(file) {}

  Result<VocabSpec> read() {
    GANTRY_RETURN_IF_ERROR(read_pre_tokenizer());
    GANTRY_RETURN_IF_ERROR(read_tokens());
    GANTRY_RETURN_IF_ERROR(read_merges());
    GANTRY_RETURN_IF_ERROR(read_special_ids());
    GANTRY_RETURN_IF_ERROR(read_templates());
    return std::move(vocab_);
  }

 private:
  Status lost(std::string_view key, std::string_view what) const {
    return data_loss(fmt::format("{}: {} {}", file_, key, what));
  }

  Status read_pre_tokenizer() {
    constexpr std::string_view kKey = "tokenizer.ggml.pre";
    const GgufValue* value = gguf_.find(kKey);
    const auto name = value != nullptr ? value->as_string() : std::nullopt;
    const auto known = name ? pre_tokenizer_from_gguf(*name) : std::nullopt;
    if (!known) {
      return unimplemented(
          fmt::format("{}: {} {} is not supported; supported: gpt-2, smollm, llama-bpe, qwen2, "
                      "deepseek-r1-qwen, deepseek-v3",
                      file_, kKey, name ? quote_name(*name) : "(missing)"));
    }
    vocab_.pre_tokenizer = *known;
    // What the tokenizer.json of these families says and GGUF does not.
    vocab_.ignore_merges = *known == PreTokenizer::kLlama3;
    vocab_.normalize_nfc = *name == "qwen2";
    vocab_.add_bos = *known == PreTokenizer::kLlama3;
    return read_flag("tokenizer.ggml.add_bos_token", vocab_.add_bos,
                     read_flag("tokenizer.ggml.add_eos_token", vocab_.add_eos, Status()));
  }

  // Leaves the flag as it is when the key is absent. Passes an earlier error on.
  Status read_flag(std::string_view key, bool& flag, Status earlier) const {
    if (!earlier.ok()) return earlier;
    const GgufValue* value = gguf_.find(key);
    if (value == nullptr) return Status();
    const auto given = value->as_bool();
    if (!given) return lost(key, "is not a boolean");
    flag = *given;
    return Status();
  }

  Status read_tokens() {
    constexpr std::string_view kKey = "tokenizer.ggml.tokens";
    constexpr std::string_view kTypeKey = "tokenizer.ggml.token_type";
    const GgufValue* value = gguf_.find(kKey);
    const auto* tokens = value != nullptr ? value->as_strings() : nullptr;
    if (tokens == nullptr || tokens->empty()) return lost(kKey, "is not an array of strings");
    if (tokens->size() > limits::kVocabularyMax) {
      return resource_exhausted(fmt::format("{}: {} has {} entries; at most {} are accepted", file_, kKey,
                                            tokens->size(), limits::kVocabularyMax));
    }
    std::vector<int64_t> types(tokens->size(), static_cast<int64_t>(TokenType::kNormal));
    if (const GgufValue* given = gguf_.find(kTypeKey); given != nullptr) {
      auto ints = given->as_ints();
      if (!ints || ints->size() != tokens->size()) {
        return lost(kTypeKey,
                    fmt::format("is not an array of {} integers, one for each token", tokens->size()));
      }
      types = std::move(*ints);
    }
    vocab_.tokens.resize(tokens->size());
    for (size_t i = 0; i < tokens->size(); ++i) {
      const std::string_view written = (*tokens)[i];
      const auto id = static_cast<TokenId>(i);
      switch (static_cast<TokenType>(types[i])) {
        case TokenType::kNormal:
          vocab_.tokens[i] = undo_byte_alphabet(written);
          break;
        case TokenType::kUnknown:
        case TokenType::kControl:
        case TokenType::kUserDefined:
          vocab_.tokens[i] = written;
          vocab_.added.push_back({.id = id,
                                  .content = std::string(written),
                                  .special = static_cast<TokenType>(types[i]) != TokenType::kUserDefined});
          break;
        case TokenType::kUnused:
          break;
        case TokenType::kByte:
        default:
          return lost(kTypeKey, fmt::format("{} of token {} has no place in byte-level BPE", types[i], i));
      }
    }
    return Status();
  }

  Status read_merges() {
    constexpr std::string_view kKey = "tokenizer.ggml.merges";
    const GgufValue* value = gguf_.find(kKey);
    const auto* merges = value != nullptr ? value->as_strings() : nullptr;
    if (merges == nullptr) return lost(kKey, "is not an array of strings");
    if (merges->size() > limits::kVocabularyMax) {
      return resource_exhausted(fmt::format("{}: {} has {} entries; at most {} are accepted", file_, kKey,
                                            merges->size(), limits::kVocabularyMax));
    }
    vocab_.merges.reserve(merges->size());
    for (const std::string_view merge : *merges) {
      // The byte alphabet has no space, so the one space parts the two.
      const size_t space = merge.find(' ');
      if (space == 0 || space == std::string_view::npos || space + 1 == merge.size() ||
          merge.find(' ', space + 1) != std::string_view::npos) {
        return lost(kKey, fmt::format("entry {} is {}, not two parts with a space between",
                                      vocab_.merges.size(), quote_name(merge)));
      }
      vocab_.merges.emplace_back(undo_byte_alphabet(merge.substr(0, space)),
                                 undo_byte_alphabet(merge.substr(space + 1)));
    }
    return Status();
  }

  Result<std::optional<TokenId>> read_id(std::string_view key) const {
    const GgufValue* value = gguf_.find(key);
    if (value == nullptr) return std::optional<TokenId>();
    const auto id = value->as_int();
    if (!id || *id < 0 || static_cast<uint64_t>(*id) >= vocab_.tokens.size()) {
      return lost(key, fmt::format("is not the id of one of the {} tokens", vocab_.tokens.size()));
    }
    return std::optional<TokenId>(static_cast<TokenId>(*id));
  }

  void add_end(TokenId id) {
    if (std::find(vocab_.eos.begin(), vocab_.eos.end(), id) == vocab_.eos.end()) vocab_.eos.push_back(id);
  }

  Status read_special_ids() {
    GANTRY_ASSIGN_OR_RETURN(vocab_.bos, read_id("tokenizer.ggml.bos_token_id"));
    GANTRY_ASSIGN_OR_RETURN(vocab_.pad, read_id("tokenizer.ggml.padding_token_id"));
    GANTRY_ASSIGN_OR_RETURN(vocab_.unk, read_id("tokenizer.ggml.unknown_token_id"));
    for (const std::string_view key :
         {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
      GANTRY_ASSIGN_OR_RETURN(const std::optional<TokenId> id, read_id(key));
      if (id) add_end(*id);
    }
    for (const AddedToken& token : vocab_.added) {
      const bool ends =
          std::find(std::begin(kEndTokens), std::end(kEndTokens), token.content) != std::end(kEndTokens);
      if (token.special && ends) add_end(token.id);
    }
    return Status();
  }

  Status read_templates() {
    constexpr std::string_view kKey = "tokenizer.chat_template";
    for (auto entry = gguf_.metadata.lower_bound(kKey);
         entry != gguf_.metadata.end() && entry->first.starts_with(kKey); ++entry) {
      std::string_view name = std::string_view(entry->first).substr(kKey.size());
      if (!name.empty() && !name.starts_with('.')) continue;  // tokenizer.chat_templates lists the names
      const auto source = entry->second.as_string();
      if (!source || source->size() > limits::kTemplateBytesMax) {
        return lost(entry->first,
                    fmt::format("is not a string of at most {} bytes", limits::kTemplateBytesMax));
      }
      if (name.empty()) {
        vocab_.chat_template = *source;
      } else {
        vocab_.named_templates.emplace(name.substr(1), *source);
      }
    }
    return Status();
  }

  const GgufFile& gguf_;
  const std::string& file_;
  VocabSpec vocab_;
};

}  // namespace

Result<std::optional<VocabSpec>> vocab_from_gguf(const GgufFile& gguf, const std::string& file) {
  constexpr std::string_view kKey = "tokenizer.ggml.model";
  const GgufValue* value = gguf.find(kKey);
  if (value == nullptr) return std::optional<VocabSpec>();
  const auto model = value->as_string();
  if (!model) return data_loss(fmt::format("{}: {} is not a string", file, kKey));
  if (*model == "none" || *model == "no_vocab") return std::optional<VocabSpec>();
  if (*model != "gpt2") {
    return unimplemented(fmt::format("{}: {} {} is not supported; supported: \"gpt2\" (byte-level BPE)", file,
                                     kKey, quote_name(*model)));
  }
  GANTRY_ASSIGN_OR_RETURN(VocabSpec vocab, VocabReader(gguf, file).read());
  return std::optional<VocabSpec>(std::move(vocab));
}

}  // namespace gantry
