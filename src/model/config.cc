#include "model/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "kernels/ops/packed_weight.h"
#include "model/json_fields.h"

namespace gantry {
namespace {

using nlohmann::json;

constexpr std::string_view kLlama = "LlamaForCausalLM";
constexpr std::string_view kQwen2 = "Qwen2ForCausalLM";
constexpr std::string_view kDeepseekV3 = "DeepseekV3ForCausalLM";
constexpr std::array kArchitectures{kLlama, kQwen2, kDeepseekV3};

constexpr JsonFields::IntRange kWidth{1, limits::kModelWidthMax};
constexpr JsonFields::IntRange kHeads{1, limits::kModelHeadsMax};
constexpr JsonFields::IntRange kHeadDim{1, limits::kModelHeadDimMax};
constexpr JsonFields::IntRange kPositions{1, limits::kModelPositionsMax};
constexpr JsonFields::IntRange kExperts{1, limits::kExpertsMax};

// Keys of published files that do not change what the model computes: training, bookkeeping, and the
// generation defaults that transformers used to store here.
constexpr std::string_view kHarmless[] = {
    "add_cross_attention",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "aux_loss_alpha",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "ep_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_window_layers",
    "min_length",
    "mlp_dropout",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "sep_token_id",
    "seq_aux",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
};

// The first of config's architectures that is supported.
std::string_view read_architecture(JsonFields& fields) {
  const json* names = fields.get("architectures");
  if (names == nullptr || !names->is_array()) {
    fields.fail(invalid_argument(
        "architectures is missing: want a list with one of " + supported_architectures(), "architectures"));
    return kLlama;
  }
  for (const json& name : *names) {
    if (!name.is_string()) continue;
    const auto it =
        std::find(kArchitectures.begin(), kArchitectures.end(), name.get_ref<const std::string&>());
    if (it != kArchitectures.end()) return *it;
  }
  fields.fail(unimplemented(fmt::format("architectures {} is not supported; supported: {}",
                                        json_excerpt(*names), supported_architectures()),
                            "architectures"));
  return kLlama;
}

// FP8 as DeepSeek publishes it; every other quantisation is refused.
std::optional<Fp8Config> read_quantization(JsonFields& fields) {
  const json* compression = fields.get("compression_config");
  const json* value = fields.get("quantization_config");
  if (value == nullptr && compression == nullptr) return std::nullopt;
  const std::string name = compression != nullptr ? "compression_config" : "quantization_config";
  if (compression != nullptr) value = compression;
  const json method = value->is_object() ? value->value("quant_method", json()) : json();
  if (method != "fp8" || compression != nullptr) {
    fields.fail(unimplemented(
        fmt::format("{} (quant_method {}) is not supported; supported weights: F32, F16 and BF16 "
                    "safetensors, DeepSeek's FP8 (quant_method fp8 with 128 x 128 blocks), and GGUF",
                    name, json_excerpt(method)),
        name));
    return std::nullopt;
  }
  JsonFields dict(*value, name + ".");
  constexpr std::array<std::string_view, 1> kMethod{"fp8"}, kFormat{"e4m3"}, kScheme{"dynamic"};
  constexpr std::array<std::string_view, 2> kScaleFormat{"float", "ue8m0"};
  dict.word("quant_method", kMethod);
  dict.word("fmt", kFormat);
  dict.word("activation_scheme", kScheme);
  const Fp8Config fp8{.power_of_two_scales = dict.word("scale_fmt", kScaleFormat) == "ue8m0"};
  const json* block = dict.get("weight_block_size");
  if (block == nullptr || *block != json::array({kScaleBlock, kScaleBlock})) {
    dict.fail(
        unimplemented(fmt::format("{}.weight_block_size {} is not supported; supported: [{}, {}]", name,
                                  json_excerpt(block != nullptr ? *block : json()), kScaleBlock, kScaleBlock),
                      name + ".weight_block_size"));
  }
  // Names of modules that stay in bf16: their tensors' dtypes say so too.
  constexpr std::array<std::string_view, 3> kHarmlessInDict{"modules_to_not_convert", "ignored_layers",
                                                            "dequantize"};
  if (dict.status().ok()) dict.fail(dict.refuse_unknown(kHarmlessInDict));
  if (!dict.status().ok()) fields.fail(dict.status());
  return fp8;
}

// Keys that change the computation, known by the one value that Gantry computes.
void refuse_other_values(JsonFields& fields) {
  constexpr std::array<std::string_view, 2> kActivation{"silu", "swish"};
  fields.word("hidden_act", kActivation);
  for (const std::string_view key : {"use_sliding_window", "use_mrope", "rope_interleaved", "use_qk_norm",
                                     "qk_layernorm", "use_parallel_residual"}) {
    if (fields.boolean(key, false)) {
      fields.fail(unimplemented(fmt::format("{} is not supported; supported: false", key), std::string(key)));
    }
  }
  if (fields.number("partial_rotary_factor", {0, 1}, 1.0) != 1.0) {
    fields.fail(
        unimplemented("partial_rotary_factor is not supported; supported: 1", "partial_rotary_factor"));
  }
  if (const json* types = fields.get("layer_types"); types != nullptr) {
    const bool full = types->is_array() && std::all_of(types->begin(), types->end(), [](const json& type) {
                        return type == "full_attention";
                      });
    if (!full) {
      fields.fail(unimplemented(fmt::format("layer_types {} is not supported; supported: full_attention in "
                                            "every layer",
                                            json_excerpt(*types)),
                                "layer_types"));
    }
  }
}

// rope_theta, and rope_scaling or its newer spelling rope_parameters {rope_type, rope_theta, ...}.
RopeConfig read_rope(JsonFields& fields, int32_t max_position) {
  constexpr JsonFields::NumberRange kTheta{1.0, 1e15};
  constexpr JsonFields::NumberRange kFactor{0.0, 1e6};
  RopeConfig rope;
  rope.theta = fields.number("rope_theta", kTheta, 10000.0);
  rope.interleaved = fields.boolean("gantry_rope_interleaved", false);
  const int32_t original_max_position = fields.integer("original_max_position_embeddings", kPositions, 0);

  const json* parameters = fields.get("rope_parameters");
  std::string name = "rope_parameters";
  if (const json* scaling = fields.get("rope_scaling"); scaling != nullptr) {
    parameters = scaling;
    name = "rope_scaling";
  }
  if (parameters == nullptr) return rope;
  if (!parameters->is_object()) {
    fields.fail(
        invalid_argument(fmt::format("{} is {}: want an object", name, json_excerpt(*parameters)), name));
    return rope;
  }

  JsonFields dict(*parameters, name + ".");
  constexpr std::array<std::string_view, 4> kTypes{"default", "linear", "llama3", "yarn"};
  const std::string_view type = dict.word(dict.has("rope_type") ? "rope_type" : "type", kTypes);
  dict.get("type");  // both spellings may be present
  rope.theta = dict.number("rope_theta", kTheta, rope.theta);
  if (dict.number("partial_rotary_factor", {0, 1}, 1.0) != 1.0) {
    dict.fail(unimplemented(name + ".partial_rotary_factor is not supported; supported: 1", name));
  }
  if (type != "default") {
    // As transformers: the top-level key goes first, and without either it is max_position_embeddings.
    const int32_t original = dict.integer("original_max_position_embeddings", kPositions, max_position);
    rope.original_max_position = original_max_position > 0 ? original_max_position : original;
    const bool derived = type == "yarn" && !dict.has("factor");
    if (!derived && !dict.has("factor")) {
      dict.fail(invalid_argument(fmt::format("{}.factor is missing", name), name));
    }
    rope.factor =
        dict.number("factor", kFactor,
                    static_cast<double>(max_position) / static_cast<double>(rope.original_max_position));
  }
  if (type == "linear") rope.scaling = RopeConfig::Scaling::kLinear;
  if (type == "llama3") {
    rope.scaling = RopeConfig::Scaling::kLlama3;
    rope.low_freq_factor = dict.number("low_freq_factor", kFactor, 1.0);
    rope.high_freq_factor = dict.number("high_freq_factor", kFactor, 4.0);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      dict.fail(invalid_argument(fmt::format("{}.high_freq_factor {} is not above low_freq_factor {}", name,
                                             rope.high_freq_factor, rope.low_freq_factor),
                                 name));
    }
  }
  if (type == "yarn") {
    rope.scaling = RopeConfig::Scaling::kYarn;
    rope.beta_fast = dict.number("beta_fast", kFactor, 32.0);
    rope.beta_slow = dict.number("beta_slow", kFactor, 1.0);
    rope.attention_factor = dict.number("attention_factor", {0, 1e3}, 0.0);
    // 0 reads as absent, as in transformers.
    rope.mscale = dict.number("mscale", {-1e-300, 1e3}, 0.0);
    rope.mscale_all_dim = dict.number("mscale_all_dim", {-1e-300, 1e3}, 0.0);
    rope.truncate = dict.boolean("truncate", true);
  }
  constexpr std::array<std::string_view, 2> kHarmlessInDict{"finetuned", "rope_type"};
  if (dict.status().ok()) dict.fail(dict.refuse_unknown(kHarmlessInDict));
  if (!dict.status().ok()) fields.fail(dict.status());
  return rope;
}

// Llama (arXiv 2302.13971, 2407.21783) and Qwen2 (arXiv 2407.10671): grouped-query attention.
void read_attention(JsonFields& fields, ModelConfig& model) {
  model.kv_heads = fields.integer("num_key_value_heads", kHeads, model.heads);
  if (!fields.has("head_dim") && model.hidden % model.heads != 0) {
    fields.fail(
        invalid_argument(fmt::format("hidden_size {} is no multiple of num_attention_heads {}, and there "
                                     "is no head_dim",
                                     model.hidden, model.heads),
                         "num_attention_heads"));
  }
  model.head_dim = fields.integer("head_dim", kHeadDim, model.hidden / model.heads);
  if (model.heads % model.kv_heads != 0) {
    fields.fail(
        invalid_argument(fmt::format("num_attention_heads {} is no multiple of num_key_value_heads {}",
                                     model.heads, model.kv_heads),
                         "num_key_value_heads"));
  }
  if (model.head_dim % 2 != 0) {
    fields.fail(invalid_argument(
        fmt::format("head_dim {} is odd: rotary embedding turns pairs", model.head_dim), "head_dim"));
  }
}

void read_llama(JsonFields& fields, ModelConfig& model) {
  read_attention(fields, model);
  model.qkv_bias = model.output_bias = fields.boolean("attention_bias", false);
  model.mlp_bias = fields.boolean("mlp_bias", false);
  if (fields.get("sliding_window") != nullptr) {
    fields.fail(unimplemented("sliding_window is not supported in LlamaForCausalLM; supported: null",
                              "sliding_window"));
  }
}

void read_qwen2(JsonFields& fields, ModelConfig& model) {
  read_attention(fields, model);
  model.qkv_bias = true;
  fields.get("sliding_window");  // in use only with use_sliding_window
}

// DeepSeek-V3 (arXiv 2412.19437): multi-head latent attention.
void read_mla(JsonFields& fields, ModelConfig& model) {
  MlaConfig mla;
  mla.q_lora_rank = fields.integer("q_lora_rank", kHeadDim, 0);
  mla.kv_lora_rank = fields.required_integer("kv_lora_rank", kHeadDim);
  mla.qk_nope_head_dim = fields.required_integer("qk_nope_head_dim", kHeadDim);
  mla.qk_rope_head_dim = fields.required_integer("qk_rope_head_dim", kHeadDim);
  mla.v_head_dim = fields.required_integer("v_head_dim", kHeadDim);
  if (mla.qk_rope_head_dim % 2 != 0) {
    fields.fail(invalid_argument(
        fmt::format("qk_rope_head_dim {} is odd: rotary embedding turns pairs", mla.qk_rope_head_dim),
        "qk_rope_head_dim"));
  }
  model.head_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim;
  model.kv_heads = fields.integer("num_key_value_heads", kHeads, model.heads);
  if (model.kv_heads != model.heads) {
    fields.fail(
        invalid_argument(fmt::format("num_key_value_heads {} differs from num_attention_heads {}: latent "
                                     "attention has one key for all heads",
                                     model.kv_heads, model.heads),
                         "num_key_value_heads"));
  }
  fields.get("qk_head_dim");  // written by transformers, derived from the keys above; so is head_dim
  fields.get("head_dim");
  model.qkv_bias = model.output_bias = fields.boolean("attention_bias", false);
  model.mla = mla;
}

void read_moe(JsonFields& fields, ModelConfig& model) {
  constexpr std::array<std::string_view, 1> kScoring{"sigmoid"};
  constexpr std::array<std::string_view, 1> kTopk{"noaux_tc"};
  fields.word("scoring_func", kScoring);
  fields.word("topk_method", kTopk);
  fields.integer("moe_layer_freq", {1, 1}, 1);
  MoeConfig moe;
  const std::string_view experts = fields.has("num_local_experts") ? "num_local_experts" : "n_routed_experts";
  moe.experts = fields.required_integer(experts, kExperts);
  fields.get("n_routed_experts");
  moe.experts_per_token = fields.required_integer("num_experts_per_tok", kExperts);
  moe.shared_experts = fields.integer("n_shared_experts", {0, limits::kExpertsMax}, 0);
  moe.intermediate = fields.required_integer("moe_intermediate_size", kWidth);
  moe.groups = fields.integer("n_group", kExperts, 1);
  moe.topk_group = fields.integer("topk_group", kExperts, 1);
  moe.norm_topk_prob = fields.boolean("norm_topk_prob", true);
  moe.routed_scaling_factor = fields.number("routed_scaling_factor", {0, 1e6}, 1.0);
  moe.first_dense_layers = fields.integer("first_k_dense_replace", {0, limits::kLayersMax}, 0);
  if (moe.experts % moe.groups != 0) {
    fields.fail(invalid_argument(
        fmt::format("n_routed_experts {} is no multiple of n_group {}", moe.experts, moe.groups), "n_group"));
  } else if (moe.topk_group > moe.groups) {
    fields.fail(invalid_argument(fmt::format("topk_group {} exceeds n_group {}", moe.topk_group, moe.groups),
                                 "topk_group"));
  } else if (moe.experts_per_token > moe.topk_group * (moe.experts / moe.groups)) {
    fields.fail(invalid_argument(
        fmt::format("num_experts_per_tok {} exceeds the {} experts of {} of {} groups", moe.experts_per_token,
                    moe.topk_group * (moe.experts / moe.groups), moe.topk_group, moe.groups),
        "num_experts_per_tok"));
  } else if (int64_t{moe.shared_experts} * moe.intermediate > limits::kModelWidthMax) {
    fields.fail(invalid_argument(fmt::format("n_shared_experts {} times moe_intermediate_size {} exceeds {}",
                                             moe.shared_experts, moe.intermediate, limits::kModelWidthMax),
                                 "n_shared_experts"));
  }
  model.moe = moe;
}

void read_deepseek_v3(JsonFields& fields, ModelConfig& model) {
  read_mla(fields, model);
  read_moe(fields, model);
  const std::string_view mtp = fields.has("num_mtp_layers") ? "num_mtp_layers" : "num_nextn_predict_layers";
  model.mtp_layers = fields.integer(mtp, {0, limits::kLayersMax}, 0);
  fields.get("num_nextn_predict_layers");
  // The published files hold the rotary rows in pairs (2i, 2i + 1).
  model.rope.interleaved = fields.boolean("rope_interleave", true);
}

void read_special_tokens(JsonFields& fields, const json& generation_config, ModelConfig& model) {
  model.eos = fields.ids("eos_token_id", model.vocab, limits::kModelEosIdsMax);
  if (const auto bos = fields.ids("bos_token_id", model.vocab, 1); !bos.empty()) model.bos = bos[0];
  if (!generation_config.is_object()) return;
  JsonFields generation(generation_config, "generation_config.");
  for (const TokenId id : generation.ids("eos_token_id", model.vocab, limits::kModelEosIdsMax)) {
    if (std::find(model.eos.begin(), model.eos.end(), id) == model.eos.end()) model.eos.push_back(id);
  }
  if (!generation.status().ok()) fields.fail(generation.status());
}

}  // namespace

