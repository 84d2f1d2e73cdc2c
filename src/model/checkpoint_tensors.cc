#include "model/checkpoint_tensors.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <optional>
#include <unordered_map>

#include "kernels/ops/packed_weight.h"
#include "model/json_fields.h"

namespace gantry {
namespace {

using Place = CheckpointTensor::Place;

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Adds tensors of one place under a prefix.
class Writer {
 public:
  Writer(const WeightFormat& format, std::vector<CheckpointTensor>& out) : format_(format), out_(out) {}

  void at(Place place, int32_t layer, std::string prefix) {
    place_ = place;
    layer_ = layer;
    prefix_ = std::move(prefix);
  }
  void expert(int32_t index) { expert_ = index; }

  void tensor(const std::string& name, Shape shape, TensorSplit split, DType dtype) {
    out_.push_back({prefix_ + name, dtype, shape, place_, layer_, expert_, split});
  }
  void vector(const std::string& name, int64_t size) {
    tensor(name + ".weight", {size}, TensorSplit::kWhole, format_.dtype);
  }
  void matrix(const std::string& name, int64_t rows, int64_t cols, TensorSplit split) {
    tensor(name + ".weight", {rows, cols}, split, format_.dtype);
  }
  // A linear whose weight is quantised where the format says so.
  void linear(const std::string& name, int64_t rows, int64_t cols, TensorSplit split, bool bias = false) {
    if (format_.fp8_block == 0) {
      matrix(name, rows, cols, split);
    } else {
      tensor(name + ".weight", {rows, cols}, split, DType::kF8E4M3);
      tensor(name + ".weight_scale_inv",
             {ceil_div(rows, format_.fp8_block), ceil_div(cols, format_.fp8_block)}, split, DType::kF32);
    }
    const TensorSplit bias_split = split == TensorSplit::kColumns ? TensorSplit::kFirstRank : split;
    if (bias) tensor(name + ".bias", {rows}, bias_split, format_.dtype);
  }

 private:
  const WeightFormat& format_;
  std::vector<CheckpointTensor>& out_;
  Place place_ = Place::kEmbedding;
  int32_t layer_ = 0;
  int32_t expert_ = -1;
  std::string prefix_;
};

void write_attention(const ModelConfig& config, Writer& out) {
  const int64_t q_rows = int64_t{config.heads} * config.head_dim;
  const int64_t kv_rows = int64_t{config.kv_heads} * config.head_dim;
  out.linear("self_attn.q_proj", q_rows, config.hidden, TensorSplit::kRows, config.qkv_bias);
  out.linear("self_attn.k_proj", kv_rows, config.hidden, TensorSplit::kKvRows, config.qkv_bias);
  out.linear("self_attn.v_proj", kv_rows, config.hidden, TensorSplit::kKvRows, config.qkv_bias);
  out.linear("self_attn.o_proj", config.hidden, q_rows, TensorSplit::kColumns, config.output_bias);
}

void write_mla(const ModelConfig& config, Writer& out) {
  const MlaConfig& mla = *config.mla;
  const int64_t heads = config.heads;
  const int64_t q_rows = heads * config.head_dim;
  if (mla.q_lora_rank > 0) {
    out.linear("self_attn.q_a_proj", mla.q_lora_rank, config.hidden, TensorSplit::kWhole, config.qkv_bias);
    out.vector("self_attn.q_a_layernorm", mla.q_lora_rank);
    out.linear("self_attn.q_b_proj", q_rows, mla.q_lora_rank, TensorSplit::kRows);
  } else {
    out.linear("self_attn.q_proj", q_rows, config.hidden, TensorSplit::kRows);
  }
  out.linear("self_attn.kv_a_proj_with_mqa", mla.kv_lora_rank + mla.qk_rope_head_dim, config.hidden,
             TensorSplit::kWhole, config.qkv_bias);
  out.vector("self_attn.kv_a_layernorm", mla.kv_lora_rank);
  out.linear("self_attn.kv_b_proj", heads * (mla.qk_nope_head_dim + mla.v_head_dim), mla.kv_lora_rank,
             TensorSplit::kRows);
  out.linear("self_attn.o_proj", config.hidden, heads * mla.v_head_dim, TensorSplit::kColumns,
             config.output_bias);
}

void write_mlp(const std::string& base, int64_t hidden, int64_t width, bool bias, Writer& out) {
  out.linear(base + "gate_proj", width, hidden, TensorSplit::kRows, bias);
  out.linear(base + "up_proj", width, hidden, TensorSplit::kRows, bias);
  out.linear(base + "down_proj", hidden, width, TensorSplit::kColumns, bias);
}

void write_moe(const ModelConfig& config, Writer& out) {
  const MoeConfig& moe = *config.moe;
  out.matrix("mlp.gate", moe.experts, config.hidden, TensorSplit::kWhole);
  out.tensor("mlp.gate.e_score_correction_bias", {moe.experts}, TensorSplit::kWhole, DType::kF32);
  for (int32_t e = 0; e < moe.experts; ++e) {
    out.expert(e);
    write_mlp(fmt::format("mlp.experts.{}.", e), config.hidden, moe.intermediate, false, out);
  }
  out.expert(-1);
  if (moe.shared_experts > 0) {
    write_mlp("mlp.shared_experts.", config.hidden, int64_t{moe.shared_experts} * moe.intermediate, false,
              out);
  }
}

void write_layer(const ModelConfig& config, int32_t layer, Writer& out) {
  out.vector("input_layernorm", config.hidden);
  out.vector("post_attention_layernorm", config.hidden);
  if (config.mla) {
    write_mla(config, out);
  } else {
    write_attention(config, out);
  }
  if (config.moe && layer >= config.moe->first_dense_layers) {
    write_moe(config, out);
  } else {
    write_mlp("mlp.", config.hidden, config.intermediate, config.mlp_bias, out);
  }
}

// A multi-token prediction module (arXiv 2412.19437, section 2.2): a layer between a projection of hidden
// state and next token's embedding, and a head of its own.
void write_mtp(const ModelConfig& config, int32_t layer, Writer& out) {
  out.matrix("embed_tokens", config.vocab, config.hidden, TensorSplit::kVocabulary);
  out.vector("enorm", config.hidden);
  out.vector("hnorm", config.hidden);
  out.matrix("eh_proj", config.hidden, 2 * int64_t{config.hidden}, TensorSplit::kWhole);
  write_layer(config, layer, out);
  out.vector("shared_head.norm", config.hidden);
  out.matrix("shared_head.head", config.vocab, config.hidden, TensorSplit::kVocabulary);
}

std::string layer_prefix(int32_t layer) { return fmt::format("model.layers.{}.", layer); }

std::optional<int32_t> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int32_t layer = 0;
  const char* begin = name.data() + kPrefix.size();
  const auto parsed = std::from_chars(begin, name.data() + name.size(), layer);
  if (parsed.ec != std::errc() || layer < 0) return std::nullopt;
  return layer;
}

// What llama.cpp's names become that the published files do not have.
TensorSplit split_of_other(std::string_view name) {
  // [heads, ...]: MLA's up-projections by head.
  const bool by_head =
      name.ends_with("self_attn.k_b_proj.weight") || name.ends_with("self_attn.v_b_proj.weight");
  return by_head ? TensorSplit::kRows : TensorSplit::kWhole;
}

}  // namespace

