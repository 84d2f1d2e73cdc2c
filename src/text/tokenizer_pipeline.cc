#include "text/tokenizer_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace gantry {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kGpt2Expression =
    R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kLlama3Expression =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kQwen2Expression =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kDeepSeekDigits = R"re(\p{N}{1,3})re";
constexpr std::string_view kDeepSeekKanaHan = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
constexpr std::string_view kDeepSeekExpression =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

struct KnownPipeline {
  std::vector<std::string_view> stages;  // as describe() writes them
  PreTokenizer pre_tokenizer;
};

const std::vector<KnownPipeline>& known_pipelines() {
  static const std::vector<KnownPipeline> known = {
      {{kGpt2Expression}, PreTokenizer::kGpt2},
      {{"Digits", kGpt2Expression}, PreTokenizer::kSmolLm2},
      {{kLlama3Expression}, PreTokenizer::kLlama3},
      {{kQwen2Expression}, PreTokenizer::kQwen2},
      {{kDeepSeekDigits, kDeepSeekKanaHan, kDeepSeekExpression}, PreTokenizer::kDeepSeekV3},
  };
  return known;
}

std::string type_of(const Json& part) {
  const auto at = part.is_object() ? part.find("type") : part.end();
  return part.is_object() && at != part.end() && at->is_string() ? at->get<std::string>() : "(no type)";
}

bool flag(const Json& part, const char* key, bool otherwise) {
  const auto at = part.find(key);
  return at != part.end() && at->is_boolean() ? at->get<bool>() : otherwise;
}

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 160);
}

// The members of a Sequence, which may hold others, in order; a part that is none alone.
Result<std::vector<const Json*>> flatten(const Json& part, const char* key) {
  std::vector<const Json*> flat;
  std::vector<const Json*> open;
  if (!part.is_null()) open.push_back(&part);
  while (!open.empty()) {
    const Json& front = *open.back();
    open.pop_back();
    if (type_of(front) != "Sequence") {
      flat.push_back(&front);
      continue;
    }
    const auto members = front.find(key);
    if (members == front.end() || !members->is_array()) {
      return data_loss(fmt::format("tokenizer.json: a Sequence has no list of {}", key));
    }
    for (auto at = members->rbegin(); at != members->rend(); ++at) open.push_back(&*at);
  }
  return flat;
}

// The stage as its expression, "Digits", or nothing where the part splits no text.
Result<std::string> describe(const Json& part) {
  const std::string type = type_of(part);
  if (type == "Digits" && flag(part, "individual_digits", false)) return std::string("Digits");
  if (type == "ByteLevel") {
    if (flag(part, "add_prefix_space", true)) {
      return unimplemented("pre-tokenizer ByteLevel with add_prefix_space: only without it is supported");
    }
    return flag(part, "use_regex", true) ? std::string(kGpt2Expression) : std::string();
  }
  if (type == "Split") {
    const auto pattern = part.find("pattern");
    const auto behavior = part.find("behavior");
    const bool invert = flag(part, "invert", false);
    if (pattern != part.end() && pattern->is_object() && behavior != part.end()) {
      const auto regex = pattern->find("Regex");
      // Removing what is not matched is the same as isolating what is, where the expression matches
      // everything.
      if (regex != pattern->end() && regex->is_string() &&
          ((*behavior == "Isolated" && !invert) ||
           (*behavior == "Removed" && invert && *regex != kDeepSeekDigits && *regex != kDeepSeekKanaHan &&
            *regex != kDeepSeekExpression))) {
        return regex->get<std::string>();
      }
    }
  }
  return unimplemented(fmt::format("pre-tokenizer {} is not supported", shown(part)));
}

}  // namespace

Result<bool> read_normalizer(const Json& normalizer) {
  GANTRY_ASSIGN_OR_RETURN(const auto parts, flatten(normalizer, "normalizers"));
  for (const Json* part : parts) {
    if (type_of(*part) != "NFC") {
      return unimplemented(fmt::format("normalizer {} is not supported: NFC is, or none", type_of(*part)));
    }
  }
  return !parts.empty();
}

Result<PreTokenizer> read_pre_tokenizer(const Json& pre_tokenizer) {
  GANTRY_ASSIGN_OR_RETURN(const auto parts, flatten(pre_tokenizer, "pretokenizers"));
  std::vector<std::string> stages;
  bool is_byte_level = false;
  for (const Json* part : parts) {
    if (is_byte_level) return unimplemented(fmt::format("pre-tokenizer {} after ByteLevel", type_of(*part)));
    is_byte_level = type_of(*part) == "ByteLevel";
    GANTRY_ASSIGN_OR_RETURN(std::string stage, describe(*part));
    if (!stage.empty()) stages.push_back(std::move(stage));
  }
  if (!is_byte_level)
    return unimplemented("a tokenizer without the ByteLevel pre-tokenizer is not supported");
  for (const KnownPipeline& known : known_pipelines()) {
    if (std::equal(stages.begin(), stages.end(), known.stages.begin(), known.stages.end())) {
      return known.pre_tokenizer;
    }
  }
  return unimplemented(fmt::format(
      "pre-tokenizer {} is not supported: those of gpt-2, smollm2, llama3, qwen2 and deepseek-v3 are",
      shown(Json(stages))));
}

Result<PromptFrame> read_post_processor(const Json& post_processor) {
  GANTRY_ASSIGN_OR_RETURN(const auto parts, flatten(post_processor, "processors"));
  PromptFrame frame;
  for (const Json* part : parts) {
    const std::string type = type_of(*part);
    if (type == "ByteLevel") continue;  // adjusts offsets only
    const auto single = part->find("single");
    if (type != "TemplateProcessing" || single == part->end() || !single->is_array()) {
      return unimplemented(
          fmt::format("post-processor {} is not supported: ByteLevel and TemplateProcessing are", type));
    }
    bool is_after = false;
    for (const Json& piece : *single) {
      if (piece.is_object() && piece.contains("Sequence")) {
        is_after = true;
        continue;
      }
      const auto special = piece.is_object() ? piece.find("SpecialToken") : piece.end();
      std::string& place = is_after ? frame.after : frame.before;
      if (!piece.is_object() || special == piece.end() || !special->is_object() || !special->contains("id") ||
          !(*special)["id"].is_string() || !place.empty()) {
        return unimplemented(
            fmt::format("post-processor template {} is not supported: one token before the text and one "
                        "after it are",
                        shown(*single)));
      }
      place = (*special)["id"].get<std::string>();
    }
  }
  return frame;
}

Status check_decoder(const Json& decoder) {
  GANTRY_ASSIGN_OR_RETURN(const auto parts, flatten(decoder, "decoders"));
  for (const Json* part : parts) {
    if (type_of(*part) != "ByteLevel") {
      return unimplemented(fmt::format("decoder {} is not supported: ByteLevel is", type_of(*part)));
    }
  }
  return {};
}

}  // namespace gantry
