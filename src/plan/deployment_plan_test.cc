#include "plan/deployment_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/test_files.h"
#include "plan/published_configs.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;

const PlannedModel& r1() {
  static const PlannedModel model = open_planned_model("deepseek-ai/DeepSeek-R1").value();
  return model;
}

// The deployment that Gantry is built for: 16 x H100.
PlanRequest reference_deployment() {
  PlanRequest request;
  request.sizes = {.tensor = 8, .pipeline = 2};
  request.device = find_device("h100").value();
  request.max_model_len = 16384;
  request.max_num_seqs = 40;
  request.max_num_batched_tokens = 8192;
  return request;
}

// The published checkpoint's tensors and bytes, derived from config.json.
TEST(PlannedModel, R1HasThePublishedBytes) {
  const PlannedModel::Total main = r1().total(false);
  EXPECT_EQ(main.bytes, 673'150'611'808u);
  EXPECT_EQ(main.tensors, 90'427);
  const PlannedModel::Total all = r1().total(true);
  EXPECT_EQ(all.bytes, 688'574'839'360u);
  EXPECT_EQ(all.tensors, 91'991);
  EXPECT_NEAR(static_cast<double>(all.parameters), 684.49e9, 0.1e9);
}

TEST(PlannedModel, AFolderWithConfigJsonIsEnough) {
  const gantry::testing::TempFolder folder;
  folder.write("config.json", published_config("deepseek-ai/DeepSeek-R1")->dump());
  EXPECT_EQ(open_planned_model(folder.path())->total(false).bytes, 673'150'611'808u);
}

TEST(PlannedModel, AnUnknownNameListsTheBuiltIn) {
  const Status status = open_planned_model("someone/something").status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("deepseek-ai/DeepSeek-R1"));
}

TEST(DeploymentPlan, TheReferenceDeploymentFits) {
  const DeploymentPlan plan = plan_deployment(r1(), reference_deployment()).value();
  ASSERT_EQ(plan.memory.stages.size(), 2u);
  EXPECT_EQ(plan.memory.stages[0].layers.count(), 31);
  EXPECT_EQ(plan.memory.stages[1].layers.count(), 30);
  EXPECT_NEAR(static_cast<double>(plan.memory.stages[0].weight_bytes), 41.2e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(plan.memory.stages[1].weight_bytes), 43.9e9, 0.05e9);
  EXPECT_EQ(plan.memory.stages[0].kv_token_bytes, 31u * 1152);
  EXPECT_EQ(plan.memory.stages[1].kv_token_bytes, 30u * 1152);
  EXPECT_GE(plan.memory.requests_of_max_len, 40);
  EXPECT_FALSE(plan.decode.empty());
  EXPECT_TRUE(plan.alternatives.empty());
}

TEST(DeploymentPlan, WeightsPerRank) {
  PlanRequest request = reference_deployment();
  request.sizes = {.tensor = 16, .pipeline = 1};
  EXPECT_NEAR(static_cast<double>(plan_deployment(r1(), request)->memory.stages[0].weight_bytes), 43.1e9,
              0.1e9);
  request.sizes = {.tensor = 8, .pipeline = 1};
  EXPECT_NEAR(static_cast<double>(plan_deployment(r1(), request)->memory.stages[0].weight_bytes), 85.1e9,
              0.1e9);
}

TEST(DeploymentPlan, WhatDoesNotFitSaysWhatWould) {
  PlanRequest request = reference_deployment();
  request.sizes.pipeline = 1;
  const DeploymentPlan plan = plan_deployment(r1(), request).value();
  EXPECT_FALSE(plan.memory.fits());
  EXPECT_LT(plan.memory.stages[0].kv_budget_bytes, 0);
  ASSERT_GE(plan.alternatives.size(), 2u);
  EXPECT_EQ(plan.alternatives[0].sizes.tensor, 8);
  EXPECT_EQ(plan.alternatives[0].sizes.pipeline, 2);
  EXPECT_EQ(plan.alternatives.back().device, "h200");
  // What is named does fit, and one stage less does not.
  for (const Alternative& other : plan.alternatives) {
    PlanRequest as_told = request;
    as_told.sizes = other.sizes;
    as_told.device = find_device(other.device).value();
    EXPECT_EQ(plan_deployment(r1(), as_told)->memory.requests_of_max_len, other.requests_of_max_len);
  }
  EXPECT_THAT(plan_table(r1(), request, plan), HasSubstr("would fit: h200 TP 8 x PP 1"));
}

TEST(DeploymentPlan, ALengthThatFitsIsNamed) {
  PlanRequest request = reference_deployment();
  request.max_model_len = 163840;
  request.device.memory_bytes = 50ull << 30;
  const DeploymentPlan plan = plan_deployment(r1(), request).value();
  ASSERT_FALSE(plan.memory.fits());
  ASSERT_GT(plan.max_model_len_that_fits, 1);
  request.max_model_len = plan.max_model_len_that_fits;
  EXPECT_EQ(plan_deployment(r1(), request)->memory.requests_of_max_len, 1);
  ++request.max_model_len;
  EXPECT_FALSE(plan_deployment(r1(), request)->memory.fits());
}

TEST(DeploymentPlan, DraftsNeedTheModuleAndItsCache) {
  PlanRequest request = reference_deployment();
  const MemoryPlan without = plan_deployment(r1(), request)->memory;
  request.speculative_tokens = 1;
  const MemoryPlan with = plan_deployment(r1(), request)->memory;
  EXPECT_EQ(with.stages[0].weight_bytes, without.stages[0].weight_bytes);
  EXPECT_GT(with.stages[1].weight_bytes, without.stages[1].weight_bytes + 15'424'227'552u / 8);
  EXPECT_EQ(with.stages[1].kv_token_bytes, 31u * 1152);
  request.speculative_tokens = 4;
  EXPECT_EQ(plan_deployment(r1(), request).status().param(), "num_speculative_tokens");
}

TEST(DeploymentPlan, ValuesOutOfRangeAreRefusedByName) {
  const auto param = [](void (*change)(PlanRequest&)) {
    PlanRequest request = reference_deployment();
    change(request);
    return plan_deployment(r1(), request).status().param();
  };
  EXPECT_EQ(param([](PlanRequest& r) { r.max_model_len = 163841; }), "max_model_len");
  EXPECT_EQ(param([](PlanRequest& r) { r.max_num_seqs = 0; }), "max_num_seqs");
  EXPECT_EQ(param([](PlanRequest& r) { r.max_num_batched_tokens = 0; }), "max_num_batched_tokens");
  EXPECT_EQ(param([](PlanRequest& r) { r.memory_utilization = 1.1; }), "gpu_memory_utilization");
  EXPECT_EQ(param([](PlanRequest& r) { r.sizes.tensor = 7; }), "tensor_parallel_size");
  EXPECT_EQ(param([](PlanRequest& r) { r.sizes.pipeline = 62; }), "pipeline_parallel_size");
}

TEST(DeploymentPlan, TheJsonHasWhatTheTableHas) {
  const PlanRequest request = reference_deployment();
  const DeploymentPlan plan = plan_deployment(r1(), request).value();
  const auto json = plan_json(r1(), request, plan);
  EXPECT_EQ(json["checkpoint"]["bytes"], 673'150'611'808u);
  EXPECT_EQ(json["checkpoint_with_mtp"]["bytes"], 688'574'839'360u);
  EXPECT_EQ(json["stages"].size(), 2u);
  EXPECT_TRUE(json["fits"]);
  EXPECT_EQ(json["requests_of_max_model_len"], plan.memory.requests_of_max_len);
  EXPECT_THAT(plan_table(r1(), request, plan), HasSubstr("673,150,611,808 B"));
}

// reference: per MoE layer in us at 4.3 TB/s, 1979 and 790 TFLOPS, everything else ideal, from the bytes and
// operations of the paper's shapes (234.8 MB + 44.04 MB x experts hit + 1,152 B x context).
class RooflineFloor : public ::testing::Test {
 protected:
  double layer_us(int32_t tensor, double all_reduce_s, double sequences, double context) {
    PlanRequest request = reference_deployment();
    request.sizes = {.tensor = tensor, .pipeline = 1};
    request.device = {"ideal", 1ull << 40, 4.3e12, 1979e12, 790e12, 1e18, 1e18, 8};
    Efficiency ideal{.bandwidth = 1, .fp8 = 1, .bf16 = 1, .kernels = 1, .operation_s = 0};
    ideal.all_reduce_s = all_reduce_s;
    const auto layout = ParallelLayout::create(r1().config, {128, 128}, request.sizes).value();
    return 1e6 * Roofline(r1(), layout, request, ideal)
                     .layer_s(0, 10, {.sequences = sequences, .rows = 1, .context = context});
  }
};

TEST_F(RooflineFloor, OneDevice) {
  const struct {
    double sequences, context, us;
  } rows[] = {{1, 1024, 137},    {1, 4096, 138},    {8, 4096, 654},
              {32, 16384, 1912}, {128, 4096, 2816}, {256, 16384, 4160}};
  for (const auto& row : rows) {
    EXPECT_NEAR(layer_us(1, 0, row.sequences, row.context), row.us, 0.005 * row.us + 0.5)
        << row.sequences << " x " << row.context;
  }
}

TEST_F(RooflineFloor, EightRanksWithReplicatedLatentsAndTwoAllReduces) {
  EXPECT_NEAR(layer_us(8, 6e-6, 1, 4096), 34, 0.5);
  EXPECT_NEAR(layer_us(8, 6e-6, 32, 4096), 267, 1.5);
}

TEST(Roofline, MoreRanksAndLessContextAreFaster) {
  PlanRequest request = reference_deployment();
  const Efficiency efficiency;
  const auto layout = ParallelLayout::create(r1().config, {128, 128}, request.sizes).value();
  const Roofline two_stages(r1(), layout, request, efficiency);
  EXPECT_GT(two_stages.decode(1, 1024).tokens_per_s, two_stages.decode(1, 16384).tokens_per_s);
  EXPECT_GT(two_stages.decode(40, 1024).tokens_per_s, 2 * two_stages.decode(1, 1024).tokens_per_s);
  EXPECT_LT(two_stages.first_token_s(1024), two_stages.first_token_s(16000));
}

}  // namespace
}  // namespace gantry
