#include "model/parallel_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

namespace gantry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int32_t> counts(int32_t layers, int32_t stages) {
  std::vector<int32_t> out;
  for (const LayerRange& range : split_layers(layers, stages)) out.push_back(range.count());
  return out;
}

// A small model of R1's kind whose shapes are ragged against nothing.
ModelConfig latent_model() {
  ModelConfig config;
  config.architecture = "DeepseekV3ForCausalLM";
  config.layers = 5;
  config.hidden = 256;
  config.heads = config.kv_heads = 8;
  config.head_dim = 192;
  config.intermediate = 1024;
  config.vocab = 1001;
  config.mtp_layers = 1;
  config.mla = MlaConfig{128, 128, 128, 64, 128};
  config.moe = MoeConfig{.experts = 8, .experts_per_token = 2, .shared_experts = 1, .intermediate = 512};
  config.moe->first_dense_layers = 1;
  return config;
}

ModelConfig grouped_model() {
  ModelConfig config;
  config.architecture = "Qwen2ForCausalLM";
  config.layers = 3;
  config.hidden = 96;
  config.heads = 12;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.intermediate = 240;
  config.vocab = 50;
  config.qkv_bias = true;
  config.tied_embeddings = true;
  return config;
}

TEST(SplitLayers, LeftOversGoToLaterStagesExceptTheLast) {
  EXPECT_THAT(counts(61, 1), ElementsAre(61));
  EXPECT_THAT(counts(61, 2), ElementsAre(31, 30));
  EXPECT_THAT(counts(61, 4), ElementsAre(15, 15, 16, 15));
  EXPECT_THAT(counts(61, 8), ElementsAre(7, 7, 8, 8, 8, 8, 8, 7));
  EXPECT_THAT(counts(3, 3), ElementsAre(1, 1, 1));
}

// Every element of a tensor lies on as many ranks as its split says: once, on all, or on the replicas of its
// KV head; and a rank's slices cut no block.
void expect_covered(const ModelConfig& config, const WeightFormat& format, const ParallelSizes& sizes) {
  const auto tensors = checkpoint_tensors(config, format);
  const QuantBlock block = quant_block_of(tensors, format);
  const ParallelLayout layout = ParallelLayout::create(config, block, sizes).value();
  for (const CheckpointTensor& tensor : tensors) {
    std::map<int32_t, std::vector<int>> by_stage;
    for (int32_t rank = 0; rank < sizes.ranks(); ++rank) {
      const RankPlace place = layout.place(rank);
      const TensorSlice slice = layout.slice(tensor, place);
      if (!slice.held) continue;
      std::vector<int>& covered = by_stage[place.stage];
      covered.resize(static_cast<size_t>(tensor.shape[slice.dim]));
      int64_t held = 0;
      for (const TensorSlice::Run& run : slice.runs) {
        for (int64_t i = run.begin; i < run.end; ++i) ++covered[static_cast<size_t>(i)];
        held += run.end - run.begin;
      }
      EXPECT_GE(slice.size, held);
      if (tensor.dtype == DType::kF8E4M3 && slice.size != tensor.shape[slice.dim]) {
        EXPECT_EQ(slice.runs[0].begin % block.rows, 0) << tensor.name;
        EXPECT_EQ(slice.size % block.rows, 0) << tensor.name;
      }
    }
    const bool tied_table = config.tied_embeddings && tensor.place == CheckpointTensor::Place::kEmbedding;
    ASSERT_EQ(by_stage.size(), tied_table && sizes.pipeline > 1 ? 2 : 1) << tensor.name;
    int copies = tensor.split == TensorSplit::kWhole ? sizes.tensor : 1;
    if (tensor.split == TensorSplit::kKvRows) copies = layout.kv_heads() * sizes.tensor / config.kv_heads;
    if (tensor.expert >= 0 && sizes.expert_parallel) copies = 1;
    for (const auto& [stage, covered] : by_stage) {
      for (const int count : covered) ASSERT_EQ(count, copies) << tensor.name << " on stage " << stage;
    }
  }
}

TEST(ParallelLayout, SlicesCoverEveryTensor) {
  for (const int32_t stages : {1, 2, 3}) {
    for (const int32_t ranks : {1, 2, 4}) {
      expect_covered(latent_model(), {.fp8_block = 128}, {ranks, stages, false});
      expect_covered(latent_model(), {.fp8_block = 128}, {ranks, stages, true});
    }
    for (const int32_t ranks : {1, 2, 4, 6, 12}) expect_covered(grouped_model(), {}, {ranks, stages, false});
  }
}

TEST(ParallelLayout, ScalesFollowTheirWeights) {
  const auto tensors = checkpoint_tensors(latent_model(), {.fp8_block = 128});
  const auto layout = ParallelLayout::create(latent_model(), {128, 128}, {4, 1, false}).value();
  for (size_t i = 0; i + 1 < tensors.size(); ++i) {
    if (tensors[i].dtype != DType::kF8E4M3) continue;
    ASSERT_EQ(tensors[i + 1].name, tensors[i].name + "_scale_inv");
    const TensorSlice weight = layout.slice(tensors[i], {0, 3});
    const TensorSlice scale = layout.slice(tensors[i + 1], {0, 3});
    if (weight.size == tensors[i].shape[weight.dim]) continue;
    EXPECT_EQ(scale.dim, weight.dim);
    EXPECT_EQ(scale.runs[0].begin * 128, weight.runs[0].begin);
    EXPECT_EQ(scale.size * 128, weight.size);
  }
}

