#include "cli/serve_options.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gantry::cli {
namespace {

TEST(ParseBytes, TakesUnitsAndRefusesTheRest) {
  EXPECT_EQ(parse_bytes("123").value(), 123u);
  EXPECT_EQ(parse_bytes("512M").value(), 512u << 20);
  EXPECT_EQ(parse_bytes("2G").value(), 2ull << 30);
  for (const char* bad : {"", "G", "-1", "1.5G", "1GB", "99999999999999999999", "9999999G", " 1"}) {
    EXPECT_FALSE(parse_bytes(bad).ok()) << bad;
  }
}

TEST(ServeOptions, ErrorsNameTheFlag) {
  ServeOptions good;
  good.models = {"m"};
  EXPECT_TRUE(validate(good).ok());
  const auto param = [&](auto change) {
    ServeOptions options = good;
    change(options);
    return validate(options).param();
  };
  EXPECT_EQ(param([](auto& o) { o.port = 70000; }), "--port");
  EXPECT_EQ(param([](auto& o) { o.data_parallel_size = 0; }), "--data-parallel-size");
  EXPECT_EQ(param([](auto& o) {
              o.data_parallel_size = 2;
              o.worker_process = "off";
            }),
            "--worker-process");
  EXPECT_EQ(param([](auto& o) { o.step_timeout_s = 0; }), "--step-timeout");
  EXPECT_EQ(param([](auto& o) { o.tensor_parallel_size = 65; }), "--tensor-parallel-size");
  EXPECT_EQ(param([](auto& o) {
              o.tensor_parallel_size = 8;
              o.pipeline_parallel_size = 9;
            }),
            "--pipeline-parallel-size");
  EXPECT_EQ(param([](auto& o) {
              o.fp8_activations = true;
              o.dtype = "float32";
            }),
            "--fp8-activations");
  EXPECT_EQ(param([](auto& o) { o.num_speculative_tokens = 4; }), "--num-speculative-tokens");
  EXPECT_EQ(param([](auto& o) { o.max_num_batched_tokens = 8; }), "--max-num-batched-tokens");
  EXPECT_EQ(param([](auto& o) { o.gpu_memory_utilization = 1.5; }), "--gpu-memory-utilization");
  EXPECT_EQ(param([](auto& o) {
              o.gpu_memory_utilization = 0.5;
              o.models = {"a", "b"};
            }),
            "--gpu-memory-utilization");
  EXPECT_EQ(param([](auto& o) { o.served_model_names = {"a", "b"}; }), "--served-model-name");
}

TEST(ServeOptions, TheDtypeSaysHowToCompute) {
  const auto compute = [](std::vector<std::string> flags) {
    CLI::App app;
    ServeOptions options;
    add_engine_flags(app, options);
    std::reverse(flags.begin(), flags.end());  // CLI11 takes them from the back
    app.parse(flags);
    EXPECT_TRUE(validate(options).ok());
    return compute_of(options);
  };
  EXPECT_EQ(compute({"--model", "m"}), Compute::kAuto);
  EXPECT_EQ(compute({"--model", "m", "--dtype", "auto"}), Compute::kAuto);
  EXPECT_EQ(compute({"--model", "m", "--dtype", "bfloat16"}), Compute::kAuto);
  EXPECT_EQ(compute({"--model", "m", "--dtype", "float32"}), Compute::kF32);
  EXPECT_EQ(compute({"--model", "m", "--fp8-activations"}), Compute::kF8);
  EXPECT_THROW(compute({"--model", "m", "--dtype", "float16"}), CLI::ValidationError);
}

TEST(ServeOptions, AWorkerReadsTheSameEngineFlags) {
  ServeOptions options;
  options.models = {"a", "b"};
  options.load_format = "gguf";
  options.max_num_seqs = 5;
  options.max_queue_wait_s = 2.5;
  options.kv_cache_memory = "3M";
  options.num_speculative_tokens = 2;
  options.fp8_activations = true;
  std::vector<std::string> arguments = engine_arguments(options);
  ServeOptions read;
  CLI::App app;
  add_engine_flags(app, read);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes a vector
  app.parse(arguments);
  EXPECT_EQ(read.load_format, "gguf");
  EXPECT_EQ(read.max_num_seqs, 5);
  EXPECT_EQ(read.max_queue_wait_s, 2.5);
  EXPECT_EQ(read.kv_cache_memory, "3M");
  EXPECT_EQ(read.num_speculative_tokens, 2);
  EXPECT_TRUE(read.fp8_activations);
  EXPECT_FALSE(read.expert_parallel);
  EXPECT_EQ(engine_arguments(read), engine_arguments(options));
  EXPECT_EQ(read.models, ServeOptions().models);  // named apart
}

}  // namespace
}  // namespace gantry::cli
