#include "formats/weight_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <random>

#include "formats/regular_file.h"
#include "formats/test_files.h"

namespace gantry {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::SafetensorsWriter;
using testing::TempFolder;

std::vector<std::string> names_of(const WeightSource& source) {
  std::vector<std::string> names;
  for (const WeightInfo& info : source.weights()) names.push_back(info.name);
  return names;
}

void expect_refused(const std::string& path, StatusCode code, const std::string& part) {
  const auto source = open_weights(path);
  ASSERT_FALSE(source.ok()) << "accepted, expected: " << part;
  EXPECT_EQ(source.status().code(), code) << source.status().message();
  EXPECT_EQ(source.status().message().find('\n'), std::string::npos);
  EXPECT_THAT(source.status().message(), HasSubstr(part));
}

// All of a tensor's bytes.
std::vector<std::byte> read_tensor(const WeightSource& source, const std::string& name) {
  const WeightInfo* info = source.find(name);
  if (info == nullptr) return {};
  std::vector<std::byte> bytes(info->view.bytes());
  const Status status = source.read(*info, bytes);
  EXPECT_TRUE(status.ok()) << status.message();
  return bytes;
}

float value_of(const WeightSource& source, const std::string& name, size_t index) {
  const std::vector<std::byte> bytes = read_tensor(source, name);
  float value = 0;
  if (bytes.size() >= (index + 1) * sizeof(value))
    std::memcpy(&value, &bytes[index * sizeof(value)], sizeof(value));
  return value;
}

std::string one_tensor(const std::string& name, float value) {
  return SafetensorsWriter().tensor(name, "F32", {1}, testing::bytes_of_values<float>({value})).build();
}

// A byte-level tokenizer of the kind that GPT-2 published, with one control token.
json tokenizer_json() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
    "added_tokens": [{"id": 3, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
              "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

TEST(CheckpointFolder, OpensASingleFile) {
  TempFolder folder;
  folder.write("config.json", R"({"architectures":["LlamaForCausalLM"]})");
  folder.write("model.safetensors", SafetensorsWriter()
                                        .tensor("w", "F32", {2, 1}, testing::bytes_of_values<float>({1, 2}))
                                        .tensor("b", "BF16", {3}, std::string(6, '\1'))
                                        .build());
  const auto source = open_weights(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().message();
  const WeightSource& weights = **source;
  EXPECT_EQ(weights.path(), folder.path());
  EXPECT_EQ(weights.config()["architectures"][0], "LlamaForCausalLM");
  EXPECT_EQ(weights.generation_config(), json::object());
  EXPECT_EQ(weights.vocab(), nullptr);
  EXPECT_THAT(names_of(weights), ElementsAre("b", "w"));
  EXPECT_EQ(weights.total_bytes(), 14u);
  ASSERT_NE(weights.find("w"), nullptr);
  EXPECT_EQ(value_of(weights, "w", 1), 2);
  EXPECT_EQ(weights.find("w")->file, folder.file("model.safetensors"));
  EXPECT_EQ(weights.find("a"), nullptr);
  EXPECT_EQ(weights.find("zzz"), nullptr);
}

// Hand-written files and those from before safetensors 0.3 do not pad the header.
TEST(CheckpointFolder, MisalignedTensorsAreReadable) {
  for (size_t padding = 0; padding < 8; ++padding) {
    TempFolder folder;
    folder.write("config.json", "{}");
    const std::string header =
        R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(padding, ' ');
    folder.write("model.safetensors",
                 testing::safetensors_with_header(header, testing::bytes_of_values<float>({1, 2})));
    const auto source = open_weights(folder.path());
    ASSERT_TRUE(source.ok()) << source.status().message();
    std::array<float, 2> values{};
    ASSERT_TRUE((*source)->read(*(*source)->find("w"), std::as_writable_bytes(std::span(values))).ok());
    EXPECT_EQ(values, (std::array<float, 2>{1, 2}));
  }
}

TEST(CheckpointFolder, NamesWhatIsMissing) {
  TempFolder folder;
  expect_refused(folder.path(), StatusCode::kNotFound, "has no config.json");
  folder.write("config.json", "{}");
  expect_refused(folder.path(), StatusCode::kNotFound,
                 "has neither model.safetensors nor model.safetensors.index.json");
  folder.write("pytorch_model.bin", "x");
  expect_refused(folder.path(), StatusCode::kNotFound,
                 "pytorch_model.bin is not read: convert it to safetensors");
  folder.write("model.safetensors", "x");
  expect_refused(folder.path(), StatusCode::kDataLoss, "model.safetensors: has 1 bytes");
  expect_refused(folder.file("nothing"), StatusCode::kNotFound, "No such file");
  expect_refused(folder.file("model.safetensors"), StatusCode::kInvalidArgument,
                 "give the folder that holds it");
}

class ShardedFolder : public ::testing::Test {
 protected:
  ShardedFolder() {
    folder.write("config.json", "{}");
    folder.write("s1.safetensors", one_tensor("a", 1));
    folder.write("s2.safetensors", one_tensor("b", 2));
  }
  void index(const json& weight_map) {
    folder.write("model.safetensors.index.json",
                 json{{"metadata", {{"total_size", 8}}}, {"weight_map", weight_map}}.dump());
  }
  TempFolder folder;
};

TEST_F(ShardedFolder, Opens) {
  index({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}});
  const auto source = open_weights(folder.path() + "/");
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_THAT(names_of(**source), ElementsAre("a", "b"));
  EXPECT_EQ(value_of(**source, "b", 0), 2);
}

// The layout of Hugging Face's cache: snapshots/REV/x → ../../blobs/HASH.
TEST_F(ShardedFolder, FollowsLinksIntoABlobFolder) {
  TempFolder cache;
  std::filesystem::create_directories(cache.file("blobs"));
  std::filesystem::create_directories(cache.file("snapshots/1"));
  const auto add = [&](const std::string& name, const std::string& blob, const std::string& content) {
    cache.write("blobs/" + blob, content);
    std::filesystem::create_symlink("../../blobs/" + blob, cache.file("snapshots/1/" + name));
  };
  add("config.json", "c0", "{}");
  add("s1.safetensors", "c1", one_tensor("a", 1));
  add("model.safetensors.index.json", "c2", R"({"weight_map":{"a":"s1.safetensors"}})");
  const auto source = open_weights(cache.file("snapshots/1"));
  ASSERT_TRUE(source.ok()) << source.status().message();
  std::filesystem::remove(cache.file("blobs/c1"));
  expect_refused(cache.file("snapshots/1"), StatusCode::kNotFound, "s1.safetensors: No such file");
}

TEST_F(ShardedFolder, RefusesNamesThatLeadElsewhere) {
  for (const char* name : {"../s1.safetensors", "/etc/passwd", "x/s1.safetensors", "..", ".", "", "a\\b"}) {
    index({{"a", name}});
    expect_refused(folder.path(), StatusCode::kDataLoss, "tensor \"a\": its shard");
  }
  index({{"a", 1}});
  expect_refused(folder.path(), StatusCode::kDataLoss, "is not the plain name of a file");
}

TEST_F(ShardedFolder, RefusesIndexAndShardsThatDisagree) {
  index({{"a", "s1.safetensors"}, {"b", "s3.safetensors"}});
  expect_refused(folder.path(), StatusCode::kNotFound,
                 "s3.safetensors: missing; model.safetensors.index.json names it");
  index({{"a", "s1.safetensors"}, {"c", "s2.safetensors"}});
  expect_refused(folder.path(), StatusCode::kDataLoss,
                 "s2.safetensors: tensor \"b\" is not in model.safetensors.index.json");
  index({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}, {"c", "s2.safetensors"}});
  expect_refused(folder.path(), StatusCode::kDataLoss, "s2.safetensors: tensor \"c\" is not in the file");
  index({{"a", "s2.safetensors"}, {"b", "s1.safetensors"}});
  expect_refused(folder.path(), StatusCode::kDataLoss, "places it in");
  folder.write("s2.safetensors", one_tensor("a", 2));
  index({{"a", "s1.safetensors"}, {"b", "s2.safetensors"}});
  expect_refused(folder.path(), StatusCode::kDataLoss, "s2.safetensors: tensor \"a\" is here, but");
}

TEST_F(ShardedFolder, RefusesShardsThatAreNoFiles) {
  index({{"a", "s1.safetensors"}, {"b", "s3.safetensors"}});
  ASSERT_EQ(::mkfifo(folder.file("s3.safetensors").c_str(), 0600), 0);
  expect_refused(folder.path(), StatusCode::kInvalidArgument, "s3.safetensors: is a FIFO");
  std::filesystem::remove(folder.file("s3.safetensors"));
  std::filesystem::create_directory(folder.file("s3.safetensors"));
  expect_refused(folder.path(), StatusCode::kInvalidArgument, "s3.safetensors: is a folder");
}

TEST_F(ShardedFolder, RefusesABadIndex) {
  for (const char* index : {"{}", R"({"weight_map":[]})"}) {
    folder.write("model.safetensors.index.json", index);
    expect_refused(folder.path(), StatusCode::kDataLoss, "has no object weight_map");
  }
  folder.write("model.safetensors.index.json",
               R"({"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}})");
  expect_refused(folder.path(), StatusCode::kDataLoss, "has the key \"a\" twice");
}

