// The multi-token prediction module of every backend against a plain torch one (goldens/, made by make_goldens.py):
// logits of a chain of drafts within 1e-3, and the same bits whether the rows before ran whole or in chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "formats/weight_source.h"
#include "model/model.h"
#include "random_checkpoint.h"

namespace gantry::testing {
namespace {

using nlohmann::json;

constexpr int kDrafts = 3;
constexpr float kTolerance = 1e-3f;
constexpr int32_t kRows = 700;

// One sequence through the model and its module.
class Drafting {
 public:
  Drafting(const WeightSource& source, const Backend& backend, Compute compute)
      : pool_(2),
        model_(load_model(source, {.backend = &backend,
                                   .pool = &pool_,
                                   .compute = compute,
                                   .kv_dtype = compute == Compute::kF32 ? DType::kF32 : DType::kF16,
                                   .rows_max = kRows,
                                   .logit_rows_max = 4,
                                   .context_max = kRows,
                                   .drafts = true,
                                   .on_progress = {}})
                   .value()),
        kv_(KvStore::create(backend, model_->kv_layouts(), static_cast<int32_t>(kBlocks.size()),
                            model_->kv_tail())
                .value()) {}

  // Logits of the drafts after ids, the last of which the model has not seen.
  std::vector<std::vector<float>> run(const std::vector<int32_t>& ids, int32_t chunk) {
    const auto hidden = static_cast<size_t>(model_->config().hidden);
    const auto rows = static_cast<int32_t>(ids.size()) - 1;
    std::vector<float> states(ids.size() * hidden), logits(4 * vocab());
    for (int32_t first = 0; first < rows; first += chunk) {
      const int32_t count = std::min(chunk, rows - first);
      const Segment segment{0, count, first, kBlocks.data()};
      EXPECT_TRUE(model_
                      ->forward({.ids = std::span(ids).subspan(static_cast<size_t>(first),
                                                               static_cast<size_t>(count)),
                                 .segments = {&segment, 1},
                                 .logit_rows = {},
                                 .hidden = states.data() + static_cast<size_t>(first) * hidden},
                                *kv_, logits.data())
                      .ok());
    }
    std::vector<float> before(states.begin(), states.begin() + static_cast<std::ptrdiff_t>(hidden));
    before.insert(before.end(), states.begin(), states.end());
    std::vector<std::vector<float>> out;
    std::vector<float> state(hidden);
    for (int32_t first = 0; first <= rows; first += chunk) {
      const int32_t count = std::min(chunk, rows + 1 - first);
      const auto at = static_cast<size_t>(first);
      const bool last = first + count == rows + 1;
      draft({&ids[at], static_cast<size_t>(count)}, &before[at * hidden], first, last, logits, state);
    }
    for (int32_t i = 0;; ++i) {
      out.emplace_back(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(vocab()));
      if (i + 1 == kDrafts) return out;
      const auto best = std::max_element(out.back().begin(), out.back().end()) - out.back().begin();
      const auto id = static_cast<int32_t>(best);
      const std::vector<float> own = state;
      draft({&id, 1}, own.data(), rows + 1 + i, true, logits, state);
    }
  }

 private:
  size_t vocab() const { return static_cast<size_t>(model_->config().vocab); }
  void draft(std::span<const int32_t> ids, const float* before, int32_t first, bool wanted,
             std::vector<float>& logits, std::vector<float>& state) {
    const Segment segment{0, static_cast<int32_t>(ids.size()), first, kBlocks.data()};
    const int32_t last = segment.rows - 1;
    EXPECT_TRUE(model_
                    ->draft({.ids = ids,
                             .hidden = before,
                             .segments = {&segment, 1},
                             .logit_rows = std::span(&last, wanted ? 1 : 0)},
                            *kv_, logits.data(), state.data())
                    .ok());
  }

  static constexpr std::array<int32_t, 11> kBlocks{7, 2, 9, 0, 4, 10, 1, 8, 3, 6, 5};
  ThreadPool pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvStore> kv_;
};

struct Case {
  std::vector<int32_t> ids;
  std::vector<std::vector<float>> logits;
};

class DraftParity : public ::testing::Test {
 protected:
  DraftParity() {
    const char* root = std::getenv("GANTRY_SOURCE_DIR");  // set by ctest; by hand: run in the source folder
    json golden;
    std::ifstream(std::string(root != nullptr ? root : ".") +
                  "/tests/parity/models/goldens/deepseek_mtp.json") >>
        golden;
    const json& config = golden.at("config");
    const auto seed = golden.at("seed").get<uint64_t>();
    folder_ = std::make_unique<CheckpointFolder>(config, random_tensors(config, seed));
    source_ = open_weights(folder_->path()).value();
    for (const json& prompt : golden.at("prompts")) {
      const auto tokens = prompt.at("greedy").get<std::vector<int32_t>>();
      for (const auto& [at, logits] : prompt.at("drafts").items()) {
        Case c{
            random_prompt(seed, prompt.at("length").get<int32_t>(), config.at("vocab_size").get<int32_t>()),
            logits.get<std::vector<std::vector<float>>>()};
        c.ids.insert(c.ids.end(), tokens.begin(), tokens.begin() + std::stoi(at) + 1);
        cases_.push_back(std::move(c));
      }
    }
  }

  std::unique_ptr<CheckpointFolder> folder_;
  std::unique_ptr<WeightSource> source_;
  std::vector<Case> cases_;
};

TEST_F(DraftParity, LogitsAreThoseOfTorch) {
  for (const Backend* backend : runnable_backends()) {
    Drafting drafting(*source_, *backend, Compute::kF32);
    for (const Case& c : cases_) {
      const auto actual = drafting.run(c.ids, kRows);
      ASSERT_EQ(actual.size(), c.logits.size());
      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_EQ(actual[i].size(), c.logits[i].size());
        float worst = 0;
        for (size_t t = 0; t < actual[i].size(); ++t) {
          worst = std::max(worst, std::abs(actual[i][t] - c.logits[i][t]));
        }
        EXPECT_LE(worst, kTolerance) << backend->name << ", " << c.ids.size() << " tokens, draft " << i;
      }
    }
  }
}

TEST_F(DraftParity, BitsDoNotDependOnTheChunks) {
  for (const Backend* backend : runnable_backends()) {
    for (const Compute compute : {Compute::kF32, Compute::kAuto}) {
      Drafting drafting(*source_, *backend, compute);
      for (const Case& c : cases_) {
        const auto whole = drafting.run(c.ids, kRows);
        for (const int32_t chunk : {1, 7, 64, 65}) {
          EXPECT_EQ(drafting.run(c.ids, chunk), whole) << backend->name << ", chunks of " << chunk;
        }
      }
    }
  }
}

}  // namespace
}  // namespace gantry::testing
