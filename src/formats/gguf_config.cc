#include "formats/gguf_config.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>
#include <vector>

#include "base/limits.h"
#include "formats/quote_name.h"

namespace gantry {
namespace {

using nlohmann::json;

constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();

// GGUF holds f32: 1e-05 comes back as 9.999999747378752e-06. The shortest decimal that names the float is
// what was published.
double shortest(const GgufValue& value) {
  const auto* single = std::get_if<float>(&value.value);
  if (single == nullptr) return value.as_number().value_or(0);
  char text[32];
  const auto end = std::to_chars(std::begin(text), std::end(text), *single).ptr;
  double number = *single;
  std::from_chars(text, end, number);
  return number;
}

// Reads "ARCH.key" values. The first error sticks; values after it mean nothing. Remembers which keys were
// read.
class Keys {
 public:
  Keys(const GgufFile& gguf, std::string_view arch, const std::string& file)
      : gguf_(gguf), prefix_(std::string(arch) + "."), file_(file) {}

  const Status& status() const { return status_; }
  void fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  const GgufValue* find(std::string_view key) {
    const auto found = gguf_.metadata.find(prefix_ + std::string(key));
    if (found == gguf_.metadata.end()) return nullptr;
    used_.insert(found->first);
    return &found->second;
  }

  // A value for all layers, or a list with the same value for each.
  std::optional<int64_t> integer(std::string_view key, int64_t min, int64_t max = kInt32Max) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    auto number = value->as_int();
    if (const auto list = value->as_ints(); list && !list->empty()) {
      for (const int64_t item : *list) {
        if (item == list->front()) continue;
        fail(unimplemented(
            fmt::format("{}: {}{} differs between layers, which is not supported", file_, prefix_, key)));
      }
      number = list->front();
    }
    if (!number || *number < min || *number > max) {
      fail(data_loss(fmt::format("{}: {}{} is not an integer from {} to {}", file_, prefix_, key, min, max)));
      return std::nullopt;
    }
    return number;
  }
  int64_t needed(std::string_view key, int64_t min, int64_t max = kInt32Max) {
    const auto number = integer(key, min, max);
    if (!number) missing(key);
    return number.value_or(min);
  }
  std::optional<double> number(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->as_number() || !std::isfinite(*value->as_number())) {
      fail(data_loss(fmt::format("{}: {}{} is not a finite number", file_, prefix_, key)));
      return std::nullopt;
    }
    return shortest(*value);
  }
  double needed_number(std::string_view key) {
    const auto value = number(key);
    if (!value) missing(key);
    return value.value_or(0);
  }
  std::optional<bool> flag(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->as_bool()) fail(data_loss(fmt::format("{}: {}{} is not a boolean", file_, prefix_, key)));
    return value->as_bool();
  }
  std::optional<std::string_view> text(std::string_view key) {
    const GgufValue* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->as_string()) fail(data_loss(fmt::format("{}: {}{} is not a string", file_, prefix_, key)));
    return value->as_string();
  }
  // A key that Gantry supports with one value only.
  void only(std::string_view key, int64_t supported) {
    const GgufValue* value = find(key);
    if (value == nullptr) return;
    const auto flag_value = value->as_bool();
    const auto given = flag_value ? std::optional<int64_t>(*flag_value) : value->as_int();
    if (given == supported) return;
    fail(unimplemented(
        fmt::format("{}: {}{} is not supported with a value other than {}", file_, prefix_, key, supported)));
  }
  void ignore(std::string_view key) { find(key); }

  // A key that nobody asked for may change the model's output.
  void refuse_unread() {
    for (auto entry = gguf_.metadata.lower_bound(prefix_);
         entry != gguf_.metadata.end() && entry->first.starts_with(prefix_); ++entry) {
      if (used_.contains(entry->first)) continue;
      fail(unimplemented(
          fmt::format("{}: metadata key {} is not supported", file_, quote_name(entry->first))));
    }
  }

 private:
  void missing(std::string_view key) {
    fail(data_loss(fmt::format("{}: metadata key {}{} is missing", file_, prefix_, key)));
  }

  const GgufFile& gguf_;
  std::string prefix_;
  const std::string& file_;
  Status status_;
  std::set<std::string_view> used_;
};

struct Architecture {
  std::string_view gguf;
  std::string_view hf;
  std::string_view model_type;
};
constexpr Architecture kArchitectures[] = {
    {"llama", "LlamaForCausalLM", "llama"},
    {"qwen2", "Qwen2ForCausalLM", "qwen2"},
    {"deepseek2", "DeepseekV3ForCausalLM", "deepseek_v3"},
};

