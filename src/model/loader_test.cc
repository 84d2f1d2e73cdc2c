// Loading as a whole: files that change meanwhile, progress, and memory that is known before.
#include "model/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "formats/test_files.h"
#include "kernels/reference/backend.h"
#include "model/checkpoint_tensors.h"
#include "model/dummy_source.h"
#include "model/registry.h"

namespace gantry {
namespace {

using ::gantry::testing::SafetensorsWriter;
using ::gantry::testing::TempFolder;
using ::testing::HasSubstr;

constexpr const char* kLlama = R"({
  "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
  "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "tie_word_embeddings": false})";

constexpr const char* kDeepseek = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 256, "intermediate_size": 300, "num_hidden_layers": 3,
  "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_nope_head_dim": 32,
  "qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1,
  "moe_intermediate_size": 64, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "vocab_size": 512,
  "max_position_embeddings": 512, "num_nextn_predict_layers": 1, "torch_dtype": "bfloat16",
  "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                          "weight_block_size": [128, 128]}})";

// The folder's config.json as a checkpoint in one file, with the values of `--load-format dummy`.
void write_weights(const TempFolder& folder) {
  const auto dummy = open_dummy_weights(folder.path()).value();
  SafetensorsWriter writer;
  for (const WeightInfo& info : dummy->weights()) {
    std::string bytes(info.view.bytes(), '\0');
    ASSERT_TRUE(dummy->read(info, std::as_writable_bytes(std::span(bytes))).ok());
    std::vector<int64_t> dims;
    for (int i = 0; i < info.view.shape.rank(); ++i) dims.push_back(info.view.shape[i]);
    writer.tensor(info.name, std::string(to_string(info.view.dtype)), dims, bytes);
  }
  folder.write("model.safetensors", writer.build());
}

class LoadTest : public ::testing::TestWithParam<const char*> {
 protected:
  LoadTest() {
    folder_.write("config.json", GetParam());
    write_weights(folder_);
    options_.backend = cpu_backend("auto").value();
    options_.pool = &pool_;
    options_.rows_max = 8;
    options_.logit_rows_max = 2;
    options_.context_max = 64;
  }
  std::string file() const { return folder_.file("model.safetensors"); }

