// What a model sees of a checkpoint: named tensors under Hugging Face's names, whatever file they lie in.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/tensor.h"
#include "text/vocab_spec.h"

namespace gantry {

struct WeightInfo {
  std::string name;  // "model.layers.0.self_attn.q_proj.weight"
  // A matrix is [out_features, in_features]. Without data but where a source keeps all in memory: WeightSource::read().
  TensorView view;
  std::string file;         // for messages
  int32_t file_index = -1;  // of the source's files
  uint64_t offset = 0;      // in that file
};

// A read-only checkpoint. Opening validates everything that can be checked without reading tensor data: after
// a successful open, each view lies within its file. Thread-safe once open.
//
// A GGUF file gives the same names, with these differences:
//   - stacked experts come as one entry per expert (model.layers.3.mlp.experts.7.up_proj.weight), whose data
//     follow each other without a gap;
//   - kv_b_proj of files since 2025 comes in two parts, self_attn.k_b_proj.weight [heads, kv_lora_rank,
//     qk_nope_head_dim] (transposed) and self_attn.v_b_proj.weight [heads, v_head_dim, kv_lora_rank];
//   - rope_freqs.weight [head_dim / 2] (f32) divides the rotary frequencies: Llama 3's scaling;
//   - a tensor that Gantry does not know keeps llama.cpp's name.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // config.json as published: an object. A GGUF file's metadata is given under the same keys (architectures,
  // hidden_size, num_hidden_layers, rope_theta, ...), plus "gantry_rope_interleaved": true where the file
  // permutes q and k rows for interleaved pairs (llama.cpp does for the llama architecture).
  virtual const nlohmann::json& config() const = 0;
  // generation_config.json, or {} where there is none.
  virtual const nlohmann::json& generation_config() const = 0;
  // The tokenizer; null when the checkpoint has none (then token ids are served).
  virtual const VocabSpec* vocab() const = 0;
  // Where it was opened, for messages and as the default model name.
  virtual const std::string& path() const = 0;

  // Sorted by name.
  virtual const std::vector<WeightInfo>& weights() const = 0;
  // Null if absent.
  virtual const WeightInfo* find(std::string_view name) const = 0;
  uint64_t total_bytes() const;

  // Copies the tensor's bytes from `offset` on to `out`; they lie within the tensor. kDataLoss names a file that
  // was shortened. Thread-safe. The default copies the view.
  virtual Status read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const;
  // All of it: `out` is info.view.bytes() long.
  Status read(const WeightInfo& info, std::span<std::byte> out) const;
  // kDataLoss names a file that changed since it was opened. After the last read.
  virtual Status check_unchanged() const { return {}; }
};

// A folder with config.json and safetensors (one file, or shards with model.safetensors.index.json), or a
// .gguf file. Errors are one line that names the file and, where it applies, the tensor.
Result<std::unique_ptr<WeightSource>> open_weights(const std::string& path);

}  // namespace gantry
