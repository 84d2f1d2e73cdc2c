#include "server/sampling_fields.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <random>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr int32_t kIntMax = std::numeric_limits<int32_t>::max();

uint64_t random_seed() {
  thread_local std::mt19937_64 generator{(static_cast<uint64_t>(std::random_device{}()) << 32) |
                                         std::random_device{}()};
  return generator();
}

void read_seed(RequestFields& fields, SamplingParams& params) {
  params.seed = random_seed();
  const Json* value = fields.get("seed");
  if (value == nullptr) return;
  int64_t number = 0;
  if (value->is_number_unsigned()) {
    params.seed = value->get<uint64_t>();
  } else if (read_integer(*value, std::numeric_limits<int64_t>::min(), kIntMax, number)) {
    params.seed = static_cast<uint64_t>(number);
  } else {
    fields.fail("seed", "must be an integer between -2^63 and 2^64 - 1");
  }
}

void read_stops(RequestFields& fields, GenerationSpec& spec) {
  const Json* value = fields.get("stop");
  if (value == nullptr) return;
  const bool one = value->is_string();
  if (!one && !value->is_array()) {
    return fields.fail("stop",
                       fmt::format("must be a string or a list of strings, not {}", json_kind(*value)));
  }
  const size_t count = one ? 1 : value->size();
  if (count > limits::kStopStringsMax) {
    return fields.fail("stop",
                       fmt::format("has {} strings, at most {} are allowed", count, limits::kStopStringsMax));
  }
  for (size_t i = 0; i < count; ++i) {
    const Json& stop = one ? *value : (*value)[i];
    if (!stop.is_string())
      return fields.fail("stop", fmt::format("must hold strings, not {}", json_kind(stop)));
    const auto& text = stop.get_ref<const std::string&>();
    if (text.empty()) return fields.fail("stop", "must not hold an empty string");
    if (text.size() > limits::kStopStringBytesMax) {
      return fields.fail("stop", fmt::format("has a string of {} bytes, at most {} are allowed", text.size(),
                                             limits::kStopStringBytesMax));
    }
    spec.stops.push_back(text);
  }
  if (!spec.stops.empty() && spec.model->served.tokenizer == nullptr) {
    fields.fail("stop", "needs text, and this model has no tokenizer: use stop_token_ids");
  }
}

void read_logit_bias(RequestFields& fields, SamplingParams& params) {
  const Json* value = fields.get("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object()) return fields.fail("logit_bias", "must be an object from token id to bias");
  if (value->size() > limits::kLogitBiasMax) {
    return fields.fail("logit_bias", fmt::format("has {} entries, at most {} are allowed", value->size(),
                                                 limits::kLogitBiasMax));
  }
  for (const auto& [key, bias] : value->items()) {
    TokenId id = 0;
    const char* end = key.data() + key.size();
    const auto parsed = std::from_chars(key.data(), end, id);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      return fields.fail("logit_bias", "must have token ids as its keys");
    }
    if (!bias.is_number()) return fields.fail("logit_bias", "must have numbers as its values");
    params.logit_bias.emplace_back(id, static_cast<float>(std::clamp(bias.get<double>(), -1e6, 1e6)));
  }
}

void read_stream_options(RequestFields& fields, GenerationSpec& spec) {
  const Json* value = fields.get("stream_options");
  if (value == nullptr) return;
  if (!value->is_object()) return fields.fail("stream_options", "must be an object");
  if (!spec.stream) return fields.fail("stream_options", "is allowed with stream alone");
  RequestFields options(*value, "stream_options.");
  options.boolean("include_usage", spec.include_usage);
  options.refuse("continuous_usage_stats", "the usage comes once, in the last chunk", false);
  options.refuse("include_obfuscation", "chunks are not padded", false);
  if (Status status = options.finish(); !status.ok()) fields.fail(std::move(status));
}