const GgufTensor* find_tensor(const GgufFile& gguf, std::string_view name) {
  for (const GgufTensor& tensor : gguf.tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// mscale_all_dim: what DeepSeek's files give as yarn_log_multiplier, which is 0.1 x mscale_all_dim. They
// publish the same value as mscale.
void add_rope_scaling(Keys& keys, bool deepseek, const std::string& file, json& config) {
  const auto type = keys.text("rope.scaling.type");
  const auto factor = keys.number("rope.scaling.factor");
  const auto legacy_factor = keys.number("rope.scale_linear");
  const auto original = keys.integer("rope.scaling.original_context_length", 1);
  const auto attention_factor = keys.number("rope.scaling.attn_factor");
  const auto log_multiplier = keys.number("rope.scaling.yarn_log_multiplier");
  const auto beta_fast = keys.number("rope.scaling.yarn_beta_fast");
  const auto beta_slow = keys.number("rope.scaling.yarn_beta_slow");
  keys.ignore("rope.scaling.finetuned");

  if (!type || *type == "none") {
    if (legacy_factor && *legacy_factor != 1) {
      config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", *legacy_factor}};
    }
    return;
  }
  if (*type != "linear" && *type != "yarn") {
    keys.fail(
        unimplemented(fmt::format("{}: rope.scaling.type {} is not supported; supported: none, linear, yarn",
                                  file, quote_name(*type))));
    return;
  }
  if (!factor || *factor <= 0) {
    keys.fail(
        data_loss(fmt::format("{}: rope.scaling.type {} needs a positive rope.scaling.factor", file, *type)));
    return;
  }
  json scaling = {{"rope_type", *type}, {"factor", *factor}};
  if (*type == "yarn") {
    if (original) scaling["original_max_position_embeddings"] = *original;
    if (beta_fast) scaling["beta_fast"] = *beta_fast;
    if (beta_slow) scaling["beta_slow"] = *beta_slow;
    if (deepseek) {
      const double mscale = std::round(log_multiplier.value_or(0) * 1e7) / 1e6;
      scaling["mscale"] = mscale;
      scaling["mscale_all_dim"] = mscale;
    } else if (attention_factor && *attention_factor != 1) {
      scaling["attention_factor"] = *attention_factor * (0.1 * std::log(*factor) + 1.0);
    }
  }
  config["rope_scaling"] = std::move(scaling);
}

void add_dense_attention(Keys& keys, const std::string& file, json& config) {
  const auto heads = config["num_attention_heads"].get<int64_t>();
  const auto hidden = config["hidden_size"].get<int64_t>();
  const int64_t head_dim = keys.integer("attention.key_length", 1).value_or(hidden / heads);
  keys.only("attention.value_length", head_dim);
  config["num_key_value_heads"] = keys.integer("attention.head_count_kv", 1).value_or(heads);
  config["head_dim"] = head_dim;
  const int64_t rotary = keys.integer("rope.dimension_count", 1).value_or(head_dim);
  if (rotary != head_dim) {
    keys.fail(unimplemented(
        fmt::format("{}: rope.dimension_count {} is not supported with heads of {}: all of a head "
                    "is rotated",
                    file, rotary, head_dim)));
  }
  keys.only("expert_count", 0);
  keys.only("expert_used_count", 0);
}

void add_latent_attention(Keys& keys, json& config) {
  const int64_t rope_dim = keys.needed("rope.dimension_count", 1);
  // Since 2025 the file describes the absorbed form (one kv head, key_length 576), and the heads of the
  // published one under *_mla.
  const auto key_length = keys.integer("attention.key_length", 1);
  const auto value_length = keys.integer("attention.value_length", 1);
  const int64_t head_dim = keys.integer("attention.key_length_mla", 1).value_or(key_length.value_or(0));
  keys.ignore("attention.head_count_kv");
  config["num_key_value_heads"] = config["num_attention_heads"];
  config["kv_lora_rank"] = keys.needed("attention.kv_lora_rank", 1);
  const auto q_lora_rank = keys.integer("attention.q_lora_rank", 0);
  config["q_lora_rank"] = q_lora_rank.value_or(0) > 0 ? json(*q_lora_rank) : json(nullptr);
  config["qk_rope_head_dim"] = rope_dim;
  config["qk_nope_head_dim"] = head_dim - rope_dim;
  config["v_head_dim"] = keys.integer("attention.value_length_mla", 1).value_or(value_length.value_or(0));
  config["attention_bias"] = false;
}

void add_experts(Keys& keys, const std::string& file, json& config) {
  config["n_routed_experts"] = keys.needed("expert_count", 1, limits::kExpertsMax);
  config["num_experts_per_tok"] = keys.needed("expert_used_count", 1, limits::kExpertsMax);
  config["n_shared_experts"] = keys.integer("expert_shared_count", 0, limits::kExpertsMax).value_or(0);
  config["moe_intermediate_size"] = keys.needed("expert_feed_forward_length", 1);
  config["first_k_dense_replace"] =
      keys.integer("leading_dense_block_count", 0, limits::kLayersMax).value_or(0);
  config["moe_layer_freq"] = 1;
  config["routed_scaling_factor"] = keys.number("expert_weights_scale").value_or(1.0);
  config["norm_topk_prob"] = keys.flag("expert_weights_norm").value_or(false);
  config["n_group"] = keys.integer("expert_group_count", 1, limits::kExpertsMax).value_or(1);
  config["topk_group"] = keys.integer("expert_group_used_count", 1, limits::kExpertsMax).value_or(1);
  // 1: softmax, which files from before the key have too; 2: sigmoid with a selection bias.
  const int64_t gating = keys.integer("expert_gating_func", 0).value_or(1);
  if (gating > 2) {
    keys.fail(unimplemented(
        fmt::format("{}: expert_gating_func {} is not supported; supported: 2 (sigmoid)", file, gating)));
  }
  config["scoring_func"] = gating == 2 ? "sigmoid" : "softmax";
  config["topk_method"] = gating == 2 ? "noaux_tc" : "greedy";
}

std::string_view torch_dtype(const GgufTensor* embedding) {
  if (embedding != nullptr && embedding->dtype == DType::kF32) return "float32";
  if (embedding != nullptr && embedding->dtype == DType::kBF16) return "bfloat16";
  return "float16";
}

}  // namespace

Result<json> config_from_gguf(const GgufFile& gguf, const std::optional<VocabSpec>& vocab,
                              const std::string& file) {
  const GgufValue* value = gguf.find("general.architecture");
  const auto name = value != nullptr ? value->as_string() : std::nullopt;
  if (!name) return data_loss(file + ": metadata key general.architecture is missing or not a string");
  const Architecture* architecture = nullptr;
  for (const Architecture& known : kArchitectures) {
    if (known.gguf == *name) architecture = &known;
  }
  if (architecture == nullptr) {
    return unimplemented(
        fmt::format("{}: general.architecture {} is not supported; supported: llama, qwen2, deepseek2", file,
                    quote_name(*name)));
  }

  Keys keys(gguf, *name, file);
  const GgufTensor* embedding = find_tensor(gguf, "token_embd.weight");
  json config = {{"architectures", json::array({architecture->hf})},
                 {"model_type", architecture->model_type},
                 {"hidden_act", "silu"}};
  config["hidden_size"] = keys.needed("embedding_length", 1);
  config["num_hidden_layers"] = keys.needed("block_count", 1, limits::kLayersMax);
  config["num_attention_heads"] = keys.needed("attention.head_count", 1);
  config["intermediate_size"] = keys.needed("feed_forward_length", 1);
  config["rms_norm_eps"] = keys.needed_number("attention.layer_norm_rms_epsilon");
  config["max_position_embeddings"] = keys.needed("context_length", 1);
  config["rope_theta"] = keys.number("rope.freq_base").value_or(10000.0);
  const auto vocab_size = keys.integer("vocab_size", 1);
  if (vocab_size) {
    config["vocab_size"] = *vocab_size;
  } else if (vocab) {
    config["vocab_size"] = vocab->tokens.size();
  } else if (embedding != nullptr && embedding->shape.rank() == 2) {
    config["vocab_size"] = embedding->shape[0];
  }
  config["tie_word_embeddings"] = find_tensor(gguf, "output.weight") == nullptr;
  config["torch_dtype"] = torch_dtype(embedding);
  if (vocab && vocab->bos) config["bos_token_id"] = *vocab->bos;
  if (vocab && !vocab->eos.empty()) config["eos_token_id"] = vocab->eos;

  const bool deepseek = *name == "deepseek2";
  add_rope_scaling(keys, deepseek, file, config);
  if (deepseek) {
    add_latent_attention(keys, config);
    add_experts(keys, file, config);
    keys.only("nextn_predict_layers", 0);
  } else {
    add_dense_attention(keys, file, config);
  }
  if (*name == "llama") {
    config["attention_bias"] = find_tensor(gguf, "blk.0.attn_q.bias") != nullptr;
    config["mlp_bias"] = find_tensor(gguf, "blk.0.ffn_gate.bias") != nullptr;
    config["gantry_rope_interleaved"] = true;
  }

  keys.only("use_parallel_residual", 0);
  keys.only("attention.causal", 1);
  keys.only("attention.sliding_window", 0);
  keys.only("pooling_type", 0);
  keys.ignore("tensor_data_layout");
  keys.refuse_unread();
  if (!keys.status().ok()) return keys.status();
  return config;
}

Result<json> generation_config_from_gguf(const GgufFile& gguf, const std::string& file) {
  json config = json::object();
  Keys keys(gguf, "general.sampling", file);
  if (const auto temperature = keys.number("temp")) config["temperature"] = *temperature;
  if (const auto top_p = keys.number("top_p")) config["top_p"] = *top_p;
  if (const auto min_p = keys.number("min_p")) config["min_p"] = *min_p;
  if (const auto top_k = keys.integer("top_k", 0)) config["top_k"] = *top_k;
  if (const auto penalty = keys.number("penalty_repeat")) config["repetition_penalty"] = *penalty;
  if (!keys.status().ok()) return keys.status();
  return config;
}

}  // namespace gantry
