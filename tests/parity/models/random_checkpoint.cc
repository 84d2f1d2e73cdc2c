#include "random_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include "base/check.h"
#include "tensor/convert.h"

namespace gantry::testing {
namespace {

using nlohmann::json;

// Names and shapes, as published files have them.
class TensorList {
 public:
  void add(std::string name, Shape shape) { shapes_.emplace_back(std::move(name), shape); }
  void linear(const std::string& name, int64_t rows, int64_t cols, bool bias = false) {
    add(name + ".weight", {rows, cols});
    if (bias) add(name + ".bias", {rows});
  }
  void mlp(const std::string& base, int64_t hidden, int64_t width, bool bias = false) {
    linear(base + "gate_proj", width, hidden, bias);
    linear(base + "up_proj", width, hidden, bias);
    linear(base + "down_proj", hidden, width, bias);
  }
  const std::vector<std::pair<std::string, Shape>>& shapes() const { return shapes_; }

 private:
  std::vector<std::pair<std::string, Shape>> shapes_;
};

int64_t number(const json& config, const char* key, int64_t fallback = 0) {
  const auto it = config.find(key);
  return it == config.end() || it->is_null() ? fallback : it->get<int64_t>();
}

void add_latent_attention(const json& config, const std::string& base, TensorList& list) {
  const int64_t hidden = number(config, "hidden_size"), heads = number(config, "num_attention_heads");
  const int64_t nope = number(config, "qk_nope_head_dim"), rope = number(config, "qk_rope_head_dim");
  const int64_t value = number(config, "v_head_dim"), latent = number(config, "kv_lora_rank");
  const int64_t q_lora = number(config, "q_lora_rank");
  const bool bias = config.value("attention_bias", false);
  if (q_lora > 0) {
    list.linear(base + "q_a_proj", q_lora, hidden, bias);
    list.add(base + "q_a_layernorm.weight", {q_lora});
    list.linear(base + "q_b_proj", heads * (nope + rope), q_lora);
  } else {
    list.linear(base + "q_proj", heads * (nope + rope), hidden);
  }
  list.linear(base + "kv_a_proj_with_mqa", latent + rope, hidden, bias);
  list.add(base + "kv_a_layernorm.weight", {latent});
  list.linear(base + "kv_b_proj", heads * (nope + value), latent);
  list.linear(base + "o_proj", hidden, heads * value, bias);
}

void add_attention(const json& config, const std::string& base, TensorList& list) {
  const int64_t hidden = number(config, "hidden_size"), heads = number(config, "num_attention_heads");
  const int64_t dim = number(config, "head_dim", hidden / heads);
  const int64_t kv_rows = number(config, "num_key_value_heads", heads) * dim;
  const bool bias = config.value("attention_bias", false);
  const bool qkv_bias = bias || config.at("model_type") == "qwen2";
  list.linear(base + "q_proj", heads * dim, hidden, qkv_bias);
  list.linear(base + "k_proj", kv_rows, hidden, qkv_bias);
  list.linear(base + "v_proj", kv_rows, hidden, qkv_bias);
  list.linear(base + "o_proj", hidden, heads * dim, bias);
}

TensorList tensor_list(const json& config) {
  const int64_t hidden = number(config, "hidden_size"), vocab = number(config, "vocab_size");
  TensorList list;
  list.add("model.embed_tokens.weight", {vocab, hidden});
  list.add("model.norm.weight", {hidden});
  if (!config.value("tie_word_embeddings", false)) list.add("lm_head.weight", {vocab, hidden});
  const int64_t layers = number(config, "num_hidden_layers");
  for (int64_t i = 0; i < layers + number(config, "num_nextn_predict_layers"); ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    if (i >= layers) {
      list.linear(layer + "eh_proj", hidden, 2 * hidden);
      for (const char* norm : {"enorm", "hnorm", "shared_head.norm"}) {
        list.add(layer + norm + ".weight", {hidden});
      }
      list.add(layer + "embed_tokens.weight", {vocab, hidden});
      list.add(layer + "shared_head.head.weight", {vocab, hidden});
    }
    list.add(layer + "input_layernorm.weight", {hidden});
    list.add(layer + "post_attention_layernorm.weight", {hidden});
    if (config.contains("kv_lora_rank")) {
      add_latent_attention(config, layer + "self_attn.", list);
    } else {
      add_attention(config, layer + "self_attn.", list);
    }
    const int64_t experts = number(config, "n_routed_experts");
    if (experts == 0 || i < number(config, "first_k_dense_replace")) {
      list.mlp(layer + "mlp.", hidden, number(config, "intermediate_size"), config.value("mlp_bias", false));
      continue;
    }
    const int64_t width = number(config, "moe_intermediate_size");
    list.add(layer + "mlp.gate.weight", {experts, hidden});
    list.add(layer + "mlp.gate.e_score_correction_bias", {experts});
    for (int64_t e = 0; e < experts; ++e) list.mlp(fmt::format("{}mlp.experts.{}.", layer, e), hidden, width);
    list.mlp(layer + "mlp.shared_experts.", hidden, width * number(config, "n_shared_experts"));
  }
  return list;
}

// Weights of unit gain; norms around 1; gate biases at or below 0, so that masking groups with 0 shows.
std::vector<float> values(const json& config, const std::string& name, const Shape& shape, uint64_t seed) {
  double scale = std::sqrt(3.0 / static_cast<double>(shape[shape.rank() - 1])), offset = 0;
  if (name.ends_with("norm.weight")) {
    scale = 0.25;
    offset = 1.0;
  } else if (name.ends_with("e_score_correction_bias")) {
    scale = 0.3;
    offset = -0.3;
  } else if (name.ends_with(".bias")) {
    scale = 0.3;
  } else if (name.ends_with("embed_tokens.weight")) {
    // A tied table as large would have each token predict itself.
    scale = config.value("tie_word_embeddings", false) ? 0.2 : 1.0;
  } else if (name == "lm_head.weight" || name.ends_with("shared_head.head.weight") ||
             name.ends_with("mlp.gate.weight")) {
    scale *= 2;
  }
  std::vector<float> out = hash_uniform(name, seed, static_cast<size_t>(shape.elements()));
  for (float& x : out) x = x * static_cast<float>(scale) + static_cast<float>(offset);
  return out;
}

std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
  const size_t width = static_cast<size_t>(dtype_info(dtype).block_bytes);
  std::vector<std::byte> bytes(values.size() * width);
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[i * width], &values[i], width);
    } else {
      const uint16_t half = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
      std::memcpy(&bytes[i * width], &half, width);
    }
  }
  return bytes;
}

