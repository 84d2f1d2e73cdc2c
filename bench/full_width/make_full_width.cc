// Writes DeepSeek-R1's checkpoint cut to one dense and one MoE layer, with random weights: make_full_width FOLDER
// [EXPERTS].
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "model/checkpoint_tensors.h"
#include "plan/published_configs.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

using nlohmann::json;

constexpr uint64_t kShardBytes = uint64_t{4} << 30;
constexpr size_t kPieceBytes = 4 << 20;

// xorshift64*: eight random bytes a step.
class Random {
 public:
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dULL;
  }

 private:
  uint64_t state_ = 0x9e3779b97f4a7c15ULL;
};

// Root mean square of a uniform code without NaN.
float e4m3_rms() {
  double squares = 0;
  for (int code = 0; code < 0x7f; ++code) squares += std::pow(e4m3_to_f32(static_cast<uint8_t>(code)), 2);
  return static_cast<float>(std::sqrt(squares / 0x7f));
}

// Values of unit gain in each format.
void fill(const CheckpointTensor& tensor, Random& random, std::vector<std::byte>& piece) {
  const auto cols = static_cast<float>(tensor.shape[tensor.shape.rank() - 1]);
  if (tensor.dtype == DType::kF8E4M3) {
    for (size_t i = 0; i < piece.size(); i += 8) {
      uint64_t codes = random.next();
      // A byte with its seven low bits set is a NaN: the lowest of them goes.
      const uint64_t sevens = codes & 0x7f7f7f7f7f7f7f7fULL;
      const uint64_t nan = ((sevens + 0x0101010101010101ULL) & 0x8080808080808080ULL) >> 7;
      codes ^= nan;
      std::memcpy(&piece[i], &codes, std::min<size_t>(8, piece.size() - i));
    }
    return;
  }
  const bool norm = tensor.name.ends_with("norm.weight");
  const bool scale = tensor.name.ends_with("_scale_inv");
  const bool embedding = tensor.name == "model.embed_tokens.weight";
  const float spread = embedding ? 1.0f : std::sqrt(3.0f / cols);
  const auto width = static_cast<size_t>(dtype_info(tensor.dtype).block_bytes);
  for (size_t i = 0; i < piece.size(); i += width) {
    const float uniform = static_cast<float>(random.next() >> 40) * 0x1p-23f - 1.0f;
    // Scales are for the widest linear's columns; the exact gain matters little here.
    const float value = norm    ? 1.0f
                        : scale ? (1.0f + 0.5f * uniform) / (e4m3_rms() * 96.0f)
                                : uniform * spread;
    if (tensor.dtype == DType::kF32) {
      std::memcpy(&piece[i], &value, width);
    } else {
      const uint16_t half = f32_to_bf16(value);
      std::memcpy(&piece[i], &half, width);
    }
  }
}

int write_shard(const std::string& path, const std::vector<CheckpointTensor>& tensors, Random& random) {
  json header = json::object();
  uint64_t offset = 0;
  for (const CheckpointTensor& tensor : tensors) {
    json shape = json::array();
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    header[tensor.name] = {{"dtype", to_string(tensor.dtype)},
                           {"shape", shape},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&size), sizeof(size));
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  std::vector<std::byte> piece;
  for (const CheckpointTensor& tensor : tensors) {
    for (uint64_t done = 0; done < tensor.bytes(); done += piece.size()) {
      piece.resize(static_cast<size_t>(std::min<uint64_t>(kPieceBytes, tensor.bytes() - done)));
      fill(tensor, random, piece);
      out.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
    }
  }
  out.close();
  if (!out) return std::fprintf(stderr, "make_full_width: %s: cannot write\n", path.c_str()), 1;
  std::fprintf(stderr, "%s: %.2f GB\n", path.c_str(), static_cast<double>(offset) / 1e9);
  return 0;
}

int run(const std::filesystem::path& folder, int experts) {
  json config = published_config("deepseek-ai/DeepSeek-R1").value();
  config["num_hidden_layers"] = 2;
  config["first_k_dense_replace"] = 1;
  config["num_nextn_predict_layers"] = 0;
  config["n_routed_experts"] = experts;
  const auto fail = [](const Status& status) {
    return std::fprintf(stderr, "make_full_width: %s\n", status.message().c_str()), 1;
  };
  const auto model = parse_model_config(config, json::object());
  if (!model.ok()) return fail(model.status());
  const auto format = parse_weight_format(config, *model);
  if (!format.ok()) return fail(format.status());
  std::vector<std::vector<CheckpointTensor>> shards(1);
  uint64_t bytes = 0, total = 0;
  for (CheckpointTensor& tensor : checkpoint_tensors(*model, *format)) {
    if (bytes > 0 && bytes + tensor.bytes() > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.bytes();
    total += tensor.bytes();
    shards.back().push_back(std::move(tensor));
  }
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << config.dump(1) << "\n";
  json index = {{"metadata", {{"total_size", total}}}, {"weight_map", json::object()}};
  Random random;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:06}.safetensors", i + 1, shards.size());
    for (const CheckpointTensor& tensor : shards[i]) index["weight_map"][tensor.name] = name;
    if (const int failed = write_shard((folder / name).string(), shards[i], random)) return failed;
  }
  std::ofstream(folder / "model.safetensors.index.json") << index.dump(1) << "\n";
  return 0;
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  const int experts = argc > 2 ? std::atoi(argv[2]) : 256;
  if (argc < 2 || experts < 16 || experts % 8 != 0) {
    std::fprintf(stderr, "usage: make_full_width FOLDER [EXPERTS]; EXPERTS is a multiple of 8 from 16\n");
    return 2;
  }
  return gantry::run(argv[1], experts);
}
