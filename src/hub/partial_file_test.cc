#include "hub/partial_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "hub/hub_limits.h"

namespace gantry::hub {
namespace {

constexpr uint64_t kChunk = limits::kHubChunkBytesMin;
constexpr uint64_t kSize = 2 * kChunk + 1000;

class PartialFileTest : public testing::Test {
 protected:
  PartialFileTest()
      : folder_(std::filesystem::temp_directory_path() / ("gantry_partial_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~PartialFileTest() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return (folder_ / "blob.gantry.incomplete").string(); }
  std::string foreign() const { return (folder_ / "blob.incomplete").string(); }
  std::unique_ptr<PartialFile> open(uint64_t size = kSize) {
    auto file = PartialFile::open(path(), foreign(), size);
    EXPECT_TRUE(file.ok()) << file.status().message();
    return std::move(file).value();
  }
  void put(const std::string& at, const std::string& content) {
    std::ofstream(at, std::ios::binary) << content;
  }
  std::string get(const std::string& at) {
    std::ostringstream out;
    out << std::ifstream(at, std::ios::binary).rdbuf();
    return out.str();
  }

  std::filesystem::path folder_;
};

TEST_F(PartialFileTest, DividesTheContent) {
  const auto file = open();
  ASSERT_EQ(file->chunk_count(), 3u);
  EXPECT_EQ(file->chunk(0).begin, 0u);
  EXPECT_EQ(file->chunk(1).begin, kChunk);
  EXPECT_EQ(file->chunk(2).bytes(), 1000u);
  EXPECT_FALSE(file->complete());
}

TEST_F(PartialFileTest, RemembersEachRange) {
  {
    const auto file = open();
    ASSERT_TRUE(file->write(0, "abc").ok());
    ASSERT_TRUE(file->write(0, "def").ok());
    ASSERT_TRUE(file->write(2, "xyz").ok());
    EXPECT_EQ(resumable_bytes(path(), foreign(), kSize), 9u);
  }
  const auto file = open();
  EXPECT_EQ(file->resumed_bytes(), 9u);
  EXPECT_EQ(file->chunk(0).done.load(), 6u);
  EXPECT_EQ(file->chunk(1).done.load(), 0u);
  EXPECT_EQ(file->chunk(2).done.load(), 3u);
  EXPECT_EQ(get(path()).substr(0, 6), "abcdef");
  EXPECT_EQ(get(path()).substr(2 * kChunk, 3), "xyz");
}

TEST_F(PartialFileTest, RefusesBytesBeyondARange) {
  const auto file = open();
  EXPECT_FALSE(file->write(2, std::string(1001, 'x')).ok());
  EXPECT_TRUE(file->write(2, std::string(1000, 'x')).ok());
  EXPECT_FALSE(file->write(2, "x").ok());
}

TEST_F(PartialFileTest, FinishesWithTheContentAlone) {
  const auto file = open(5);
  ASSERT_TRUE(file->write(0, "hello").ok());
  EXPECT_TRUE(file->complete());
  const std::string final_path = (folder_ / "blob").string();
  ASSERT_TRUE(file->finish(final_path).ok());
  EXPECT_EQ(get(final_path), "hello");
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(PartialFileTest, AnEmptyContentIsComplete) {
  const auto file = open(0);
  EXPECT_TRUE(file->complete());
  ASSERT_TRUE(file->finish((folder_ / "blob").string()).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ / "blob"), 0u);
}

TEST_F(PartialFileTest, TakesOverAPrefix) {
  put(foreign(), std::string(kChunk + 7, 'p'));
  EXPECT_EQ(resumable_bytes(path(), foreign(), kSize), kChunk + 7);
  const auto file = open();
  EXPECT_FALSE(std::filesystem::exists(foreign()));
  EXPECT_EQ(file->resumed_bytes(), kChunk + 7);
  EXPECT_TRUE(file->chunk(0).complete());
  EXPECT_EQ(file->chunk(1).done.load(), 7u);
}

// Killed between cutting the record off and the rename: the content is whole.
TEST_F(PartialFileTest, AContentWithoutARecordIsAllThere) {
  put(path(), "hello");
  EXPECT_TRUE(open(5)->complete());
}

TEST_F(PartialFileTest, DropsWhatDoesNotFit) {
  ASSERT_TRUE(open()->write(0, "abc").ok());
  const std::string good = get(path());
  std::vector<std::string> bad{good + "x", good.substr(0, good.size() - 1), std::string(kSize + 1, 'x')};
  for (size_t byte = kSize; byte < kSize + 32; byte += 8) {  // magic, size, chunk_bytes, chunk_count
    bad.push_back(good);
    bad.back()[byte] = static_cast<char>(bad.back()[byte] ^ 0x55);
  }
  bad.push_back(good);
  bad.back()[good.size() - 1] = '\x7f';  // more bytes than the range has
  for (const std::string& content : bad) {
    put(path(), content);
    EXPECT_EQ(resumable_bytes(path(), foreign(), kSize), 0u);
    const auto file = open();
    EXPECT_EQ(file->done_bytes(), 0u);
    EXPECT_EQ(file->chunk_count(), 3u);
  }
}

TEST_F(PartialFileTest, AnotherSizeStartsAnew) {
  ASSERT_TRUE(open()->write(0, "abc").ok());
  EXPECT_EQ(open(kSize + 1)->done_bytes(), 0u);
}

TEST_F(PartialFileTest, RestartsAsAWholeWithItsPrefix) {
  {
    const auto file = open();
    ASSERT_TRUE(file->write(0, std::string(kChunk, 'a')).ok());
    ASSERT_TRUE(file->write(1, "bcd").ok());
    ASSERT_TRUE(file->write(2, "later").ok());
    ASSERT_TRUE(file->restart({.whole = true, .keep_prefix = true}).ok());
    ASSERT_EQ(file->chunk_count(), 1u);
    EXPECT_EQ(file->chunk(0).done.load(), kChunk + 3);
  }
  EXPECT_EQ(open()->chunk(0).done.load(), kChunk + 3);
  const auto file = open();
  ASSERT_TRUE(file->restart({.whole = true, .keep_prefix = false}).ok());
  EXPECT_EQ(file->done_bytes(), 0u);
}

TEST_F(PartialFileTest, DoesNotFollowALink) {
  put((folder_ / "victim").string(), "precious");
  std::filesystem::create_symlink(folder_ / "victim", path());
  EXPECT_FALSE(PartialFile::open(path(), foreign(), kSize).ok());
  EXPECT_EQ(get((folder_ / "victim").string()), "precious");
}

}  // namespace
}  // namespace gantry::hub
