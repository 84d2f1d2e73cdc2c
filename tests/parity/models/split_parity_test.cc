// A model split over ranks against the same model on one: every tensor parallel size that the model allows up to 4,
// 1, 2 and 4 stages, experts cut or whole. The ranks are threads; what they exchange goes through shared memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "model/checkpoint_tensors.h"
#include "model/model.h"
#include "random_checkpoint.h"
#include "rank_threads.h"
#include "sequences.h"

namespace gantry::testing {
namespace {

using nlohmann::json;

constexpr int kSteps = 24;
constexpr int kFewSteps = 4;
constexpr float kTolerance = 1e-3f;
constexpr double kFastTolerance = 0.1;

std::filesystem::path goldens() {
  const char* source = std::getenv("GANTRY_SOURCE_DIR");  // set by ctest; by hand: run in the source folder
  return std::filesystem::path(source != nullptr ? source : ".") / "tests/parity/models/goldens";
}

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(goldens())) {
    if (entry.path().extension() == ".json" && entry.path().stem() != "rope") {
      names.push_back(entry.path().stem());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class SplitParity : public ::testing::TestWithParam<std::string> {
 protected:
  SplitParity() {
    json golden;
    std::ifstream(goldens() / (GetParam() + ".json")) >> golden;
    config_ = golden.at("config");
    if (config_.at("num_hidden_layers").get<int>() < 4) config_["num_hidden_layers"] = 4;  // for four stages
    if (config_.contains("num_nextn_predict_layers")) config_["num_nextn_predict_layers"] = 0;
    const auto seed = golden.at("seed").get<uint64_t>();
    folder_ = std::make_unique<CheckpointFolder>(config_, random_tensors(config_, seed));
    source_ = open_weights(folder_->path()).value();
    for (const json& prompt : golden.at("prompts")) {
      prompts_.push_back(random_prompt(seed, std::min(prompt.at("length").get<int32_t>(), 150),
                                       config_.at("vocab_size").get<int32_t>()));
    }
  }

  Result<std::unique_ptr<Model>> load(const Backend& backend, ThreadPool& pool, Compute compute,
                                      const RankGroups& ranks) {
    return load_model(*source_, {.backend = &backend,
                                 .pool = &pool,
                                 .compute = compute,
                                 .kv_dtype = compute == Compute::kF32 ? DType::kF32 : DType::kF16,
                                 .rows_max = 512,
                                 .logit_rows_max = 8,
                                 .context_max = 512,
                                 .on_progress = {},
                                 .ranks = ranks});
  }

  // Chunks that differ from sequence to sequence, so that prefills and decodes share batches.
  static int32_t chunk(size_t index, int step, int32_t left) {
    return std::min<int32_t>(left,
                             20 + static_cast<int32_t>(index * 37 + static_cast<size_t>(step) * 29) % 60);
  }

  // The traces of a model that is split so, which goes on with the tokens of `forced`.
  std::vector<Trace> run_split(const Backend& backend, Compute compute, const ParallelSizes& sizes,
                               const std::vector<Trace>& forced, const ChunkFn& chunks = chunk) {
    std::vector<Trace> traces;
    run_ranks(sizes, [&](const RankGroups& groups) {
      ThreadPool pool(1);
      const auto model = load(backend, pool, compute, groups);
      ASSERT_TRUE(model.ok()) << model.status().message();
      auto own =
          run_batched(**model, backend, prompts_, static_cast<int>(forced[0].tokens.size()), chunks, &forced);
      if (groups.rank == sizes.ranks() - sizes.tensor) traces = std::move(own);
    });
    return traces;
  }

  std::vector<ParallelSizes> splits() const {
    const ModelConfig config = parse_model_config(config_, json::object()).value();
    std::vector<ParallelSizes> out;
    for (const bool experts : {false, true}) {
      if (experts && !config.moe) continue;
      for (const int32_t tensor : ParallelLayout::tensor_sizes(config, {}, experts)) {
        for (const int32_t stages : {1, 2, 4}) {
          if (tensor <= 4 && tensor * stages > 1) out.push_back({tensor, stages, experts});
        }
      }
    }
    return out;
  }

  json config_;
  std::unique_ptr<CheckpointFolder> folder_;
  std::unique_ptr<WeightSource> source_;
  std::vector<std::vector<int32_t>> prompts_;
};

float worst_difference(const std::vector<Trace>& a, const std::vector<Trace>& b) {
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t step = 0; step < a[i].logits.size(); ++step) {
      const std::vector<float>&x = a[i].logits[step], &y = b[i].logits[step];
      for (size_t t = 0; t < x.size(); ++t) worst = std::max(worst, std::abs(x[t] - y[t]));
    }
  }
  return worst;
}

// Root mean square of the difference in standard deviations of `expected`, of the step where it is worst.
double worst_distance(const std::vector<Trace>& actual, const std::vector<Trace>& expected) {
  double worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    for (size_t step = 0; step < actual[i].logits.size(); ++step) {
      double squares = 0, sum = 0, sum_of_squares = 0;
      const auto n = static_cast<double>(expected[i].logits[step].size());
      for (size_t t = 0; t < expected[i].logits[step].size(); ++t) {
        const double value = expected[i].logits[step][t];
        squares += std::pow(actual[i].logits[step][t] - value, 2);
        sum += value;
        sum_of_squares += value * value;
      }
      worst = std::max(worst, std::sqrt(squares / n / (sum_of_squares / n - sum / n * sum / n)));
    }
  }
  return worst;
}

