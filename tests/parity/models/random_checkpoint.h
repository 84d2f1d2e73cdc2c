// Small random checkpoints that Python (random_checkpoint.py) and C++ derive alike from a counter hash.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace gantry::testing {

// f32 values in [-1, 1): splitmix64 over a counter, started from FNV-1a of the name and the seed.
std::vector<float> hash_uniform(const std::string& name, uint64_t seed, size_t count);

// Token ids of a prompt.
std::vector<int32_t> random_prompt(uint64_t seed, int32_t length, int32_t vocab);

struct RandomTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<std::byte> bytes;

  TensorView view() const { return {bytes.data(), dtype, shape}; }
};

// The tensors of the checkpoint that `config` (a config.json) describes, in its torch_dtype.
std::vector<RandomTensor> random_tensors(const nlohmann::json& config, uint64_t seed);

void write_safetensors(const std::filesystem::path& file, const std::vector<RandomTensor>& tensors);

// config.json and model.safetensors in a new folder, which goes with this object.
class CheckpointFolder {
 public:
  CheckpointFolder(const nlohmann::json& config, const std::vector<RandomTensor>& tensors);
  ~CheckpointFolder();
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;

  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace gantry::testing