  TempFolder folder_;
  ThreadPool pool_{2};
  LoadOptions options_;
};

TEST_P(LoadTest, ProgressGoesUpToAllBytesThatAreRead) {
  const auto source = open_weights(folder_.path()).value();
  uint64_t last = 0, end = 0;
  options_.on_progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    last = done;
    end = total;
  };
  ASSERT_TRUE(load_model(*source, options_).ok());
  EXPECT_EQ(last, end);
  uint64_t read = 0;  // the MTP module is not loaded
  for (const CheckpointTensor& tensor : checkpoint_tensors(
           parse_model_config(source->config(), source->generation_config()).value(), *source)) {
    if (tensor.place != CheckpointTensor::Place::kMtp) read += tensor.bytes();
  }
  EXPECT_EQ(last, read);
}

TEST_P(LoadTest, SizesAreKnownBeforeLoading) {
  const auto source = open_weights(folder_.path()).value();
  const auto loaded = load_model(*source, options_).value();
  options_.sizes_only = true;
  const auto sizes = load_model(*source, options_).value();
  EXPECT_GT(loaded->resident_weight_bytes(), source->total_bytes() / 2);
  EXPECT_EQ(sizes->resident_weight_bytes(), loaded->resident_weight_bytes());
  EXPECT_EQ(sizes->activation_bytes(), loaded->activation_bytes());
}

TEST_P(LoadTest, AFileThatShrinksIsNamed) {
  const auto source = open_weights(folder_.path()).value();
  std::filesystem::resize_file(file(), std::filesystem::file_size(file()) / 2);
  const Status status = load_model(*source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(file() + ": ends at byte"));
}

// No signal, whenever it happens: nothing of the file is mapped.
TEST_P(LoadTest, AFileThatShrinksWhileItIsLoadedIsNamed) {
  const auto source = open_weights(folder_.path()).value();
  options_.on_progress = [&](uint64_t done, uint64_t total) {
    if (done < total / 2) std::filesystem::resize_file(file(), 0);
  };
  const Status status = load_model(*source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(file() + ": ends at byte"));
}

TEST_P(LoadTest, AFileThatIsWrittenToIsNamed) {
  const auto source = open_weights(folder_.path()).value();
  std::filesystem::last_write_time(file(),
                                   std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  const Status status = load_model(*source, options_).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(file() + ": was changed"));
}

// A loaded model needs its files no more.
TEST_P(LoadTest, AfterLoadingTheFilesMayGo) {
  const auto source = open_weights(folder_.path()).value();
  const auto model = load_model(*source, options_).value();
  const auto kv = KvStore::create(*options_.backend, model->kv_layouts(), 1).value();
  std::vector<float> before(static_cast<size_t>(model->config().vocab)), after(before.size());
  const std::vector<int32_t> ids{1, 2, 3, 4};
  const int32_t block = 0, last = 3;
  const Segment segment{0, 4, 0, &block};
  ASSERT_TRUE(model->forward({ids, {&segment, 1}, {&last, 1}}, *kv, before.data()).ok());
  std::filesystem::resize_file(file(), 0);
  ASSERT_TRUE(model->forward({ids, {&segment, 1}, {&last, 1}}, *kv, after.data()).ok());
  EXPECT_EQ(before, after);
}

TEST_P(LoadTest, DummyWeightsAreTheSameModel) {
  const auto source = open_weights(folder_.path()).value();
  const auto dummy = open_dummy_weights(folder_.path()).value();
  const std::vector<int32_t> ids{5, 6, 7};
  const int32_t block = 0, last = 2;
  const Segment segment{0, 3, 0, &block};
  std::vector<std::vector<float>> logits;
  for (const WeightSource* weights : {source.get(), dummy.get()}) {
    const auto model = load_model(*weights, options_).value();
    const auto kv = KvStore::create(*options_.backend, model->kv_layouts(), 1).value();
    logits.emplace_back(static_cast<size_t>(model->config().vocab));
    ASSERT_TRUE(model->forward({ids, {&segment, 1}, {&last, 1}}, *kv, logits.back().data()).ok());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

INSTANTIATE_TEST_SUITE_P(Models, LoadTest, ::testing::Values(kLlama, kDeepseek),
                         [](const auto& model) { return model.index == 0 ? "Llama" : "DeepseekV3"; });

// Several bands of a part, ragged at its end, are what the whole matrix is.
TEST(Loader, AMatrixOfSeveralBandsIsPackedAsAWhole) {
  constexpr int64_t kRows = 36001, kCols = 256;  // f32: 37 MB
  const TempFolder folder;
  std::string values(static_cast<size_t>(kRows * kCols) * 4, '\0');
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<char>(i * 2654435761u >> 16 & 0x3f);
  SafetensorsWriter writer;
  writer.tensor("lm_head.weight", "F32", {kRows, kCols}, values);
  folder.write("model.safetensors", writer.build());
  folder.write("config.json", kLlama);
  const auto source = open_weights(folder.path()).value();
  ThreadPool pool{1};
  for (const auto& name : {"generic", "reference"}) {
    LoadOptions options;
    options.backend = std::string_view(name) == "reference" ? reference_backend() : cpu_backend(name).value();
    options.pool = &pool;
    uint64_t done = 0;
    options.on_progress = [&](uint64_t bytes, uint64_t) { done = bytes; };
    Arena arena;
    Loader loader(*source, options, arena);
    const PackedWeight packed = loader.head({"lm_head", kRows}, kCols).value();
    EXPECT_EQ(done, values.size());
    const TensorView view{values.data(), DType::kF32, Shape{kRows, kCols}};
    const WeightSpec spec{.parts = {&view, 1}, .transient = true};
    Arena whole;
    const std::span<std::byte> storage = whole.take(options.backend->packed_bytes(spec)).value();
    const PackedWeight expected = options.backend->prepare(spec, storage).value();
    ASSERT_EQ(packed.bytes, expected.bytes);
    EXPECT_EQ(std::memcmp(packed.parts[0].data, expected.parts[0].data, packed.bytes), 0) << name;
  }
}

}  // namespace
}  // namespace gantry