TEST(ParallelLayout, KvHeadsAreReplicatedWhenFewerThanRanks) {
  const auto layout = ParallelLayout::create(grouped_model(), {}, {6, 1, false}).value();
  EXPECT_EQ(layout.heads(), 2);
  EXPECT_EQ(layout.kv_heads(), 1);
  const auto tensors = checkpoint_tensors(grouped_model(), WeightFormat{});
  for (const CheckpointTensor& tensor : tensors) {
    if (!tensor.name.ends_with("k_proj.weight")) continue;
    EXPECT_EQ(layout.slice(tensor, {0, 2}).runs[0].begin, 0);
    EXPECT_EQ(layout.slice(tensor, {0, 3}).runs[0].begin, 8);
    EXPECT_EQ(layout.slice(tensor, {0, 5}).size, 8);
  }
}

// Query heads 0, 1 | 2, 3 | 4, 5 of three ranks use KV heads 0 | 0, 1 | 1.
TEST(ParallelLayout, ARankMayHoldAKvHeadForEachOfItsQueryHeads) {
  ModelConfig config = grouped_model();
  config.heads = 6;
  const auto layout = ParallelLayout::create(config, {}, {3, 1, false}).value();
  EXPECT_EQ(layout.heads(), 2);
  EXPECT_EQ(layout.kv_heads(), 2);
  const auto runs = [&](int32_t rank) {
    std::vector<std::pair<int64_t, int64_t>> out;
    for (const CheckpointTensor& tensor : checkpoint_tensors(config, WeightFormat{})) {
      if (tensor.name != "model.layers.0.self_attn.k_proj.weight") continue;
      const TensorSlice slice = layout.slice(tensor, {0, rank});
      EXPECT_EQ(slice.size, 16);
      for (const TensorSlice::Run& run : slice.runs) out.emplace_back(run.begin, run.end);
    }
    return out;
  };
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_THAT(runs(0), ElementsAre(Pair(0, 8), Pair(0, 8)));
  EXPECT_THAT(runs(1), ElementsAre(Pair(0, 16)));
  EXPECT_THAT(runs(2), ElementsAre(Pair(8, 16), Pair(8, 16)));
}

TEST(ParallelLayout, TheVocabularyIsPaddedToEqualShares) {
  const auto layout = ParallelLayout::create(latent_model(), {128, 128}, {4, 1, false}).value();
  EXPECT_EQ(layout.vocabulary_rows(), 256);
  const CheckpointTensor table = checkpoint_tensors(latent_model(), WeightFormat{})[0];
  const TensorSlice last = layout.slice(table, {0, 3});
  EXPECT_EQ(last.runs[0].begin, 768);
  EXPECT_EQ(last.runs[0].end, 1001);
  EXPECT_EQ(last.size, 256);
  EXPECT_EQ(last.bytes(table), 256u * 256 * 2);
}

TEST(ParallelLayout, SizesThatDoNotSplitAreRefusedWithThoseThatDo) {
  Status status = ParallelLayout::create(latent_model(), {128, 128}, {3, 1, false}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.param(), "tensor_parallel_size");
  EXPECT_THAT(status.message(), HasSubstr("8 query heads"));
  EXPECT_THAT(status.message(), HasSubstr("1, 2, 4"));
  // An expert's 512 columns over 8 ranks are half blocks; whole experts are not cut, the shared one is.
  status = ParallelLayout::create(latent_model(), {128, 128}, {8, 1, false}).status();
  EXPECT_THAT(status.message(), HasSubstr("blocks of 128"));
  // Twelve heads of 8 rows over 6 ranks are 16 columns of o_proj each, and 240 columns of the MLP 40.
  status = ParallelLayout::create(grouped_model(), {1, 32}, {6, 1, false}).status();
  EXPECT_THAT(status.message(),
              HasSubstr("16 of its 96 columns of o_proj per rank cut the weights' blocks of 32"));
  EXPECT_THAT(status.message(), HasSubstr("sizes that work: 1"));
  status = ParallelLayout::create(latent_model(), {128, 128}, {1, 6, false}).status();
  EXPECT_EQ(status.param(), "pipeline_parallel_size");
  status = ParallelLayout::create(grouped_model(), {}, {2, 1, true}).status();
  EXPECT_EQ(status.param(), "enable_expert_parallel");
  for (const int32_t bad : {0, -1, 13}) {
    EXPECT_FALSE(ParallelLayout::create(grouped_model(), {}, {bad, 1, false}).ok()) << bad;
  }
}

TEST(CheckpointTensors, TheFormatIsTheConfigurations) {
  const auto format = [](const char* text) {
    return parse_weight_format(nlohmann::json::parse(text), latent_model());
  };
  EXPECT_EQ(format(R"({"torch_dtype": "float32"})")->dtype, DType::kF32);
  EXPECT_EQ(format(R"({"dtype": "float16"})")->dtype, DType::kF16);
  EXPECT_EQ(format("{}")->dtype, DType::kBF16);
  EXPECT_FALSE(format(R"({"torch_dtype": "int3"})").ok());
}

}  // namespace
}  // namespace gantry
