#include "hub/digest.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

namespace gantry::hub {
namespace {

class DigestTest : public testing::Test {
 protected:
  DigestTest() : fd_(::mkstemp(path_)) { EXPECT_EQ(::write(fd_, "hello\n", 6), 6); }
  ~DigestTest() override {
    ::close(fd_);
    ::unlink(path_);
  }
  char path_[32] = "/tmp/gantry_digest_XXXXXX";
  int fd_;
  StopSignal stop_;
};

// `printf 'hello\n' | sha256sum` and `printf 'hello\n' | git hash-object --stdin`.
TEST_F(DigestTest, AsTheHubNamesBlobs) {
  EXPECT_EQ(*hash_file(fd_, path_, 6, BlobHash::kSha256, stop_),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
  EXPECT_EQ(*hash_file(fd_, path_, 6, BlobHash::kGitSha1, stop_), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST_F(DigestTest, AnEmptyBlob) {
  EXPECT_EQ(*hash_file(fd_, path_, 0, BlobHash::kGitSha1, stop_), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST_F(DigestTest, AFileThatIsTooShort) {
  EXPECT_EQ(hash_file(fd_, path_, 7, BlobHash::kSha256, stop_).status().code(), StatusCode::kDataLoss);
}

TEST_F(DigestTest, Stops) {
  stop_.request();
  EXPECT_EQ(hash_file(fd_, path_, 6, BlobHash::kSha256, stop_).status().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace gantry::hub