std::string describe(const ParallelSizes& sizes) {
  return "TP " + std::to_string(sizes.tensor) + " x PP " + std::to_string(sizes.pipeline) +
         (sizes.expert_parallel ? ", experts whole" : "");
}

TEST_P(SplitParity, TokensAndLogitsAreThoseOfOneRank) {
  ThreadPool pool(1);
  for (const Backend* backend : runnable_backends()) {
    const auto one = load(*backend, pool, Compute::kF32, {}).value();
    const std::vector<Trace> expected = run_batched(*one, *backend, prompts_, kSteps, chunk);
    for (const ParallelSizes& sizes : splits()) {
      SCOPED_TRACE(std::string(backend->name) + ", " + describe(sizes));
      const std::vector<Trace> actual = run_split(*backend, Compute::kF32, sizes, expected);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t i = 0; i < actual.size(); ++i) EXPECT_EQ(actual[i].tokens, expected[i].tokens) << i;
      const float worst = worst_difference(actual, expected);
      EXPECT_LE(worst, sizes.tensor == 1 ? 0.0f : kTolerance);  // stages change no bit
    }
  }
}

// What a GPU or a fast CPU path computes with: rounded activations, whose sums a split may round otherwise.
TEST_P(SplitParity, TheFastPathIsCloseAndDoesNotDependOnTheSchedule) {
  ThreadPool pool(1);
  const Backend& backend = *cpu_backend("auto").value();
  const auto one = load(backend, pool, Compute::kAuto, {}).value();
  const std::vector<Trace> expected = run_batched(*one, backend, prompts_, kFewSteps, chunk);
  for (const ParallelSizes& sizes : splits()) {
    if (sizes.pipeline == 4) continue;
    SCOPED_TRACE(describe(sizes));
    const std::vector<Trace> actual = run_split(backend, Compute::kAuto, sizes, expected);
    EXPECT_LE(worst_distance(actual, expected), sizes.tensor == 1 ? 0.0 : kFastTolerance);
    const std::vector<Trace> whole =
        run_split(backend, Compute::kAuto, sizes, expected, [](size_t, int, int32_t left) { return left; });
    EXPECT_EQ(worst_difference(actual, whole), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, SplitParity, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace gantry::testing
