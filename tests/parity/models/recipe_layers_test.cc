// DeepSeek's recipe of quantised activations layer by layer, against the oracle of make_goldens.py: each layer alone, in a
// model of its own whose embedding is the layer's input and whose head is the identity. Through a whole model the recipe
// says nothing at long prompts: a rounding that tips where sums differ in the last bit tips others after it, so that the
// oracle in float64 and in float32 differ by more than Gantry may.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>

#include "base/limits.h"
#include "formats/weight_source.h"
#include "model/model.h"
#include "random_checkpoint.h"

namespace gantry::testing {
namespace {

using nlohmann::json;

constexpr double kTolerance = 0.02;  // of the output's standard deviation

RandomTensor f32_matrix(const std::string& name, Shape shape, const std::vector<float>& values) {
  RandomTensor tensor{name, DType::kF32, shape, std::vector<std::byte>(values.size() * sizeof(float))};
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

class RecipeLayers : public ::testing::TestWithParam<const char*> {
 protected:
  RecipeLayers() {
    const char* root = std::getenv("GANTRY_SOURCE_DIR");  // set by ctest; by hand: run in the source folder
    std::ifstream(std::string(root != nullptr ? root : ".") + "/tests/parity/models/goldens/layers/" +
                  GetParam() + ".json") >>
        golden_;
    seed_ = golden_.at("seed").get<uint64_t>();
    rows_ = golden_.at("inputs").get<int32_t>();
    hidden_ = golden_.at("config").at("hidden_size").get<int64_t>();
  }

  // The layer as the only one of a model with a token for each row of input.
  CheckpointFolder alone(int64_t layer) const {
    json config = golden_.at("config");
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    std::vector<RandomTensor> tensors;
    for (RandomTensor& tensor : random_tensors(config, seed_)) {
      if (!tensor.name.starts_with(prefix)) continue;
      tensor.name.replace(0, prefix.size(), "model.layers.0.");
      tensors.push_back(std::move(tensor));
    }
    const auto values = static_cast<size_t>(rows_ * hidden_);
    tensors.push_back(f32_matrix("model.embed_tokens.weight", Shape{rows_, hidden_},
                                 hash_uniform("recipe_layers." + std::to_string(layer), seed_, values)));
    std::vector<float> identity(values);
    for (int64_t i = 0; i < hidden_; ++i) identity[static_cast<size_t>(i * hidden_ + i)] = 1;
    tensors.push_back(f32_matrix("lm_head.weight", Shape{rows_, hidden_}, identity));
    tensors.push_back(f32_matrix("model.norm.weight", Shape{hidden_},
                                 std::vector<float>(static_cast<size_t>(hidden_), 1.0f)));
    config["num_hidden_layers"] = 1;
    config["vocab_size"] = rows_;
    config["tie_word_embeddings"] = false;
    if (config.contains("first_k_dense_replace")) {
      config["first_k_dense_replace"] = layer < config.at("first_k_dense_replace").get<int64_t>() ? 1 : 0;
    }
    json& quantization = config["quantization_config"];
    json unconverted = json::array();
    for (const json& module : quantization.value("modules_to_not_convert", json::array())) {
      if (module.get<std::string>() + "." == prefix) unconverted.push_back("model.layers.0");
    }
    quantization["modules_to_not_convert"] = unconverted;
    return CheckpointFolder(config, tensors);
  }

  // The layer's outputs at the golden's rows, normed.
  std::vector<float> outputs(const Backend& backend, int64_t layer, Compute compute) const {
    const CheckpointFolder folder = alone(layer);
    const auto source = open_weights(folder.path()).value();
    const auto kept = golden_.at("layers")[static_cast<size_t>(layer)].at("rows").get<std::vector<int32_t>>();
    ThreadPool pool(2);
    const auto model = load_model(*source, {.backend = &backend,
                                            .pool = &pool,
                                            .compute = compute,
                                            .kv_dtype = DType::kF32,
                                            .rows_max = rows_,
                                            .logit_rows_max = static_cast<int32_t>(kept.size()),
                                            .context_max = rows_,
                                            .on_progress = {}})
                           .value();
    const int32_t blocks = (rows_ + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens;
    const auto kv = KvStore::create(backend, model->kv_layouts(), blocks).value();
    std::vector<int32_t> ids(static_cast<size_t>(rows_)), table(static_cast<size_t>(blocks));
    std::iota(ids.begin(), ids.end(), 0);
    std::iota(table.begin(), table.end(), 0);
    const Segment segment{0, rows_, 0, table.data()};
    std::vector<float> logits(kept.size() * static_cast<size_t>(rows_));
    EXPECT_TRUE(model->forward({ids, {&segment, 1}, kept}, *kv, logits.data()).ok());
    std::vector<float> out;
    for (size_t i = 0; i < kept.size(); ++i) {
      const auto row = logits.begin() + static_cast<int64_t>(i) * rows_;
      out.insert(out.end(), row, row + hidden_);
    }
    return out;
  }

  // Root mean square of the difference, in standard deviations of `expected`.
  static double distance(const std::vector<float>& actual, const std::vector<float>& expected) {
    double squares = 0, sum = 0, sum_of_squares = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      squares += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
      sum += expected[i];
      sum_of_squares += static_cast<double>(expected[i]) * expected[i];
    }
    const auto n = static_cast<double>(expected.size());
    return std::sqrt(squares / n / (sum_of_squares / n - sum / n * sum / n));
  }

  bool converted(size_t layer) const {
    const json& quantization = golden_.at("config").at("quantization_config");
    for (const json& module : quantization.value("modules_to_not_convert", json::array())) {
      if (module == "model.layers." + std::to_string(layer)) return false;
    }
    return true;
  }

  json golden_;
  uint64_t seed_ = 0;
  int32_t rows_ = 0;
  int64_t hidden_ = 0;
};

TEST_P(RecipeLayers, EachLayerIsTheRecipes) {
  const json& layers = golden_.at("layers");
  ASSERT_FALSE(layers.empty());
  for (size_t i = 0; i < layers.size(); ++i) {
    std::vector<float> expected;
    for (const json& row : layers[i].at("outputs")) {
      for (const json& value : row) expected.push_back(value.get<float>());
    }
    for (const Backend* each : runnable_backends()) {
      if (each->memory != nullptr) continue;  // a matter of the CPU backends
      const Backend& backend = *each;
      const std::string name(backend.name);
      const double recipe = distance(outputs(backend, static_cast<int64_t>(i), Compute::kF8), expected);
      EXPECT_LE(recipe, kTolerance) << name << ", layer " << i;
      RecordProperty(name + "_layer_" + std::to_string(i), std::to_string(recipe));
      const double plain = distance(outputs(backend, static_cast<int64_t>(i), Compute::kF32), expected);
      if (converted(i)) {
        EXPECT_GE(plain, kTolerance) << name << ", layer " << i << ": the recipe would show no difference";
      } else {
        EXPECT_LE(plain, 1e-3) << name << ", layer " << i << ": not in FP8";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, RecipeLayers,
                         ::testing::Values("deepseek_fp8", "deepseek_fp8_ragged", "llama_fp8"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace gantry::testing
