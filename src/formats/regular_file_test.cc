#include "formats/regular_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "formats/test_files.h"

namespace gantry {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;

std::string text_of(const RegularFile& file) {
  std::string text(file.size(), '\0');
  EXPECT_TRUE(file.read(0, std::as_writable_bytes(std::span(text))).ok());
  return text;
}

TEST(RegularFile, OpensRegularFilesAndLinksToThem) {
  TempFolder folder;
  const std::string path = folder.write("blob", "content");
  std::filesystem::create_symlink("blob", folder.file("link"));
  EXPECT_EQ(text_of(**RegularFile::open(path)), "content");
  EXPECT_EQ(text_of(**RegularFile::open(folder.file("link"))), "content");
  EXPECT_EQ((*RegularFile::open(folder.write("empty", "")))->size(), 0u);
}

TEST(RegularFile, ReadsAHeadOfAtMostTheFile) {
  TempFolder folder;
  const auto file = RegularFile::open(folder.write("f", "content")).value();
  EXPECT_EQ(file->head(3)->size(), 3u);
  EXPECT_EQ(file->head(3)->back(), std::byte{'n'});
  EXPECT_EQ(file->head(1 << 20)->size(), 7u);
  std::filesystem::resize_file(file->path(), 2);
  EXPECT_EQ(file->head(3).status().code(), StatusCode::kDataLoss);
}

TEST(RegularFile, OutlivesTheName) {
  TempFolder folder;
  const auto file = RegularFile::open(folder.write("f", "content"));
  ASSERT_TRUE(file.ok());
  std::filesystem::remove(folder.file("f"));
  EXPECT_EQ(text_of(**file), "content");
}

TEST(RegularFile, AFileThatShrinksOrChangesIsAnErrorNotASignal) {
  TempFolder folder;
  const std::string path = folder.write("f", std::string(1 << 20, 'x'));
  const auto file = RegularFile::open(path).value();
  std::vector<std::byte> data(1 << 20);
  ASSERT_TRUE(file->read(0, data).ok());
  EXPECT_EQ(data.back(), std::byte{'x'});
  EXPECT_TRUE(file->check_unchanged().ok());
  std::filesystem::resize_file(path, 1000);
  Status status = file->read(0, data);
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(path + ": ends at byte 1000 of 1048576"));
  EXPECT_TRUE(file->read(0, std::span(data).first(1000)).ok());
  status = file->check_unchanged();
  EXPECT_THAT(status.message(), HasSubstr(path + ": was changed by another process"));
}

// A FIFO without a writer would block an ordinary open() for ever.
TEST(RegularFile, RefusesWhatIsNoRegularFile) {
  TempFolder folder;
  ASSERT_EQ(::mkfifo(folder.file("fifo").c_str(), 0600), 0);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, folder.file("socket").c_str(), sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  std::filesystem::create_symlink("fifo", folder.file("link"));
  const std::pair<std::string, const char*> cases[] = {{folder.file("fifo"), "is a FIFO, not a regular file"},
                                                       {folder.file("link"), "is a FIFO"},
                                                       {folder.file("socket"), "is a socket"},
                                                       {folder.path(), "is a folder"},
                                                       {"/dev/zero", "is a device"}};
  for (const auto& [path, part] : cases) {
    const auto file = RegularFile::open(path);
    ASSERT_FALSE(file.ok()) << path;
    EXPECT_EQ(file.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(file.status().message(), HasSubstr(part));
    EXPECT_FALSE(read_file(path, 100).ok());
  }
  ::close(listener);
}

TEST(RegularFile, NamesWhatIsMissing) {
  TempFolder folder;
  std::filesystem::create_symlink("nowhere", folder.file("dangling"));
  for (const std::string& path : {folder.file("none"), folder.file("dangling"), folder.file("none/below")}) {
    const auto file = RegularFile::open(path);
    EXPECT_EQ(file.status().code(), StatusCode::kNotFound);
    EXPECT_EQ(file.status().message().find(path), 0u);
  }
  EXPECT_TRUE(path_exists(folder.file("dangling")));
  EXPECT_FALSE(path_exists(folder.file("none")));
}

TEST(ReadFile, ReadsUpToTheLimit) {
  TempFolder folder;
  const std::string path = folder.write("f", "12345");
  EXPECT_EQ(*read_file(path, 5), "12345");
  EXPECT_EQ(read_file(path, 4).status().code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(*read_file(folder.write("empty", ""), 5), "");
  // Files under /proc say that they have 0 bytes.
  EXPECT_GT(read_file("/proc/self/status", 1 << 20)->size(), 100u);
}

}  // namespace
}  // namespace gantry
