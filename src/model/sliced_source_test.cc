#include "model/sliced_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "formats/test_files.h"
#include "kernels/ops/packed_weight.h"
#include "model/dummy_source.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;

// Over two ranks the dense layer's 320 columns are cut within a block of FP8, an expert's 64 lie within one.
constexpr const char* kDeepseek = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
  "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": [128, 128]},
  "hidden_size": 192, "intermediate_size": 320, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 4, "vocab_size": 100, "max_position_embeddings": 128, "kv_lora_rank": 64,
  "q_lora_rank": 64, "n_group": 1, "topk_group": 1, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32, "n_routed_experts": 4,
  "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "first_k_dense_replace": 1})";

class SlicedSource : public ::testing::Test {
 protected:
  SlicedSource() {
    folder_.write("config.json", kDeepseek);
    source_ = open_dummy_weights(folder_.path()).value();
    config_ = parse_model_config(source_->config(), source_->generation_config()).value();
  }

  std::unique_ptr<WeightSource> slice(const ParallelSizes& sizes, int32_t rank) const {
    const ParallelLayout layout = ParallelLayout::create(config_, {}, sizes).value();
    return slice_weights(*source_, config_, layout, layout.place(rank)).value();
  }

  static std::vector<std::byte> bytes_of_weight(const WeightSource& source, const WeightInfo& info) {
    std::vector<std::byte> bytes(info.view.bytes());
    EXPECT_TRUE(source.read(info, bytes).ok());
    return bytes;
  }
  // All values as f32, an FP8 tensor's with its scales.
  static std::vector<float> values(const WeightSource& source, const std::string& name) {
    const WeightInfo& info = *source.find(name);
    const std::vector<std::byte> bytes = bytes_of_weight(source, info);
    std::vector<float> out(static_cast<size_t>(info.view.shape.elements()));
    dequantize({bytes.data(), info.view.dtype, info.view.shape}, 0, out);
    if (info.view.dtype != DType::kF8E4M3) return out;
    const WeightInfo& scales = *source.find(name + "_scale_inv");
    const int64_t cols = info.view.shape[1];
    EXPECT_EQ(scales.view.shape, (Shape{scale_blocks(info.view.shape[0]), scale_blocks(cols)})) << name;
    const std::vector<std::byte> scale_bytes = bytes_of_weight(source, scales);
    for (size_t i = 0; i < out.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / cols, col = static_cast<int64_t>(i) % cols;
      float scale = 0;
      std::memcpy(
          &scale,
          &scale_bytes[static_cast<size_t>(row / kScaleBlock * scale_blocks(cols) + col / kScaleBlock) * 4],
          4);
      out[i] *= scale;
    }
    return out;
  }

  testing::TempFolder folder_;
  std::unique_ptr<WeightSource> source_;
  ModelConfig config_;
};

TEST_F(SlicedSource, RanksHoldTheirSlicesOfEveryTensor) {
  for (const ParallelSizes& sizes :
       {ParallelSizes{2, 1, false}, ParallelSizes{4, 1, true}, ParallelSizes{2, 2, true}}) {
    const ParallelLayout layout = ParallelLayout::create(config_, {}, sizes).value();
    std::map<std::string, int> holders;
    for (int32_t rank = 0; rank < sizes.ranks(); ++rank) {
      const auto own = slice(sizes, rank);
      for (const CheckpointTensor& tensor : checkpoint_tensors(config_, *source_)) {
        const WeightInfo* info = own->find(tensor.name);
        if (info == nullptr || tensor.name.ends_with("_scale_inv")) continue;
        ++holders[tensor.name];
        const TensorSlice slice = layout.slice(tensor, layout.place(rank));
        const std::vector<float> whole = values(*source_, tensor.name), part = values(*own, tensor.name);
        std::vector<float> expected;
        const int64_t cols = tensor.shape.rank() == 2 ? tensor.shape[1] : 1;
        for (int64_t row = 0; row < tensor.shape[0]; ++row) {
          for (int64_t col = 0; col < cols; ++col) {
            const int64_t at = slice.dim == 0 ? row : col;
            if (at >= slice.runs[0].begin && at < slice.runs[0].end) {
              expected.push_back(whole[static_cast<size_t>(row * cols + col)]);
            }
          }
        }
        expected.resize(part.size());  // padding
        EXPECT_EQ(part, expected) << tensor.name << " on rank " << rank;
        EXPECT_EQ(info->view.shape[slice.dim], slice.size);
      }
    }
    for (const CheckpointTensor& tensor : checkpoint_tensors(config_, *source_)) {
      if (tensor.name.ends_with("_scale_inv")) continue;
      EXPECT_GT(holders[tensor.name], 0) << tensor.name;
    }
  }
}

TEST_F(SlicedSource, RangesAreThoseOfTheWhole) {
  const auto own = slice({2, 1, false}, 1);
  for (const char* name : {"model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight",
                           "model.layers.0.self_attn.o_proj.weight", "model.layers.1.mlp.gate.weight"}) {
    const WeightInfo& info = *own->find(name);
    const std::vector<std::byte> whole = bytes_of_weight(*own, info);
    for (const auto& [first, count] : {std::pair<size_t, size_t>{0, 4}, {400, 4000}, {1204, 8}}) {
      std::vector<std::byte> range(std::min(count, whole.size() - first));
      ASSERT_TRUE(own->read_range(info, first, range).ok());
      EXPECT_EQ(std::memcmp(range.data(), whole.data() + first, range.size()), 0)
          << name << " from " << first;
    }
  }
}

TEST_F(SlicedSource, ABlockThatIsCutKeepsItsScaleOrIsMultipliedOut) {
  const auto own = slice({2, 1, false}, 1);
  const auto dtype = [&](const char* name) { return own->find(name)->view.dtype; };
  EXPECT_EQ(dtype("model.layers.0.mlp.down_proj.weight"), DType::kF32);               // columns 160 to 320
  EXPECT_EQ(dtype("model.layers.1.mlp.experts.3.down_proj.weight"), DType::kF8E4M3);  // 32 to 64
  EXPECT_EQ(dtype("model.layers.0.self_attn.o_proj.weight"), DType::kF8E4M3);         // 64 to 128
}

TEST_F(SlicedSource, ATensorOfAnotherShapeIsNamed) {
  ModelConfig other = config_;
  other.intermediate = 640;
  const ParallelLayout layout = ParallelLayout::create(other, {}, {2, 1, false}).value();
  const Status status = slice_weights(*source_, other, layout, {0, 1}).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("mlp.down_proj.weight is [192, 320]: want [192, 640]"));
}

}  // namespace
}  // namespace gantry