Result<WeightFormat> parse_weight_format(const nlohmann::json& config, const ModelConfig& model) {
  WeightFormat format;
  JsonFields fields(config, "");
  constexpr std::array<std::string_view, 3> kDTypes{"bfloat16", "float16", "float32"};
  const std::string_view dtype = fields.word(fields.has("dtype") ? "dtype" : "torch_dtype", kDTypes);
  GANTRY_RETURN_IF_ERROR(fields.status());
  if (dtype == "float16") format.dtype = DType::kF16;
  if (dtype == "float32") format.dtype = DType::kF32;
  if (model.fp8) format.fp8_block = kScaleBlock;
  return format;
}

std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config, const WeightFormat& format) {
  std::vector<CheckpointTensor> tensors;
  Writer out(format, tensors);
  out.at(Place::kEmbedding, 0, "model.");
  out.matrix("embed_tokens", config.vocab, config.hidden, TensorSplit::kVocabulary);
  for (int32_t i = 0; i < config.layers; ++i) {
    out.at(Place::kLayer, i, layer_prefix(i));
    write_layer(config, i, out);
  }
  out.at(Place::kHead, 0, "model.");
  out.vector("norm", config.hidden);
  out.at(Place::kHead, 0, "");
  if (!config.tied_embeddings) out.matrix("lm_head", config.vocab, config.hidden, TensorSplit::kVocabulary);
  for (int32_t i = config.layers; i < config.layers + config.mtp_layers; ++i) {
    out.at(Place::kMtp, i, layer_prefix(i));
    write_mtp(config, i, out);
  }
  return tensors;
}

std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config, const WeightSource& source) {
  std::unordered_map<std::string, CheckpointTensor> known;
  for (CheckpointTensor& tensor : checkpoint_tensors(config, WeightFormat{.fp8_block = kScaleBlock})) {
    std::string name = tensor.name;
    known.emplace(std::move(name), std::move(tensor));
  }
  std::vector<CheckpointTensor> tensors;
  tensors.reserve(source.weights().size());
  for (const WeightInfo& info : source.weights()) {
    CheckpointTensor tensor;
    if (const auto it = known.find(info.name); it != known.end()) {
      tensor = it->second;
    } else {
      tensor.split = split_of_other(info.name);
      tensor.place = Place::kEverywhere;
      if (const auto layer = layer_of(info.name)) {
        tensor.place = *layer < config.layers ? Place::kLayer : Place::kMtp;
        tensor.layer = *layer;
      }
    }
    tensor.name = info.name;
    tensor.dtype = info.view.dtype;
    tensor.shape = info.view.shape;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace gantry
