#include "text/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/limits.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_pipeline.h"

namespace gantry {
namespace {

using Json = nlohmann::json;

// Token strings as the file writes them.
using WrittenTokens = std::unordered_map<std::string, TokenId>;

const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto at = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && at != object.end() ? *at : null;
}

bool flag(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

std::optional<TokenId> read_id(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const auto id =
      value.is_number_unsigned() ? value.get<uint64_t>() : static_cast<uint64_t>(value.get<int64_t>());
  if (id >= limits::kVocabularyMax) return std::nullopt;
  return static_cast<TokenId>(id);
}

Status check_model(const Json& model) {
  if (!model.is_object()) return data_loss("tokenizer.json has no \"model\"");
  const Json& type = member(model, "type");
  if (type.is_string() && type != "BPE") {
    return unimplemented(fmt::format("tokenizer model {}: only byte-level BPE is supported", type.dump()));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& value = member(model, key);
    if (value.is_string() && !value.get_ref<const std::string&>().empty()) {
      return unimplemented(
          fmt::format("tokenizer model with {} {}: only byte-level BPE is supported", key, value.dump()));
    }
  }
  if (flag(model, "byte_fallback")) {
    return unimplemented("tokenizer model with byte_fallback: only byte-level BPE is supported");
  }
  const Json& dropout = member(model, "dropout");
  if (dropout.is_number() && dropout.get<double>() > 0) {
    return unimplemented(
        fmt::format("tokenizer model with dropout {}: its tokens would be random", dropout.dump()));
  }
  if (flag(model, "fuse_unk") && member(model, "unk_token").is_string()) {
    return unimplemented("tokenizer model with fuse_unk: a byte without a token is one unknown token here");
  }
  return {};
}

Result<WrittenTokens> read_vocabulary(const Json& model, VocabSpec& spec) {
  const Json& vocab = member(model, "vocab");
  if (!vocab.is_object() || vocab.empty())
    return data_loss("tokenizer.json: model.vocab is no map of tokens to ids");
  WrittenTokens written;
  written.reserve(vocab.size());
  std::vector<bool> is_taken;
  for (const auto& [token, value] : vocab.items()) {
    const std::optional<TokenId> id = read_id(value);
    if (!id) {
      return data_loss(fmt::format("tokenizer.json: token {} has the id {}; ids are 0 to {}",
                                   Json(token).dump(), value.dump(), limits::kVocabularyMax - 1));
    }
    const auto at = static_cast<size_t>(*id);
    if (at >= spec.tokens.size()) {
      spec.tokens.resize(at + 1);
      is_taken.resize(at + 1);
    }
    if (is_taken[at]) return data_loss(fmt::format("tokenizer.json: two tokens have the id {}", *id));
    is_taken[at] = true;
    spec.tokens[at] = undo_byte_alphabet(token);
    written.emplace(token, *id);
  }
  return written;
}

// A merge is "left right" or ["left", "right"].
Status read_merges(const Json& model, VocabSpec& spec) {
  const Json& merges = member(model, "merges");
  if (!merges.is_array()) return data_loss("tokenizer.json: model.merges is no list");
  if (merges.size() > limits::kMergesMax) {
    return resource_exhausted(
        fmt::format("tokenizer.json: {} merges; at most {}", merges.size(), limits::kMergesMax));
  }
  spec.merges.reserve(merges.size());
  for (const Json& merge : merges) {
    if (merge.is_string()) {
      const auto& pair = merge.get_ref<const std::string&>();
      const size_t space = pair.find(' ');
      if (space != std::string::npos && pair.find(' ', space + 1) == std::string::npos) {
        spec.merges.emplace_back(undo_byte_alphabet(std::string_view(pair).substr(0, space)),
                                 undo_byte_alphabet(std::string_view(pair).substr(space + 1)));
        continue;
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      spec.merges.emplace_back(undo_byte_alphabet(merge[0].get_ref<const std::string&>()),
                               undo_byte_alphabet(merge[1].get_ref<const std::string&>()));
      continue;
    }
    return data_loss(fmt::format("tokenizer.json: merge {} is {}, not two tokens", spec.merges.size(),
                                 merge.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80)));
  }
  return {};
}

// An entry of added_tokens, or of the configuration's added_tokens_decoder, where the id is the key.
Result<AddedToken> read_added(const Json& entry, const Json& id_value) {
  const std::optional<TokenId> id = read_id(id_value);
  const Json& content = member(entry, "content");
  if (!id || !content.is_string()) {
    return data_loss(fmt::format("tokenizer: the added token {} has no id below {} or no content",
                                 entry.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80),
                                 limits::kVocabularyMax));
  }
  if (flag(entry, "single_word")) {
    return unimplemented(
        fmt::format("added token {} with single_word: only lstrip and rstrip are supported", content.dump()));
  }
  AddedToken token;
  token.id = *id;
  token.content = content.get<std::string>();
  token.special = flag(entry, "special");
  token.lstrip = flag(entry, "lstrip");
  token.rstrip = flag(entry, "rstrip");
  token.normalized = flag(entry, "normalized");
  return token;
}

void put_added(AddedToken token, VocabSpec& spec) {
  for (AddedToken& old : spec.added) {
    if (old.id == token.id && old.content == token.content) {
      old = std::move(token);
      return;
    }
  }
  spec.added.push_back(std::move(token));
}

Status read_added_tokens(const Json& tokenizer, const Json& config, VocabSpec& spec) {
  const Json& added = member(tokenizer, "added_tokens");
  if (!added.is_null() && !added.is_array()) return data_loss("tokenizer.json: added_tokens is no list");
  for (const Json& entry : added) {
    GANTRY_ASSIGN_OR_RETURN(AddedToken token, read_added(entry, member(entry, "id")));
    spec.added.push_back(std::move(token));
  }
  const Json& decoder = member(config, "added_tokens_decoder");
  if (!decoder.is_object()) return {};
  for (const auto& [key, entry] : decoder.items()) {
    GANTRY_ASSIGN_OR_RETURN(AddedToken token, read_added(entry, Json::parse(key, nullptr, false)));
    put_added(std::move(token), spec);
  }
  return {};
}

// The content of "<s>" or {"content": "<s>", ...}; empty for null.
std::string token_content(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  const Json& content = member(value, "content");
  return content.is_string() ? content.get<std::string>() : std::string();
}

std::optional<TokenId> find_token(const std::string& content, const WrittenTokens& written,
                                  const VocabSpec& spec) {
  for (const AddedToken& token : spec.added) {
    if (token.content == content) return token.id;
  }
  const auto at = written.find(content);
  if (at == written.end()) return std::nullopt;
  return at->second;
}

// A token that the configuration names as BOS, EOS, ... is special even where added_tokens does not list it.
Result<std::optional<TokenId>> named_token(const Json& config, const char* key, const WrittenTokens& written,
                                           VocabSpec& spec) {
  const std::string content = token_content(member(config, key));
  if (content.empty()) return std::optional<TokenId>();
  const std::optional<TokenId> id = find_token(content, written, spec);
  if (!id)
    return data_loss(fmt::format("tokenizer_config.json: {} {} is no token", key, Json(content).dump()));
  const bool is_added = std::any_of(spec.added.begin(), spec.added.end(),
                                    [&](const AddedToken& token) { return token.id == *id; });
  if (!is_added) {
    AddedToken token;
    token.id = *id;
    token.content = content;
    token.special = true;
    spec.added.push_back(std::move(token));
  }
  return id;
}

Status read_config(const Json& config, const WrittenTokens& written, VocabSpec& spec) {
  GANTRY_ASSIGN_OR_RETURN(spec.bos, named_token(config, "bos_token", written, spec));
  GANTRY_ASSIGN_OR_RETURN(const std::optional<TokenId> eos, named_token(config, "eos_token", written, spec));
  if (eos) spec.eos = {*eos};
  GANTRY_ASSIGN_OR_RETURN(spec.pad, named_token(config, "pad_token", written, spec));
  const Json& chat_template = member(config, "chat_template");
  if (chat_template.is_string()) spec.chat_template = chat_template.get<std::string>();
  if (chat_template.is_array()) {
    for (const Json& entry : chat_template) {
      const Json& name = member(entry, "name");
      const Json& source = member(entry, "template");
      if (!name.is_string() || !source.is_string()) {
        return data_loss("tokenizer_config.json: an entry of chat_template has no name or no template");
      }
      if (name == "default") {
        spec.chat_template = source.get<std::string>();
      } else {
        spec.named_templates[name.get<std::string>()] = source.get<std::string>();
      }
    }
  }
  return {};
}

// What the post-processor puts around a prompt, then what the configuration says of it.
Status read_bos_and_eos(const Json& tokenizer, const Json& config, const WrittenTokens& written,
                        VocabSpec& spec) {
  GANTRY_ASSIGN_OR_RETURN(const PromptFrame frame, read_post_processor(member(tokenizer, "post_processor")));
  for (const auto& [content, is_before] : {std::pair(frame.before, true), std::pair(frame.after, false)}) {
    if (content.empty()) continue;
    const std::optional<TokenId> id = find_token(content, written, spec);
    if (!id)
      return data_loss(
          fmt::format("tokenizer.json: the post-processor's {} is no token", Json(content).dump()));
    if (is_before) {
      spec.add_bos = true;
      spec.bos = id;
    } else {
      spec.add_eos = true;
      spec.eos.insert(spec.eos.begin(), *id);
      spec.eos.erase(std::unique(spec.eos.begin(), spec.eos.end()), spec.eos.end());
    }
  }
  if (const Json& add = member(config, "add_bos_token"); add.is_boolean())
    spec.add_bos = add.get<bool>() && spec.bos;
  if (const Json& add = member(config, "add_eos_token"); add.is_boolean()) {
    spec.add_eos = add.get<bool>() && !spec.eos.empty();
  }
  return {};
}

}  // namespace

