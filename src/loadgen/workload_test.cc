#include "loadgen/workload.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace gantry::loadgen {
namespace {

class DatasetFile {
 public:
  explicit DatasetFile(const std::string& text)
      : path_(std::filesystem::path(testing::TempDir()) /
              (std::string("dataset-") + testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::ofstream(path_) << text;
  }
  ~DatasetFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

std::string refusal(const std::string& text) {
  const DatasetFile file(text);
  const auto read = read_dataset(file.path(), 16);
  return read.ok() ? "" : read.status().message();
}

TEST(RandomWorkload, IsAFunctionOfSeedAndIndex) {
  const RandomLengths lengths{.seed = 4, .input_tokens = 20, .output_tokens = 7, .prefix_tokens = 5};
  const auto a = make_random_workload(lengths).value();
  const auto b = make_random_workload(lengths).value();
  std::set<std::string> prompts;
  for (int64_t i = 0; i < 50; ++i) {
    const WorkloadItem item = a->item(i);
    EXPECT_EQ(item.prompt, b->item(i).prompt);
    EXPECT_EQ(item.prompt.size(), 25u);
    EXPECT_EQ(item.output_tokens, 7);
    for (size_t p = 0; p < 5; ++p) EXPECT_EQ(item.prompt[p], a->item(0).prompt[p]);
    for (const auto& id : item.prompt) {
      EXPECT_GE(id, lengths.token_first);
      EXPECT_LT(id, lengths.token_end);
    }
    prompts.insert(item.prompt.dump());
  }
  EXPECT_EQ(prompts.size(), 50u);
  RandomLengths other = lengths;
  other.seed = 5;
  EXPECT_NE(make_random_workload(other).value()->item(0).prompt, a->item(0).prompt);
}

TEST(RandomWorkload, LengthsCoverTheirRange) {
  const auto workload =
      make_random_workload({.input_tokens = 10, .output_tokens = 4, .range_ratio = 0.5}).value();
  std::set<size_t> inputs;
  std::set<int32_t> outputs;
  for (int64_t i = 0; i < 500; ++i) {
    const WorkloadItem item = workload->item(i);
    inputs.insert(item.prompt.size());
    outputs.insert(item.output_tokens);
  }
  EXPECT_EQ(*inputs.begin(), 5u);
  EXPECT_EQ(*inputs.rbegin(), 15u);
  EXPECT_EQ(outputs, (std::set<int32_t>{2, 3, 4, 5, 6}));
}

TEST(RandomWorkload, TextHasOneWordPerToken) {
  const auto workload = make_random_workload({.input_tokens = 12, .form = PromptForm::kText}).value();
  const auto text = workload->item(3).prompt.get<std::string>();
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 11);
}

TEST(RandomWorkload, RefusalsNameTheFlag) {
  const auto param = [](const RandomLengths& lengths) {
    return make_random_workload(lengths).status().param();
  };
  EXPECT_EQ(param({.input_tokens = 0}), "--input-len");
  EXPECT_EQ(param({.output_tokens = -1}), "--output-len");
  EXPECT_EQ(param({.range_ratio = 1}), "--range-ratio");
  EXPECT_EQ(param({.prefix_tokens = -1}), "--prefix-len");
  EXPECT_EQ(param({.token_first = 10, .token_end = 10}), "--token-ids");
}

TEST(Dataset, LinesGivePromptsMessagesAndLengths) {
  const DatasetFile file(
      "{\"prompt\": \"hello\"}\n\n{\"prompt\": [1, 2, 3], \"output_tokens\": 9}\r\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}");
  const auto dataset = read_dataset(file.path(), 16).value();
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->item(0).prompt, "hello");
  EXPECT_EQ(dataset->item(0).output_tokens, 16);
  EXPECT_EQ(dataset->item(1).prompt, nlohmann::ordered_json({1, 2, 3}));
  EXPECT_EQ(dataset->item(1).output_tokens, 9);
  EXPECT_TRUE(dataset->item(2).messages);
  EXPECT_EQ(dataset->item(3).prompt, "hello");  // it begins again
}

TEST(Dataset, ReadsShareGpt) {
  const DatasetFile file(
      R"([{"conversations": [{"value": "why"}, {"value": "because of it"}]}, {"conversations": [{"value": "x"}]}])");
  const auto dataset = read_dataset(file.path(), 16).value();
  ASSERT_EQ(dataset->size(), 1);
  EXPECT_EQ(dataset->item(0).prompt, "why");
  EXPECT_EQ(dataset->item(0).output_tokens, 3);
}

TEST(Dataset, RefusalsNameTheLine) {
  EXPECT_NE(refusal("{\"prompt\": \"a\"}\nnonsense").find(":2: is no JSON object"), std::string::npos);
  EXPECT_NE(refusal("{\"prompt\": 3}").find(":1: \"prompt\" must be"), std::string::npos);
  EXPECT_NE(refusal("{\"text\": \"a\"}").find("neither"), std::string::npos);
  EXPECT_NE(refusal("{\"prompt\": \"a\", \"output_tokens\": 0}").find("whole number"), std::string::npos);
  EXPECT_NE(refusal("[1").find("no valid JSON"), std::string::npos);
  EXPECT_NE(refusal("[{\"conversations\": [{\"value\": 1}, {}]}]").find("turn 1"), std::string::npos);
  EXPECT_NE(refusal("[[]]").find("conversations"), std::string::npos);
  EXPECT_NE(refusal("").find("no prompts"), std::string::npos);
  EXPECT_EQ(read_dataset("/nonexistent", 1).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace gantry::loadgen
