// --fp8-activations from the command line to the logprobs of a stream: those of the model that model_parity_test holds
// against DeepSeek's own recipe.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <future>

#include "cli/model_host.h"
#include "model/model.h"
#include "random_checkpoint.h"
#include "sequences.h"

namespace gantry::testing {
namespace {

using nlohmann::json;

constexpr int kBest = 20;  // logprobs that are compared

class FirstToken : public StreamSink {
 public:
  void on_prompt_logprobs(PromptLogprobs&&) override {}
  void on_token(TokenEvent&& event) override {
    if (event.index == 0) event_.set_value(std::move(event));
  }
  void on_refused(const Status& status) override { ADD_FAILURE() << status.message(); }
  std::future<TokenEvent> event() { return event_.get_future(); }

 private:
  std::promise<TokenEvent> event_;
};

// log-softmax
std::vector<double> logprobs(const std::vector<float>& logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - most);
  std::vector<double> out;
  for (const float logit : logits) out.push_back(logit - most - std::log(sum));
  return out;
}

class RecipeFlag : public ::testing::TestWithParam<const char*> {
 protected:
  RecipeFlag() {
    const char* root = std::getenv("GANTRY_SOURCE_DIR");
    std::ifstream(std::string(root != nullptr ? root : ".") + "/tests/parity/models/goldens/" + GetParam() +
                  ".json") >>
        golden_;
    seed_ = golden_.at("seed").get<uint64_t>();
    folder_ =
        std::make_unique<CheckpointFolder>(golden_.at("config"), random_tensors(golden_.at("config"), seed_));
    prompt_ = random_prompt(seed_, 40, golden_.at("config").at("vocab_size").get<int32_t>());
  }

  // The best tokens after the prompt, as `gantry serve` with these flags gives them.
  std::vector<TokenLogprob> served(std::vector<std::string> flags) {
    CLI::App app;
    cli::ServeOptions options;
    cli::add_engine_flags(app, options);
    flags.insert(flags.end(), {"--model", folder_->path()});
    std::reverse(flags.begin(), flags.end());  // CLI11 takes them from the back
    app.parse(flags);
    EXPECT_TRUE(cli::validate(options).ok());
    ThreadPool pool(1);
    FairMutex turn;
    const auto host = cli::ModelHost::load({.path = folder_->path(), .id = "m"}, options, 0,
                                           {cpu_backend("auto").value(), &pool, &turn}, {})
                          .value();
    const auto sink = std::make_shared<FirstToken>();
    std::future<TokenEvent> first = sink->event();
    GenerateRequest request;
    request.id = host->served().front->next_id();
    request.prompt = prompt_;
    request.params.max_tokens = 1;
    request.params.temperature = 0;
    request.params.logprobs = kBest;
    EXPECT_TRUE(host->served().front->open(std::move(request), sink).ok());
    if (first.wait_for(std::chrono::minutes(5)) != std::future_status::ready) return {};
    return first.get().top;
  }

  std::vector<double> computed(Compute compute) {
    const auto source = open_weights(folder_->path()).value();
    const Backend* backend = cpu_backend("auto").value();
    ThreadPool pool(1);
    const auto model = load_model(*source, {.backend = backend,
                                            .pool = &pool,
                                            .compute = compute,
                                            .kv_dtype = DType::kF32,
                                            .rows_max = 1024,
                                            .logit_rows_max = 8,
                                            .context_max = 1024,
                                            .on_progress = {}})
                           .value();
    return logprobs(
        run_alone(*model, *backend, {prompt_}, 1, [](size_t, int, int32_t left) { return left; })[0]
            .logits[0]);
  }

  static double worst(const std::vector<TokenLogprob>& best, const std::vector<double>& expected) {
    double most = 0;
    for (const TokenLogprob& token : best)
      most = std::max(most, std::abs(token.logprob - expected[static_cast<size_t>(token.id)]));
    return most;
  }

  json golden_;
  uint64_t seed_ = 0;
  std::unique_ptr<CheckpointFolder> folder_;
  std::vector<int32_t> prompt_;
};

TEST_P(RecipeFlag, ServesTheModelOfTheRecipe) {
  const std::vector<TokenLogprob> best = served({"--fp8-activations"});
  ASSERT_EQ(best.size(), static_cast<size_t>(kBest));
  EXPECT_LE(worst(best, computed(Compute::kF8)), 1e-5);
  EXPECT_GE(worst(best, computed(Compute::kF32)), 1e-3) << "the recipe would show no difference";
  EXPECT_LE(worst(served({"--dtype", "float32"}), computed(Compute::kF32)), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Goldens, RecipeFlag,
                         ::testing::Values("deepseek_fp8", "deepseek_fp8_ragged", "llama_fp8"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace gantry::testing
