#include "cli/serve_options.h"

#include <gtest/gtest.h>

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
  EXPECT_EQ(param([](auto& o) { o.tensor_parallel_size = 2; }), "--tensor-parallel-size");
  EXPECT_EQ(param([](auto& o) { o.max_num_batched_tokens = 8; }), "--max-num-batched-tokens");
  EXPECT_EQ(param([](auto& o) { o.gpu_memory_utilization = 1.5; }), "--gpu-memory-utilization");
  EXPECT_EQ(param([](auto& o) {
              o.gpu_memory_utilization = 0.5;
              o.models = {"a", "b"};
            }),
            "--gpu-memory-utilization");
  EXPECT_EQ(param([](auto& o) { o.served_model_names = {"a", "b"}; }), "--served-model-name");
}

}  // namespace
}  // namespace gantry::cli