class TokenizerFolder : public ::testing::Test {
 protected:
  TokenizerFolder() {
    folder.write("config.json", R"({"eos_token_id":3})");
    folder.write("model.safetensors", one_tensor("a", 1));
    folder.write("tokenizer.json", tokenizer_json().dump());
  }
  TempFolder folder;
};

TEST_F(TokenizerFolder, ReadsTheVocabulary) {
  folder.write("generation_config.json", R"({"eos_token_id":[3,1],"temperature":0.6})");
  folder.write("tokenizer_config.json", R"({"chat_template":"{{ from_config }}","eos_token":"<|end|>"})");
  const auto source = open_weights(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().message();
  ASSERT_NE((*source)->vocab(), nullptr);
  const VocabSpec& vocab = *(*source)->vocab();
  EXPECT_EQ(vocab.tokens[2], "ab");
  ASSERT_EQ(vocab.added.size(), 1u);
  EXPECT_THAT(vocab.eos, ElementsAre(3, 1));
  EXPECT_EQ(vocab.chat_template, "{{ from_config }}");
  EXPECT_EQ((*source)->generation_config()["temperature"], 0.6);
}

TEST_F(TokenizerFolder, TheTemplateFileWins) {
  folder.write("tokenizer_config.json", R"({"chat_template":"{{ from_config }}"})");
  folder.write("chat_template.jinja", "{{ from_file }}");
  const auto source = open_weights(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ((*source)->vocab()->chat_template, "{{ from_file }}");
  folder.write("chat_template.jinja", std::string((1 << 20) + 1, 'x'));
  expect_refused(folder.path(), StatusCode::kResourceExhausted,
                 "chat_template.jinja: has more than the 1048576 bytes");
}

TEST_F(TokenizerFolder, RefusesBadJsonAndBadIds) {
  folder.write("generation_config.json", R"({"eos_token_id":4})");
  expect_refused(folder.path(), StatusCode::kDataLoss,
                 "generation_config.json: eos_token_id 4 is not the id of one of the tokenizer's 4 tokens");
  folder.write("generation_config.json", R"({"eos_token_id":["x"]})");
  expect_refused(folder.path(), StatusCode::kDataLoss, "eos_token_id \"x\" is not the id");
  folder.write("generation_config.json", "{");
  expect_refused(folder.path(), StatusCode::kDataLoss, "generation_config.json: is not valid JSON");
  folder.write("generation_config.json", "{}");
  folder.write("tokenizer_config.json", R"({"a":1,"a":2})");
  expect_refused(folder.path(), StatusCode::kDataLoss, "tokenizer_config.json: has the key \"a\" twice");
  std::filesystem::remove(folder.file("tokenizer_config.json"));
  folder.write("tokenizer.json", R"({"model":{"type":"WordPiece"}})");
  EXPECT_FALSE(open_weights(folder.path()).ok());
  folder.write("config.json", "[]");
  expect_refused(folder.path(), StatusCode::kDataLoss, "config.json: is not a JSON object");
}

TEST(GgufCheckpoint, OpensWithHuggingFaceNames) {
  TempFolder folder;
  testing::GgufWriter writer = testing::small_llama_metadata();
  writer.tensor("token_embd.weight", 0, {8, 4}, std::string(128, 'x'))
      .tensor("blk.1.attn_k.weight", 8, {32, 4}, std::string(136, 'k'))
      .tensor("rope_freqs.weight", 0, {2}, std::string(8, 'x'));
  const auto source = open_weights(folder.write("m.gguf", writer.build()));
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ((*source)->vocab(), nullptr);
  EXPECT_EQ((*source)->config()["hidden_size"], 8);
  EXPECT_THAT(names_of(**source), ElementsAre("model.embed_tokens.weight",
                                              "model.layers.1.self_attn.k_proj.weight", "rope_freqs.weight"));
  const TensorView& key = (*source)->find("model.layers.1.self_attn.k_proj.weight")->view;
  EXPECT_EQ(key.shape, (Shape{4, 32}));
  EXPECT_EQ(key.dtype, DType::kQ8_0);
  EXPECT_EQ(read_tensor(**source, "model.layers.1.self_attn.k_proj.weight").back(), std::byte{'k'});
}

TEST(GgufCheckpoint, StackedExpertsComeApart) {
  TempFolder folder;
  std::vector<float> values(3 * 2 * 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  testing::GgufWriter writer = testing::small_llama_metadata();
  writer.tensor("blk.1.ffn_up_exps.weight", 0, {4, 2, 3}, testing::bytes_of_values(values));
  const auto source = open_weights(folder.write("m.gguf", writer.build()));
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_THAT(names_of(**source), ElementsAre("model.layers.1.mlp.experts.0.up_proj.weight",
                                              "model.layers.1.mlp.experts.1.up_proj.weight",
                                              "model.layers.1.mlp.experts.2.up_proj.weight"));
  const TensorView& last = (*source)->find("model.layers.1.mlp.experts.2.up_proj.weight")->view;
  EXPECT_EQ(last.shape, (Shape{2, 4}));
  EXPECT_EQ(value_of(**source, "model.layers.1.mlp.experts.2.up_proj.weight", 0), 16);
  EXPECT_EQ((*source)->total_bytes(), values.size() * 4);
}

TEST(GgufCheckpoint, RefusesByName) {
  TempFolder folder;
  const auto open = [&](testing::GgufWriter& writer) { return folder.write("m.gguf", writer.build()); };
  testing::GgufWriter flat = testing::small_llama_metadata();
  flat.tensor("blk.1.ffn_up_exps.weight", 0, {4, 2}, std::string(32, 'x'));
  expect_refused(open(flat), StatusCode::kDataLoss, "is [2, 4], not [experts, out, in]");
  testing::GgufWriter many = testing::small_llama_metadata();
  many.tensor("blk.1.ffn_up_exps.weight", 0, {0, 2, 1025}, "");
  expect_refused(open(many), StatusCode::kResourceExhausted, "has 1025 experts; at most 1024");
  testing::GgufWriter split = testing::small_llama_metadata();
  split.u16("split.count", 3);
  expect_refused(open(split), StatusCode::kUnimplemented, "is one part of a split GGUF");
  testing::GgufWriter twice = testing::small_llama_metadata();
  twice.tensor("output_norm.weight", 0, {8}, std::string(32, 'x'))
      .tensor("model.norm.weight", 0, {8}, std::string(32, 'x'));
  expect_refused(open(twice), StatusCode::kDataLoss, "tensor \"model.norm.weight\" is there twice");
  expect_refused(folder.write("other", "no magic"), StatusCode::kDataLoss, "is not a GGUF file");
}

// A mapped file that is shortened ends the process; a head longer than what is read first is read again.
TEST(GgufCheckpoint, NothingIsMappedAndALongHeadIsRead) {
  TempFolder folder;
  testing::GgufWriter writer = testing::small_llama_metadata();
  writer.string("general.description", std::string(5 << 20, 'd'))
      .tensor("output_norm.weight", 0, {8}, testing::bytes_of_values<float>({1, 2, 3, 4, 5, 6, 7, 8}));
  const std::string path = folder.write("m.gguf", writer.build());
  const auto source = open_weights(path);
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ(value_of(**source, "model.norm.weight", 7), 8);
  EXPECT_THAT(*read_file("/proc/self/maps", 16 << 20), ::testing::Not(HasSubstr(path)));
  std::filesystem::resize_file(path, 5 << 20);
  expect_refused(path, StatusCode::kDataLoss, "general.description");
}

// Whatever opens can be read.
uint64_t sum_of_ends(const WeightSource& source) {
  uint64_t sum = 0;
  for (const WeightInfo& info : source.weights()) {
    const std::vector<std::byte> bytes = read_tensor(source, info.name);
    if (!bytes.empty())
      sum += std::to_integer<uint64_t>(bytes.front()) + std::to_integer<uint64_t>(bytes.back());
  }
  return sum;
}

std::string mutated(std::string file, std::mt19937& random) {
  for (uint32_t flips = 1 + random() % 3; flips > 0; --flips) {
    file[random() % file.size()] = static_cast<char>(random());
  }
  return file;
}

TEST(Mutations, OfAGgufWithATokenizerAreRefusedOrReadable) {
  testing::GgufWriter writer = testing::small_llama_metadata();
  writer.string("tokenizer.ggml.model", "gpt2")
      .string("tokenizer.ggml.pre", "smollm")
      .strings("tokenizer.ggml.tokens", {"a", "Ġ", "Ġa", "<|im_end|>"})
      .i32s("tokenizer.ggml.token_type", {1, 1, 1, 3})
      .strings("tokenizer.ggml.merges", {"Ġ a"})
      .tensor("token_embd.weight", 8, {32, 4}, std::string(136, 'x'))
      .tensor("blk.0.ffn_up_exps.weight", 0, {4, 2, 3}, std::string(96, 'x'));
  const std::string file = writer.build();
  TempFolder folder;
  std::mt19937 random(4);
  int opened = 0;
  uint64_t sum = 0;
  for (int round = 0; round < 2000; ++round) {
    const auto source = open_weights(folder.write("m.gguf", mutated(file, random)));
    if (!source.ok()) continue;
    ++opened;
    sum += sum_of_ends(**source);
  }
  EXPECT_GT(opened, 0);
  EXPECT_GT(sum, 0u);
  EXPECT_LT(opened, 2000);
}

TEST(Mutations, OfAFolderAreRefusedOrReadable) {
  TempFolder folder;
  folder.write("config.json", "{}");
  const std::string file = SafetensorsWriter()
                               .tensor("w", "F32", {2, 1}, std::string(8, '\1'))
                               .tensor("b", "BF16", {3}, std::string(6, '\1'))
                               .build();
  std::mt19937 random(5);
  int opened = 0;
  uint64_t sum = 0;
  for (int round = 0; round < 2000; ++round) {
    folder.write("model.safetensors", mutated(file, random));
    const auto source = open_weights(folder.path());
    if (!source.ok()) continue;
    ++opened;
    sum += sum_of_ends(**source);
  }
  EXPECT_GT(opened, 0);
  EXPECT_GT(sum, 0u);
  EXPECT_LT(opened, 2000);
}

}  // namespace
}  // namespace gantry
