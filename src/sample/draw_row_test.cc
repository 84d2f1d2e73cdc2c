// Every backend that draws gives the sampler's tokens of the same logits.
#include "sample/draw_row.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "kernels/ops/ops.h"

namespace gantry {
namespace {

constexpr int32_t kSlots = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A backend's state and memory for rows of logits.
class Drawing {
 public:
  Drawing(const Backend& backend, int64_t vocab, int64_t rows)
      : backend_(backend), vocab_(vocab), scratch_(64), pool_(1) {
    state_ = backend
                 .create_state({.rows_max = rows,
                                .context_max = 4096,
                                .logit_rows_max = rows,
                                .vocab = vocab,
                                .slots = kSlots})
                 .value();
    if (backend.memory != nullptr) {
      device_ = static_cast<float*>(
          backend.memory->allocate(static_cast<size_t>(rows * vocab) * sizeof(float)).value());
    }
  }
  ~Drawing() {
    state_.reset();
    if (device_ != nullptr) backend_.memory->release(device_);
  }

  OpContext context() {
    void* aligned = scratch_.data();
    return {.backend = &backend_,
            .pool = &pool_,
            .scratch = {static_cast<std::byte*>(aligned), 0},
            .state = state_.get()};
  }
  void start(const GenerateRequest& request, int32_t slot, std::span<const TokenId> generated) {
    ops::start_slot(context(), SlotStartOf(request, slot, generated, vocab_).start());
  }
  std::vector<Drawn> draw(const std::vector<std::vector<float>>& logits, const std::vector<DrawRow>& rows) {
    std::vector<float> flat;
    for (const std::vector<float>& row : logits) flat.insert(flat.end(), row.begin(), row.end());
    if (device_ != nullptr) {
      EXPECT_TRUE(backend_.memory->upload(device_, flat.data(), flat.size() * sizeof(float)).ok());
    }
    ops::begin_step(context(), {.draws = rows});
    ops::draw(context(),
              {.logits = device_ != nullptr ? device_ : flat.data(), .vocab = vocab_, .rows = rows});
    ops::launch(context());
    const std::span<const Drawn> drawn = ops::collect(context());
    return {drawn.begin(), drawn.end()};
  }

 private:
  const Backend& backend_;
  int64_t vocab_;
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> scratch_;
  ThreadPool pool_;
  std::unique_ptr<BackendState> state_;
  float* device_ = nullptr;
};

std::vector<const Backend*> backends_that_draw() {
  std::vector<const Backend*> backends = every_backend();
  std::erase_if(backends, [](const Backend* backend) { return backend->draw == nullptr; });
  return backends;
}

// Values of several spreads; some rows with many that are equal, some with -infinities.
std::vector<float> random_logits(int64_t vocab, std::mt19937_64& random) {
  const float spreads[] = {0.01f, 1.0f, 3.0f, 12.0f};
  std::normal_distribution<float> normal(0, spreads[random() % 4]);
  const auto kind = random() % 6;
  std::vector<float> row(static_cast<size_t>(vocab));
  for (float& x : row) {
    x = normal(random);
    if (kind == 0) x = std::round(x);
    if (kind == 1 && random() % 3 != 0) x = -kInfinity;
    if (kind == 2) x = 0;
  }
  if (kind == 3) row[random() % row.size()] = 40;
  return row;
}

GenerateRequest random_request(int64_t vocab, std::mt19937_64& random) {
  const auto one_of = [&](auto... values) {
    const std::array<std::common_type_t<decltype(values)...>, sizeof...(values)> all{values...};
    return all[random() % all.size()];
  };
  const auto id = [&] { return static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)); };
  GenerateRequest request;
  for (auto count = 1 + random() % 60; count > 0; --count) request.prompt.push_back(id());
  SamplingParams& p = request.params;
  p.max_tokens = 100;
  p.seed = random();
  p.temperature = one_of(0.0f, 0.3f, 1.0f, 1.0f, 2.0f);
  p.top_k = one_of(0, 0, 1, 7, 50, static_cast<int32_t>(vocab) - 1, static_cast<int32_t>(vocab) + 5);
  p.top_p = one_of(1.0f, 1.0f, 0.95f, 0.5f, 0.01f, 0.999f);
  p.min_p = one_of(0.0f, 0.0f, 0.05f, 0.5f, 1.0f);
  p.presence_penalty = one_of(0.0f, 0.0f, 1.5f, -1.0f);
  p.frequency_penalty = one_of(0.0f, 0.0f, 0.7f, -0.5f);
  p.repetition_penalty = one_of(1.0f, 1.0f, 1.3f, 0.7f, 1e-30f);
  p.logprobs = one_of(-1, -1, 0, 5, 20);
  p.min_tokens = one_of(0, 0, 40);
  p.stop_token_ids = {id(), id()};
  p.eos_token_ids = {id(), static_cast<TokenId>(vocab) + 3};
  if (random() % 4 == 0)
    p.logit_bias = {{p.stop_token_ids[0], 5.0f}, {static_cast<TokenId>(vocab) - 1, -100.0f}};
  return request;
}

