// Any bytes as a .gguf file: refused in one line, or a checkpoint whose every tensor can be read.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "formats/weight_source.h"

namespace {

// What lies outside of the file cannot be read.
void read_all(const gantry::WeightSource& source) {
  std::vector<std::byte> bytes;
  for (const gantry::WeightInfo& info : source.weights()) {
    bytes.resize(info.view.bytes());
    GANTRY_CHECK(source.read(info, bytes).ok()) << info.name;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = ::memfd_create("gguf", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  GANTRY_CHECK(::ftruncate(file, 0) == 0);
  GANTRY_CHECK(::pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  const auto source = gantry::open_weights(path);
  if (source.ok()) {
    // Text in the configuration must be valid UTF-8: dump() throws otherwise.
    GANTRY_CHECK(!(*source)->config().dump().empty());
    read_all(**source);
  } else {
    GANTRY_CHECK(source.status().message().find('\n') == std::string::npos) << source.status().message();
  }
  return 0;
}