Result<VocabSpec> vocab_from_tokenizer_json(const Json& tokenizer, const Json& tokenizer_config) {
  if (!tokenizer.is_object()) return data_loss("tokenizer.json is no JSON object");
  VocabSpec spec;
  const Json& model = member(tokenizer, "model");
  GANTRY_RETURN_IF_ERROR(check_model(model));
  GANTRY_ASSIGN_OR_RETURN(spec.normalize_nfc, read_normalizer(member(tokenizer, "normalizer")));
  GANTRY_ASSIGN_OR_RETURN(spec.pre_tokenizer, read_pre_tokenizer(member(tokenizer, "pre_tokenizer")));
  GANTRY_RETURN_IF_ERROR(check_decoder(member(tokenizer, "decoder")));
  GANTRY_ASSIGN_OR_RETURN(const WrittenTokens written, read_vocabulary(model, spec));
  GANTRY_RETURN_IF_ERROR(read_merges(model, spec));
  spec.ignore_merges = flag(model, "ignore_merges");
  GANTRY_RETURN_IF_ERROR(read_added_tokens(tokenizer, tokenizer_config, spec));
  // An added token is written as it is, not in the byte alphabet.
  for (const AddedToken& token : spec.added) {
    if (static_cast<size_t>(token.id) < spec.tokens.size())
      spec.tokens[static_cast<size_t>(token.id)] = token.content;
  }
  if (const Json& unk = member(model, "unk_token"); unk.is_string()) {
    spec.unk = find_token(unk.get<std::string>(), written, spec);
    if (!spec.unk) return data_loss(fmt::format("tokenizer.json: unk_token {} is no token", unk.dump()));
  }
  GANTRY_RETURN_IF_ERROR(read_config(tokenizer_config, written, spec));
  GANTRY_RETURN_IF_ERROR(read_bos_and_eos(tokenizer, tokenizer_config, written, spec));
  return spec;
}

}  // namespace gantry