void read_cache_salt(RequestFields& fields, GenerationSpec& spec) {
  std::string key;
  const bool salted = fields.string("cache_salt", limits::kCacheSaltBytesMax, spec.cache_salt);
  const bool keyed = fields.string("prompt_cache_key", limits::kCacheSaltBytesMax, key);
  if (salted && keyed) fields.fail("prompt_cache_key", "and cache_salt exclude each other");
  if (keyed && !salted) spec.cache_salt = std::move(key);
}

// Known parameters of this API that Gantry does not have.
void refuse_unsupported(RequestFields& fields) {
  fields.refuse("tools", "tool calls are not available", Json::array());
  fields.refuse("tool_choice", "tool calls are not available", "none");
  fields.refuse("parallel_tool_calls", "tool calls are not available");
  fields.refuse("functions", "tool calls are not available", Json::array());
  fields.refuse("function_call", "tool calls are not available", "none");
  fields.refuse("response_format", "the answer is text; only {\"type\": \"text\"} is available",
                Json{{"type", "text"}});
  fields.refuse("best_of", "use n");
  fields.refuse("truncate_prompt_tokens", "a prompt is never cut; one longer than the context is an error");
}

}  // namespace

bool read_token_ids(RequestFields& fields, std::string_view name, const Json& list,
                    std::vector<TokenId>& ids) {
  ids.reserve(list.size());
  for (const Json& item : list) {
    int64_t id = 0;
    if (!read_integer(item, 0, kIntMax, id)) {
      fields.fail(name, "must hold token ids");
      return false;
    }
    ids.push_back(static_cast<TokenId>(id));
  }
  return true;
}

void read_max_tokens(RequestFields& fields, std::string_view name, int32_t low, GenerationSpec& spec) {
  if (fields.integer(name, low, kIntMax, spec.params.max_tokens)) spec.max_tokens_given = true;
}

void read_shared_fields(RequestFields& fields, GenerationSpec& spec) {
  SamplingParams& params = spec.params;
  const SamplingDefaults& defaults = spec.model->served.defaults;
  params.temperature = defaults.temperature.value_or(params.temperature);
  params.top_p = defaults.top_p.value_or(params.top_p);
  params.top_k = defaults.top_k.value_or(params.top_k);
  params.min_p = defaults.min_p.value_or(params.min_p);
  params.repetition_penalty = defaults.repetition_penalty.value_or(params.repetition_penalty);
  params.eos_token_ids = spec.model->eos;

  fields.boolean("stream", spec.stream);
  read_stream_options(fields, spec);
  fields.integer("n", 1, limits::kChoicesMax, params.n);
  fields.number("temperature", params.temperature);
  fields.number("top_p", params.top_p);
  if (fields.integer("top_k", -1, kIntMax, params.top_k) && params.top_k < 0)
    params.top_k = 0;  // -1: all, as vllm
  fields.number("min_p", params.min_p);
  fields.number("presence_penalty", params.presence_penalty);
  fields.number("frequency_penalty", params.frequency_penalty);
  fields.number("repetition_penalty", params.repetition_penalty);
  read_seed(fields, params);
  read_stops(fields, spec);
  read_logit_bias(fields, params);
  fields.integer("min_tokens", 0, kIntMax, params.min_tokens);
  fields.boolean("ignore_eos", params.ignore_eos);
  fields.boolean("return_token_ids", spec.return_token_ids);
  fields.integer("priority", std::numeric_limits<int32_t>::min(), kIntMax, spec.priority);
  fields.string("user", limits::kUserBytesMax, spec.tenant);
  read_cache_salt(fields, spec);
  if (const Json* ids = fields.get("stop_token_ids")) {
    if (!ids->is_array()) {
      fields.fail("stop_token_ids", "must be a list of token ids");
    } else {
      read_token_ids(fields, "stop_token_ids", *ids, params.stop_token_ids);
    }
  }
  refuse_unsupported(fields);
}

}  // namespace gantry
