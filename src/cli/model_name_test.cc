#include "cli/model_name.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace gantry::cli {
namespace {

class ModelName : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              (std::string("model_name_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    setenv("GANTRY_DATA_DIR", folder_.c_str(), 1);
    setenv("GANTRY_MODEL_DIR", folder_.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("GANTRY_DATA_DIR");
    unsetenv("GANTRY_MODEL_DIR");
    std::filesystem::remove_all(folder_);
  }
  void touch(const std::string& name) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << "{}";
  }

  std::filesystem::path folder_;
};

TEST_F(ModelName, TheInstalledModelIsFoundInTheDataFolder) {
  EXPECT_EQ(resolve_model("r1-tiny").status().code(), StatusCode::kNotFound);
  EXPECT_NE(resolve_model("r1-tiny").status().message().find((folder_ / "r1-tiny").string()),
            std::string::npos);
  touch("r1-tiny/config.json");
  const auto model = resolve_model("r1-tiny");
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->path, (folder_ / "r1-tiny").string());
  EXPECT_EQ(model->id, "r1-tiny");
}

TEST_F(ModelName, TheFetchedModelIsFoundInTheModelFolder) {
  const auto missing = resolve_model("smollm2");
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("make model"), std::string::npos);
  touch("smollm2.gguf");
  const auto model = resolve_model("smollm2");
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->path, (folder_ / "smollm2.gguf").string());
}

TEST_F(ModelName, AFolderIsCalledByItsNameAndAFileByItsStem) {
  touch("big/config.json");
  touch("small.gguf");
  EXPECT_EQ(resolve_model((folder_ / "big").string())->id, "big");
  EXPECT_EQ(resolve_model((folder_ / "big/").string())->id, "big");
  EXPECT_EQ(resolve_model((folder_ / "small.gguf").string())->id, "small");
}

TEST_F(ModelName, WhatDoesNotExistIsRefusedWithWhatWould) {
  const auto missing = resolve_model((folder_ / "no-such").string());
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_NE(missing.status().message().find("r1-tiny or smollm2"), std::string::npos);
}

}  // namespace
}  // namespace gantry::cli
