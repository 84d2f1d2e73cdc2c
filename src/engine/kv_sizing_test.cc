#include "engine/kv_sizing.h"

#include <gtest/gtest.h>

namespace gantry {
namespace {

constexpr uint64_t kMiB = 1 << 20;

KvDemand demand() {
  KvDemand d;
  d.block_bytes = kMiB;
  d.max_position = 2048;
  d.max_num_seqs = 4;
  return d;
}

TEST(KvSizing, DefaultsHoldEverySequenceUpTo512MiB) {
  KvSize size = size_kv_cache(demand()).value();
  EXPECT_EQ(size.max_model_len, 2048);
  EXPECT_EQ(size.blocks, 4 * 32);
  KvDemand many = demand();
  many.max_num_seqs = 64;
  size = size_kv_cache(many).value();
  EXPECT_EQ(size.blocks, 512);
  EXPECT_EQ(size.max_model_len, 2048);
}

TEST(KvSizing, ModelLenDefaultsToWhatFits) {
  KvDemand d = demand();
  d.kv_cache_bytes = 10 * kMiB;
  const KvSize size = size_kv_cache(d).value();
  EXPECT_EQ(size.blocks, 10);
  EXPECT_EQ(size.max_model_len, 641);  // the last token is not fed back
}

TEST(KvSizing, OneRequestOfTheLengthAskedForMustFit) {
  KvDemand d = demand();
  d.max_model_len = 641;
  d.kv_cache_bytes = 10 * kMiB;
  EXPECT_EQ(size_kv_cache(d).value().blocks, 10);
  d.max_model_len = 642;
  const Status status = size_kv_cache(d).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("max_model_len at most 641 fits"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("11534336 bytes"), std::string::npos) << status.message();
  d.kv_cache_bytes = 1;
  EXPECT_EQ(size_kv_cache(d).status().code(), StatusCode::kResourceExhausted);
  d.max_model_len = 0;
  EXPECT_EQ(size_kv_cache(d).status().code(), StatusCode::kResourceExhausted);
}

TEST(KvSizing, AShareOfMemoryLeavesWhatIsNotInUse) {
  KvDemand d = demand();
  d.memory_utilization = 0.5;
  d.memory_bytes = 200 * kMiB;
  d.memory_used_bytes = 60 * kMiB;
  EXPECT_EQ(size_kv_cache(d).value().blocks, 40);
  d.kv_cache_bytes = 8 * kMiB;  // what is asked for goes first
  EXPECT_EQ(size_kv_cache(d).value().blocks, 8);
}

TEST(KvSizing, AShareThatHoldsNoRequestSaysWhichWould) {
  KvDemand d = demand();
  d.max_model_len = 2048;
  d.memory_utilization = 0.4;
  d.memory_bytes = 200 * kMiB;
  d.memory_used_bytes = 60 * kMiB;
  const Status status = size_kv_cache(d).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("there are 20.0 MiB (0.40 of 200 MiB"), std::string::npos)
      << status.message();
  EXPECT_NE(status.message().find("gpu_memory_utilization 0.46 is enough"), std::string::npos)
      << status.message();
  d.memory_utilization = 0.46;
  EXPECT_EQ(size_kv_cache(d).value().blocks, 32);
  d.memory_utilization = 0.2;  // less than is in use already
  EXPECT_EQ(size_kv_cache(d).status().code(), StatusCode::kResourceExhausted);
  d.memory_bytes = 80 * kMiB;
  d.memory_utilization = 1;
  EXPECT_NE(size_kv_cache(d).status().message().find("92 MiB of memory are enough"), std::string::npos)
      << size_kv_cache(d).status().message();
}

TEST(KvSizing, ModelLenBeyondTheCheckpointIsRefused) {
  for (const int32_t len : {-1, 1, 2049}) {
    KvDemand d = demand();
    d.max_model_len = len;
    const Status status = size_kv_cache(d).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << len;
    EXPECT_EQ(status.param(), "max_model_len");
  }
}

TEST(KvSizing, HugeValuesDoNotOverflow) {
  KvDemand d = demand();
  d.max_position = 2'000'000'000;
  d.max_num_seqs = 4096;
  d.kv_cache_bytes = ~uint64_t{0};
  d.block_bytes = 1;
  EXPECT_EQ(size_kv_cache(d).value().blocks, 2'147'483'647);
}

}  // namespace
}  // namespace gantry
