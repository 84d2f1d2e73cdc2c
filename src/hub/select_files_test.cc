#include "hub/select_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gantry::hub {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<RemoteFile> files(std::initializer_list<const char*> paths) {
  std::vector<RemoteFile> list;
  for (const char* path : paths) list.push_back({.path = path, .etag = {}, .is_lfs = false, .size = 0});
  return list;
}

std::vector<std::string> chosen(const std::vector<RemoteFile>& all,
                                const std::vector<std::string>& patterns = {}) {
  std::vector<std::string> paths;
  const auto result = select_files(all, patterns);
  EXPECT_TRUE(result.ok()) << result.status().message();
  for (const RemoteFile& file : *result) paths.push_back(file.path);
  return paths;
}

TEST(SelectFiles, TakesWhatGantryReads) {
  EXPECT_THAT(
      chosen(
          files({".gitattributes", "README.md", "chat_template.jinja", "config.json",
                 "consolidated.safetensors", "figures/benchmark.jpg", "merges.txt",
                 "model-00001-of-00002.safetensors", "model.safetensors.index.json", "modeling_deepseek.py",
                 "original/params.json", "pytorch_model.bin", "tokenizer.json", "tokenizer.model"})),
      ElementsAre("chat_template.jinja", "config.json", "merges.txt", "model-00001-of-00002.safetensors",
                  "model.safetensors.index.json", "tokenizer.json", "tokenizer.model"));
}

TEST(SelectFiles, PatternsAreHuggingFaces) {
  const auto all = files({"a.json", "b/c.json", "b/d.txt", "e[1].txt"});
  EXPECT_THAT(chosen(all, {"*.json"}), ElementsAre("a.json", "b/c.json"));
  EXPECT_THAT(chosen(all, {"b/"}), ElementsAre("b/c.json", "b/d.txt"));
  EXPECT_THAT(chosen(all, {"?.json", "*d*"}), ElementsAre("a.json", "b/d.txt"));
  EXPECT_THAT(chosen(all, {"*"}).size(), 4u);
}

TEST(SelectFiles, OneGgufFileIsNoChoice) {
  EXPECT_THAT(chosen(files({"README.md", "config.json", "a.gguf"})), ElementsAre("a.gguf"));
  const auto several = select_files(files({"a.gguf", "b.gguf"}), {});
  EXPECT_EQ(several.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(several.status().message(), HasSubstr("--include"));
}

TEST(SelectFiles, SaysWhatThereIs) {
  EXPECT_THAT(select_files(files({"pytorch_model.bin"}), {}).status().message(),
              HasSubstr("pytorch_model.bin"));
  EXPECT_THAT(select_files(files({}), {}).status().message(), HasSubstr("no file"));
  EXPECT_THAT(
      select_files(files({"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}), {"x"}).status().message(),
      HasSubstr("and 2 more"));
}

}  // namespace
}  // namespace gantry::hub
