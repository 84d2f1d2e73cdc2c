#include "hub/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

namespace gantry::hub {
namespace {

Result<Settings> read(const std::map<std::string, std::string>& variables) {
  return read_settings(
      [&](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        return found == variables.end() ? std::nullopt : std::optional(found->second);
      },
      "test/1");
}

TEST(Settings, Defaults) {
  const auto settings = read({{"HOME", "/nowhere"}});
  ASSERT_TRUE(settings.ok());
  EXPECT_EQ(settings->endpoint, "https://huggingface.co");
  EXPECT_EQ(settings->cache_dir, "/nowhere/.cache/huggingface/hub");
  EXPECT_EQ(settings->token, "");
  EXPECT_FALSE(settings->offline);
}

TEST(Settings, CacheFolderInHuggingFacesOrder) {
  EXPECT_EQ(read({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}})->cache_dir, "/x/huggingface/hub");
  EXPECT_EQ(read({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "~/hf"}})->cache_dir, "/h/hf/hub");
  EXPECT_EQ(read({{"HOME", "/h"}, {"HF_HOME", "$A/${B}x$C"}, {"A", "/a"}, {"B", "b"}})->cache_dir,
            "/a/bx$C/hub");
  EXPECT_EQ(read({{"HOME", "/h"}, {"HF_HOME", "/hf"}, {"HF_HUB_CACHE", "/c"}})->cache_dir, "/c");
}

TEST(Settings, OfflineAsHuggingFaceReadsIt) {
  for (const char* text : {"1", "on", "Yes", "TRUE"})
    EXPECT_TRUE(read({{"HF_HUB_OFFLINE", text}})->offline) << text;
  for (const char* text : {"", "0", "off", "no"})
    EXPECT_FALSE(read({{"HF_HUB_OFFLINE", text}})->offline) << text;
}

TEST(Settings, TokenFromVariableOrFile) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("gantry_settings_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "token") << "hf_file\n";
  EXPECT_EQ(read({{"HF_HOME", folder.string()}})->token, "hf_file");
  EXPECT_EQ(read({{"HF_HOME", folder.string()}, {"HF_TOKEN", " hf_variable\n"}})->token, "hf_variable");
  EXPECT_EQ(read({{"HF_HOME", folder.string()}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"}})->token, "");
  std::filesystem::remove_all(folder);
}

TEST(Settings, ATokenThatNoHeaderCanHoldIsNotShown) {
  const auto settings = read({{"HF_TOKEN", "hf_secret\r\nHost: evil"}});
  EXPECT_EQ(settings.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(settings.status().message(), testing::HasSubstr("HF_TOKEN"));
  EXPECT_THAT(settings.status().message(), testing::Not(testing::HasSubstr("secret")));
}

TEST(Settings, Endpoint) {
  EXPECT_EQ(read({{"HF_ENDPOINT", "http://127.0.0.1:8080//"}})->endpoint, "http://127.0.0.1:8080");
  for (const char* text : {"hub", "ftp://h", "https://user:password@h", "https://h/?a=b"}) {
    const auto settings = read({{"HF_ENDPOINT", text}});
    EXPECT_EQ(settings.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(settings.status().message(), testing::Not(testing::HasSubstr("password")));
  }
}

TEST(Settings, Timeout) {
  EXPECT_EQ(read({{"HF_HUB_DOWNLOAD_TIMEOUT", "3"}})->stall_seconds, 3);
  for (const char* text : {"0", "-1", "x", "99999"}) {
    EXPECT_FALSE(read({{"HF_HUB_DOWNLOAD_TIMEOUT", text}}).ok()) << text;
  }
}

}  // namespace
}  // namespace gantry::hub