void expect_equal(const Drawn& drawn, const Sample& sample, const TokenLogprob* top) {
  ASSERT_EQ(drawn.error, static_cast<int32_t>(sample.error));
  if (sample.error != SampleError::kNone) return;
  EXPECT_EQ(drawn.token, sample.token);
  EXPECT_NEAR(drawn.logprob, sample.logprob, 1e-5 * (1 + std::abs(sample.logprob)));
  ASSERT_EQ(drawn.tops, sample.tops);
  for (int32_t i = 0; i < sample.tops; ++i) {
    EXPECT_EQ(drawn.top[i].id, top[i].id) << i;
    if (top[i].logprob > -kInfinity) {
      EXPECT_NEAR(drawn.top[i].logprob, top[i].logprob, 1e-5 * (1 - top[i].logprob));
    } else {
      EXPECT_EQ(drawn.top[i].logprob, top[i].logprob);
    }
  }
}

class DrawRows : public ::testing::TestWithParam<int64_t> {};

// Each slot draws some tokens after one another, so that what the backend counts itself is met too.
TEST_P(DrawRows, AreTheSamplersTokens) {
  constexpr int kTokens = 4;
  const int64_t vocab = GetParam();
  const int rounds = vocab > 10'000 ? 2 : 24;
  Sampler sampler(vocab, 1);
  for (const Backend* backend : backends_that_draw()) {
    SCOPED_TRACE(backend->name);
    std::mt19937_64 random(static_cast<uint64_t>(vocab));
    Drawing drawing(*backend, vocab, kSlots);
    const int more = backend->memory != nullptr ? 8 : 1;  // fast where it matters most
    for (int round = 0; round < more * rounds; ++round) {
      std::vector<std::shared_ptr<GenerateRequest>> requests;
      std::vector<SamplerState> states;
      for (int32_t slot = 0; slot < kSlots; ++slot) {
        requests.push_back(std::make_shared<GenerateRequest>(random_request(vocab, random)));
        const std::vector<TokenId> generated(random() % 3, requests.back()->prompt[0]);
        states.emplace_back(requests.back(), slot % 3, generated, vocab);
        drawing.start(*requests.back(), slot, generated);
        requests.back()->epoch = static_cast<uint32_t>(generated.size());
      }
      for (int token = 0; token < kTokens; ++token) {
        std::vector<std::vector<float>> logits;
        std::vector<DrawRow> rows;
        for (int32_t slot = 0; slot < kSlots; ++slot) {
          const GenerateRequest& request = *requests[static_cast<size_t>(slot)];
          logits.push_back(random_logits(vocab, random));
          const auto position = static_cast<int32_t>(request.prompt.size() + request.epoch) + token;
          rows.push_back(draw_row(request, slot % 3, slot, position));
        }
        const std::vector<Drawn> drawn = drawing.draw(logits, rows);
        ASSERT_EQ(drawn.size(), rows.size());
        for (size_t slot = 0; slot < kSlots; ++slot) {
          const GenerateRequest& request = *requests[slot];
          const auto position = static_cast<int32_t>(request.prompt.size() + request.epoch) + token;
          std::array<TokenLogprob, limits::kTopLogprobsMax> top;
          const Sample sample = sampler.draw(logits[slot], states[slot], position, top, 0);
          SCOPED_TRACE(testing::Message() << "round " << round << " slot " << slot << ": temperature "
                                          << request.params.temperature << " top_k " << request.params.top_k
                                          << " top_p " << request.params.top_p << " min_p "
                                          << request.params.min_p << " uniform " << rows[slot].uniform);
          expect_equal(drawn[slot], sample, top.data());
          if (sample.error == SampleError::kNone) states[slot].push(sample.token);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, DrawRows, ::testing::Values(3, 64, 1000, 32001, 129280));

TEST(DrawRow, ScoresAndErrorsAreTheSamplers) {
  constexpr int64_t kVocab = 700;
  Sampler sampler(kVocab, 1);
  for (const Backend* backend : backends_that_draw()) {
    SCOPED_TRACE(backend->name);
    std::mt19937_64 random(1);
    Drawing drawing(*backend, kVocab, kSlots);
    GenerateRequest request;
    request.prompt = {5, 699, 0};
    request.params.prompt_logprobs = 4;
    std::vector<std::vector<float>> logits;
    for (int i = 0; i < 3; ++i) logits.push_back(random_logits(kVocab, random));
    logits.push_back(std::vector<float>(kVocab, -kInfinity));
    logits.push_back(std::vector<float>(kVocab, 1.0f));
    logits.back()[500] = std::numeric_limits<float>::quiet_NaN();
    logits.push_back(std::vector<float>(kVocab, 1.0f));
    logits.back()[kVocab - 1] = kInfinity;
    std::vector<DrawRow> rows;
    for (int32_t i = 0; i < 6; ++i) rows.push_back(score_row(request, i % 3));
    const std::vector<Drawn> scores = drawing.draw(logits, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::array<TokenLogprob, limits::kTopLogprobsMax> top;
      SCOPED_TRACE(i);
      expect_equal(scores[i], sampler.score(logits[i], request.prompt[i % 3], 4, top, 0), top.data());
    }
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = draw_row(request, 0, static_cast<int32_t>(i), 3);
    const std::vector<Drawn> drawn = drawing.draw(logits, rows);
    EXPECT_EQ(drawn[3].error, static_cast<int32_t>(SampleError::kNothingLeft));
    EXPECT_EQ(drawn[4].error, static_cast<int32_t>(SampleError::kLogitsNotFinite));
    EXPECT_EQ(drawn[5].error, static_cast<int32_t>(SampleError::kLogitsNotFinite));
    EXPECT_EQ(drawn[0].error, 0);
  }
}

}  // namespace
}  // namespace gantry
