#include "hub/cache_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "hub/file_lock.h"

namespace gantry::hub {
namespace {

namespace fs = std::filesystem;
const std::string kCommit(40, 'c');
const std::string kEtag(64, 'e');

class CacheLayoutTest : public testing::Test {
 protected:
  CacheLayoutTest()
      : root_(fs::temp_directory_path() / ("gantry_cache_" + std::to_string(::getpid()))),
        cache_(root_.string(), {"org", "name", "main"}) {
    EXPECT_TRUE(cache_.create(kCommit).ok());
    std::ofstream(cache_.blob(kEtag)) << "content";
  }
  ~CacheLayoutTest() override { fs::remove_all(root_); }

  fs::path root_;
  CacheLayout cache_;
};

TEST_F(CacheLayoutTest, IsHuggingFaces) {
  const std::string repo = root_.string() + "/models--org--name";
  EXPECT_EQ(cache_.blob(kEtag), repo + "/blobs/" + kEtag);
  EXPECT_EQ(cache_.snapshot(kCommit), repo + "/snapshots/" + kCommit);
  EXPECT_EQ(cache_.ref("refs/pr/1"), repo + "/refs/refs/pr/1");
  EXPECT_EQ(cache_.lock(kEtag), root_.string() + "/.locks/models--org--name/" + kEtag + ".lock");
}

TEST_F(CacheLayoutTest, LinksAreRelative) {
  ASSERT_TRUE(cache_.link(kCommit, "a.json", kEtag).ok());
  ASSERT_TRUE(cache_.link(kCommit, "x/y/b.json", kEtag).ok());
  EXPECT_EQ(fs::read_symlink(cache_.snapshot(kCommit) + "/a.json"), "../../blobs/" + kEtag);
  EXPECT_EQ(fs::read_symlink(cache_.snapshot(kCommit) + "/x/y/b.json"), "../../../../blobs/" + kEtag);
  EXPECT_TRUE(fs::exists(cache_.snapshot(kCommit) + "/x/y/b.json"));
  EXPECT_TRUE(cache_.is_linked(kCommit, "a.json", kEtag));
  EXPECT_FALSE(cache_.is_linked(kCommit, "a.json", std::string(64, 'f')));
  EXPECT_FALSE(cache_.is_linked(kCommit, "none", kEtag));
}

TEST_F(CacheLayoutTest, ALinkReplacesWhatIsThere) {
  std::ofstream(cache_.snapshot(kCommit) + "/a.json") << "a copy, not a link";
  ASSERT_TRUE(cache_.link(kCommit, "a.json", kEtag).ok());
  EXPECT_TRUE(fs::is_symlink(cache_.snapshot(kCommit) + "/a.json"));
}

TEST_F(CacheLayoutTest, ABlobCountsOnlyInItsSize) {
  EXPECT_TRUE(cache_.has_blob(kEtag, 7));
  EXPECT_FALSE(cache_.has_blob(kEtag, 8));
  EXPECT_FALSE(cache_.has_blob(std::string(64, 'f'), 7));
}

TEST_F(CacheLayoutTest, Refs) {
  EXPECT_EQ(cache_.read_ref("main").status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(cache_.write_ref("refs/pr/1", kCommit).ok());
  EXPECT_EQ(*cache_.read_ref("refs/pr/1"), kCommit);
  ASSERT_TRUE(cache_.write_ref(kCommit, kCommit).ok());
  EXPECT_FALSE(fs::exists(cache_.ref(kCommit)));
  EXPECT_EQ(*cache_.read_ref(kCommit), kCommit);
  std::ofstream(cache_.ref("bad")) << "../../../etc";
  EXPECT_EQ(cache_.read_ref("bad").status().code(), StatusCode::kDataLoss);
}

TEST_F(CacheLayoutTest, ALockHasOneHolder) {
  auto first = FileLock::try_lock(cache_.lock(kEtag));
  ASSERT_TRUE(first.ok() && first->has_value());
  auto second = FileLock::try_lock(cache_.lock(kEtag));
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(second->has_value());
  first->reset();
  auto third = FileLock::try_lock(cache_.lock(kEtag));
  EXPECT_TRUE(third.ok() && third->has_value());
}

}  // namespace
}  // namespace gantry::hub