constexpr int64_t kBlock = 128;  // rows and columns of one FP8 scale

// Whether the published files hold this tensor in FP8 (random_checkpoint.py).
bool is_fp8(const json& config, const std::string& name) {
  const auto quantization = config.find("quantization_config");
  if (quantization == config.end() ||
      !(name.ends_with("_proj.weight") || name.ends_with("_with_mqa.weight"))) {
    return false;
  }
  for (const json& module : quantization->value("modules_to_not_convert", json::array())) {
    if (name.starts_with(module.get<std::string>() + ".")) return false;
  }
  return true;
}

// Codes and scales: the largest value of a block becomes 448.
void add_fp8(const std::string& name, const Shape& shape, const std::vector<float>& values,
             std::vector<RandomTensor>& out) {
  const int64_t rows = shape[0], cols = shape[1];
  const Shape blocks{(rows + kBlock - 1) / kBlock, (cols + kBlock - 1) / kBlock};
  std::vector<float> scales(static_cast<size_t>(blocks.elements()), 0.0f);
  const auto scale_of = [&](int64_t i) -> float& {
    return scales[static_cast<size_t>(i / cols / kBlock * blocks[1] + i % cols / kBlock)];
  };
  for (int64_t i = 0; i < rows * cols; ++i) {
    scale_of(i) = std::max(scale_of(i), std::fabs(values[static_cast<size_t>(i)]));
  }
  for (float& scale : scales) scale /= kE4m3Max;
  std::vector<std::byte> codes(values.size());
  for (int64_t i = 0; i < rows * cols; ++i) {
    codes[static_cast<size_t>(i)] = std::byte{f32_to_e4m3(values[static_cast<size_t>(i)] / scale_of(i))};
  }
  out.push_back({name, DType::kF8E4M3, shape, std::move(codes)});
  out.push_back({name + "_scale_inv", DType::kF32, blocks, encode(scales, DType::kF32)});
}

}  // namespace

std::vector<float> hash_uniform(const std::string& name, uint64_t seed, size_t count) {
  uint64_t state = 0xcbf29ce484222325;
  for (const char c : name) state = (state ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  state += seed * 0xd1b54a32d192ed03;
  std::vector<float> out(count);
  for (float& x : out) {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z = z ^ (z >> 31);
    x = static_cast<float>(z >> 40) * 0x1p-23f - 1.0f;
  }
  return out;
}

std::vector<int32_t> random_prompt(uint64_t seed, int32_t length, int32_t vocab) {
  std::vector<int32_t> ids;
  for (const float x : hash_uniform(fmt::format("prompt.{}", length), seed, static_cast<size_t>(length))) {
    ids.push_back(static_cast<int32_t>((x * 0.5f + 0.5f) * static_cast<float>(vocab)));
  }
  return ids;
}

std::vector<RandomTensor> random_tensors(const json& config, uint64_t seed) {
  const std::map<std::string, DType> dtypes{
      {"float32", DType::kF32}, {"bfloat16", DType::kBF16}, {"float16", DType::kF16}};
  const DType dtype = dtypes.at(config.at("torch_dtype").get<std::string>());
  std::vector<RandomTensor> out;
  const TensorList list = tensor_list(config);
  for (const auto& [name, shape] : list.shapes()) {
    if (is_fp8(config, name)) {
      add_fp8(name, shape, values(config, name, shape, seed), out);
      continue;
    }
    out.push_back({name, dtype, shape, encode(values(config, name, shape, seed), dtype)});
  }
  return out;
}

void write_safetensors(const std::filesystem::path& file, const std::vector<RandomTensor>& tensors) {
  json header = json::object();
  size_t offset = 0;
  for (const RandomTensor& tensor : tensors) {
    json shape = json::array();
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    header[tensor.name] = {{"dtype", to_string(tensor.dtype)},
                           {"shape", shape},
                           {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&size), sizeof(size));
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const RandomTensor& tensor : tensors) {
    out.write(reinterpret_cast<const char*>(tensor.bytes.data()),
              static_cast<std::streamsize>(tensor.bytes.size()));
  }
  GANTRY_CHECK(out.good()) << "cannot write " << file;
}

CheckpointFolder::CheckpointFolder(const json& config, const std::vector<RandomTensor>& tensors) {
  std::string name = (std::filesystem::temp_directory_path() / "gantry-checkpoint-XXXXXX").string();
  GANTRY_CHECK(mkdtemp(name.data()) != nullptr) << "cannot create " << name;
  path_ = name;
  std::ofstream(path_ / "config.json") << config.dump(1);
  write_safetensors(path_ / "model.safetensors", tensors);
}

CheckpointFolder::~CheckpointFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace gantry::testing
