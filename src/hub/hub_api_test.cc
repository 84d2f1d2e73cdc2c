#include "hub/hub_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace gantry::hub {
namespace {

using nlohmann::json;

const std::string kSha1(40, 'a');
const std::string kSha256(64, 'b');

TEST(TreePage, ReadsGitAndLfsFiles) {
  std::vector<RemoteFile> files;
  const json page = json::parse(R"([
      {"type": "directory", "path": "a", "oid": ")" +
                                kSha1 + R"(", "size": 0},
      {"type": "file", "path": "config.json", "oid": ")" +
                                kSha1 + R"(", "size": 12},
      {"type": "file", "path": "a/model.safetensors", "oid": ")" +
                                kSha1 + R"(", "size": 99,
       "lfs": {"oid": ")" + kSha256 +
                                R"(", "size": 99, "pointerSize": 134}}])");
  ASSERT_TRUE(add_tree_page(page, files).ok());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].path, "config.json");
  EXPECT_EQ(files[0].etag, kSha1);
  EXPECT_FALSE(files[0].is_lfs);
  EXPECT_EQ(files[0].size, 12u);
  EXPECT_EQ(files[1].etag, kSha256);
  EXPECT_TRUE(files[1].is_lfs);
}

TEST(TreePage, RefusesWhatIsNoList) {
  std::vector<RemoteFile> files;
  for (const char* text : {"{}", "null", "[1]", "[null]", "[[]]", R"([{"type": "file"}])",
                           R"([{"type": "file", "path": 7, "oid": "x", "size": 1}])"}) {
    EXPECT_EQ(add_tree_page(json::parse(text), files).code(), StatusCode::kDataLoss) << text;
  }
}

TEST(NextLink, FindsTheRelation) {
  EXPECT_EQ(next_link(""), "");
  EXPECT_EQ(next_link("<https://h/a?cursor=x>; rel=\"next\""), "https://h/a?cursor=x");
  EXPECT_EQ(next_link("<https://h/p>; rel=\"prev\", </n>; rel=next"), "/n");
  EXPECT_EQ(next_link("<https://h/p>; rel=\"prev\""), "");
  for (const char* broken : {"<", ">", "><", "<a", "a>b", "<a>", "<a><b><c"})
    EXPECT_EQ(next_link(broken), "") << broken;
}

TEST(FileUrl, EncodesThePathAndKeepsItsFolders) {
  Settings settings;
  settings.endpoint = "https://h";
  EXPECT_EQ(file_url(settings, {"o", "n", "main"}, kSha1, "a b/c#d.json"),
            "https://h/o/n/resolve/" + kSha1 + "/a%20b/c%23d.json");
}

}  // namespace
}  // namespace gantry::hub
