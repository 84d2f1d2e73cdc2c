#include "formats/quote_name.h"

#include <fmt/format.h>

namespace gantry {

std::string quote_name(std::string_view name) {
  constexpr size_t kShown = 120;
  std::string text = "\"";
  for (const char c : name.substr(0, kShown)) {
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (c >= 0x20 && c < 0x7f) {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (name.size() > kShown) text += "...";
  return text + "\"";
}

}  // namespace gantry
