// Any bytes: refused in one line, or tensors that lie within the file and cover it.
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensors = gantry::parse_safetensors(std::as_bytes(std::span(data, size)), size, "f");
  if (!tensors.ok()) {
    GANTRY_CHECK(tensors.status().message().find('\n') == std::string::npos) << tensors.status().message();
    return 0;
  }
  uint64_t header_bytes;
  std::memcpy(&header_bytes, data, sizeof(header_bytes));
  uint64_t end = sizeof(header_bytes) + header_bytes;
  for (const gantry::SafetensorsTensor& tensor : *tensors) {
    GANTRY_CHECK(tensor.offset == end) << tensor.name;
    const gantry::TensorView view{data, tensor.dtype, tensor.shape};
    GANTRY_CHECK(tensor.bytes == view.bytes()) << tensor.name;
    end += tensor.bytes;
  }
  GANTRY_CHECK(end == size);
  return 0;
}