std::string supported_architectures() { return fmt::format("{}", fmt::join(kArchitectures, ", ")); }

Result<ModelConfig> parse_model_config(const json& config, const json& generation_config) {
  if (!config.is_object()) return invalid_argument("the model's configuration is no JSON object");
  JsonFields fields(config, "");
  ModelConfig model;
  model.architecture = read_architecture(fields);
  model.fp8 = read_quantization(fields);
  GANTRY_RETURN_IF_ERROR(fields.status());

  model.layers = fields.required_integer("num_hidden_layers", {1, limits::kLayersMax});
  model.hidden = fields.required_integer("hidden_size", kWidth);
  model.heads = fields.required_integer("num_attention_heads", kHeads);
  model.intermediate = fields.required_integer("intermediate_size", kWidth);
  model.vocab = fields.required_integer("vocab_size", {1, static_cast<int64_t>(limits::kVocabularyMax)});
  model.max_position = fields.required_integer("max_position_embeddings", kPositions);
  model.rms_eps = static_cast<float>(fields.number("rms_norm_eps", {0, 1}, 1e-6));
  model.tied_embeddings = fields.boolean("tie_word_embeddings", false);
  GANTRY_RETURN_IF_ERROR(fields.status());

  refuse_other_values(fields);
  model.rope = read_rope(fields, model.max_position);
  if (model.architecture == kLlama) read_llama(fields, model);
  if (model.architecture == kQwen2) read_qwen2(fields, model);
  if (model.architecture == kDeepseekV3) read_deepseek_v3(fields, model);
  read_special_tokens(fields, generation_config, model);
  GANTRY_RETURN_IF_ERROR(fields.status());
  GANTRY_RETURN_IF_ERROR(fields.refuse_unknown(kHarmless));
  return model;
}

}  // namespace gantry
