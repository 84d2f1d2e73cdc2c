#include "hub/repo_name.h"

#include <gtest/gtest.h>

namespace gantry::hub {
namespace {

TEST(RepoName, SplitsAndDefaultsToMain) {
  const auto repo = parse_repo_name("deepseek-ai/DeepSeek-R1");
  ASSERT_TRUE(repo.ok());
  EXPECT_EQ(repo->org, "deepseek-ai");
  EXPECT_EQ(repo->name, "DeepSeek-R1");
  EXPECT_EQ(repo->revision, "main");
  EXPECT_EQ(repo->id(), "deepseek-ai/DeepSeek-R1");
}

TEST(RepoName, TakesARevision) {
  const auto repo = parse_repo_name("a/b@refs/pr/1");
  ASSERT_TRUE(repo.ok());
  EXPECT_EQ(repo->revision, "refs/pr/1");
  EXPECT_EQ(repo->id(), "a/b");
}

TEST(RepoName, RefusesWhatTheHubDoesNotAllow) {
  for (const char* text :
       {"",     "a",    "/",     "a/",    "/b",   "a/b/c",  "../b",   "a/..",       "a--b/c",  "a/b--c",
        "-a/b", "a/b.", "a b/c", "a/b\n", "a/b@", "a/b@..", "a/b@/x", "a/b@x/../y", "a/b@x y", "a/b@x\\y"}) {
    EXPECT_EQ(parse_repo_name(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
  EXPECT_FALSE(parse_repo_name(std::string(60, 'a') + "/" + std::string(60, 'b')).ok());
}

TEST(FileName, MayHaveFolders) {
  EXPECT_TRUE(check_file_name("config.json").ok());
  EXPECT_TRUE(check_file_name("a/b c/.d/e..f").ok());
}

TEST(FileName, NeverLeavesItsFolder) {
  for (const char* path : {"", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./a", "a//b", "a/", "a\\b",
                           "C:/x", "a/D:b", "a\nb", "\x7f"}) {
    EXPECT_EQ(check_file_name(path).code(), StatusCode::kDataLoss) << path;
  }
  EXPECT_FALSE(check_file_name(std::string_view("a\0b", 3)).ok());
  EXPECT_FALSE(check_file_name(std::string(256, 'a')).ok());
  EXPECT_FALSE(check_file_name(std::string(255, 'a') + "/" + std::string(255, 'a') + "/" +
                               std::string(255, 'a') + "/" + std::string(255, 'a') + "/a")
                   .ok());
}

TEST(Hashes, AreLowerCaseHexadecimal) {
  EXPECT_TRUE(is_commit("0123456789abcdef0123456789abcdef01234567"));
  EXPECT_FALSE(is_commit("0123456789ABCDEF0123456789abcdef01234567"));
  EXPECT_FALSE(is_commit("main"));
  EXPECT_TRUE(is_sha256(std::string(64, 'a')));
  EXPECT_FALSE(is_sha256(std::string(63, 'a') + "/"));
}

}  // namespace
}  // namespace gantry::hub
