#include "hub/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "hub/cache_layout.h"

namespace gantry::hub {
namespace {

constexpr size_t kReadBytes = 1 << 20;

}  // namespace

Result<std::string> hash_file(int fd, const std::string& path, uint64_t size, BlobHash hash,
                              const StopSignal& stop) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const EVP_MD* kind = hash == BlobHash::kSha256 ? EVP_sha256() : EVP_sha1();
  if (!context || EVP_DigestInit_ex(context.get(), kind, nullptr) != 1)
    return internal_error("no hash from OpenSSL");
  if (hash == BlobHash::kGitSha1) {
    const std::string header = fmt::format("blob {}", size);
    EVP_DigestUpdate(context.get(), header.c_str(), header.size() + 1);
  }
  std::vector<char> buffer(kReadBytes);
  for (uint64_t done = 0; done < size;) {
    if (stop.requested()) return Status(StatusCode::kCancelled, "stopped");
    const size_t want = static_cast<size_t>(std::min<uint64_t>(buffer.size(), size - done));
    const ssize_t got = ::pread(fd, buffer.data(), want, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error("cannot read", path, errno);
    if (got == 0) return data_loss(fmt::format("{} ends after {} of {} bytes", path, done, size));
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(got));
    done += static_cast<uint64_t>(got);
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest, &length);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace gantry::hub
