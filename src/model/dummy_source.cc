#include "model/dummy_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "formats/checkpoint.h"
#include "model/checkpoint_tensors.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

constexpr float kDeviation = 0.02f;
// Of e4m3 with uniformly random bytes; the scale brings it to kDeviation.
constexpr float kRandomByteDeviation = 108.0f;

// SplitMix64 (Steele et al., 2014), seeded with the name (FNV-1a).
class Random {
 public:
  explicit Random(std::string_view name) {
    for (const char c : name) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  uint64_t next() {
    uint64_t z = state_ += kStep;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Leaves out `count` values.
  void skip(uint64_t count) { state_ += count * kStep; }
  // Uniform with kDeviation.
  float value() {
    const auto unit = static_cast<float>(next() >> 40) * 0x1p-23f - 1.0f;  // [-1, 1)
    return unit * kDeviation * 1.7320508f;
  }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  uint64_t state_ = 0xcbf29ce484222325;
};

// From byte `offset` of the tensor on.
void fill_e4m3(Random random, uint64_t offset, std::span<std::byte> out) {
  random.skip(offset / 8);
  size_t skipped = offset % 8;
  for (size_t i = 0; i < out.size();) {
    const uint64_t bits = random.next();
    const size_t count = std::min<size_t>(8 - skipped, out.size() - i);
    std::memcpy(&out[i], reinterpret_cast<const std::byte*>(&bits) + skipped, count);
    i += count;
    skipped = 0;
  }
  // 0x7f and 0xff are NaN.
  for (std::byte& b : out) {
    if ((b & std::byte{0x7f}) == std::byte{0x7f}) b ^= std::byte{1};
  }
}

template <typename T, typename Convert>
void fill_with(std::span<std::byte> out, Convert&& make) {
  for (size_t i = 0; i + sizeof(T) <= out.size(); i += sizeof(T)) {
    const T value = make();
    std::memcpy(&out[i], &value, sizeof(T));
  }
}

class DummySource : public CheckpointSource {
 public:
  explicit DummySource(Checkpoint checkpoint) : CheckpointSource(std::move(checkpoint)) {}

  // Ranges begin and end with whole elements.
  Status read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const override {
    Random random(info.name);
    const auto value = [&] {
      if (info.name.ends_with("norm.weight")) return 1.0f;
      if (info.name.ends_with("bias")) return 0.0f;
      if (info.name.ends_with("_scale_inv")) return kDeviation / kRandomByteDeviation;
      return random.value();
    };
    if (info.view.dtype != DType::kF8E4M3)
      random.skip(offset / static_cast<uint64_t>(dtype_info(info.view.dtype).block_bytes));
    switch (info.view.dtype) {
      case DType::kF8E4M3:
        fill_e4m3(random, offset, out);
        return {};
      case DType::kF16:
        fill_with<uint16_t>(out, [&] { return f32_to_f16(value()); });
        return {};
      case DType::kBF16:
        fill_with<uint16_t>(out, [&] { return f32_to_bf16(value()); });
        return {};
      default:
        GANTRY_CHECK(info.view.dtype == DType::kF32) << info.name;
        fill_with<float>(out, value);
        return {};
    }
  }
};

}  // namespace

Result<std::unique_ptr<WeightSource>> open_dummy_weights(const std::string& folder) {
  GANTRY_ASSIGN_OR_RETURN(Checkpoint checkpoint, read_folder_without_weights(folder));
  const auto config = parse_model_config(checkpoint.config, checkpoint.generation_config);
  if (!config.ok()) return config.status().with_context(folder);
  const auto format = parse_weight_format(checkpoint.config, *config);
  if (!format.ok()) return format.status().with_context(folder);
  for (const CheckpointTensor& tensor : checkpoint_tensors(*config, *format)) {
    checkpoint.weights.push_back(
        {tensor.name, {nullptr, tensor.dtype, tensor.shape}, checkpoint.path + " (dummy)"});
  }
  std::sort(checkpoint.weights.begin(), checkpoint.weights.end(),
            [](const WeightInfo& a, const WeightInfo& b) { return a.name < b.name; });
  return std::unique_ptr<WeightSource>(std::make_unique<DummySource>(std::move(checkpoint)));
}

}  // namespace gantry
