// Any text: refused in one line, or the value that nlohmann's own parser gives.
#include <cstdint>
#include <string>

#include "base/check.h"
#include "formats/strict_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = gantry::parse_strict_json(text, "f");
  if (value.ok()) {
    GANTRY_CHECK(*value == nlohmann::json::parse(text, nullptr, false)) << text;
  } else {
    GANTRY_CHECK(value.status().message().find('\n') == std::string::npos) << value.status().message();
  }
  return 0;
}
