#include "comm/tcp/secret.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "comm/tcp/tcp_limits.h"

namespace gantry::tcp {
namespace {

constexpr std::string_view kWhite = " \t\r\n";

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kWhite);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kWhite) - begin + 1));
}

}  // namespace

Result<Secret> Secret::create(std::string bytes) {
  if (bytes.size() < limits::kSecretBytesMin || bytes.size() > limits::kSecretBytesMax) {
    const size_t size = bytes.size();
    OPENSSL_cleanse(bytes.data(), bytes.size());
    return invalid_argument(
        fmt::format("a secret of {} bytes, it must have {} to {}: `openssl rand -hex 32` makes one", size,
                    limits::kSecretBytesMin, limits::kSecretBytesMax));
  }
  return Secret(std::move(bytes));
}

Result<Secret> Secret::read(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return not_found(fmt::format("{}: {}", path, std::strerror(errno)));
  struct stat info{};
  std::string text(limits::kSecretBytesMax + 1, '\0');
  const ssize_t got = fstat(fd, &info) == 0 ? ::read(fd, text.data(), text.size()) : -1;
  const int error = errno;
  close(fd);
  if (got < 0) return unavailable(fmt::format("{}: {}", path, std::strerror(error)));
  if ((info.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    return invalid_argument(
        fmt::format("{}: everyone may read or write it; `chmod 600 {}` first", path, path));
  }
  auto secret = create(trimmed(std::string_view(text).substr(0, static_cast<size_t>(got))));
  OPENSSL_cleanse(text.data(), text.size());
  return secret.ok() ? std::move(secret) : secret.status().with_context(path);
}

Secret Secret::random() { return Secret(random_bytes(sizeof(Key))); }

Secret::~Secret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

Key Secret::derive(std::string_view label, std::string_view context) const {
  std::string message(label);
  message += '\0';
  message += context;
  Key key{};
  unsigned int size = key.size();
  GANTRY_CHECK(HMAC(EVP_sha256(), bytes_.data(), static_cast<int>(bytes_.size()),
                    reinterpret_cast<const unsigned char*>(message.data()), message.size(), key.data(),
                    &size) != nullptr);
  return key;
}

Secret Secret::child(std::string_view label, std::string_view context) const {
  const Key key = derive(label, context);
  return Secret(std::string(reinterpret_cast<const char*>(key.data()), key.size()));
}

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  GANTRY_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) == 1);
  return bytes;
}

}  // namespace gantry::tcp
