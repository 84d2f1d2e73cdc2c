// JSON files of a checkpoint: parsed without exceptions, within limits, and without duplicate keys.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry {

// The value of a complete JSON text (RFC 8259, UTF-8). kDataLoss: malformed, nested deeper than
// limits::kJsonDepthMax, or an object with a key twice; the message starts with `file`.
Result<nlohmann::json> parse_strict_json(std::string_view text, const std::string& file);

// The same for a file of at most limits::kJsonFileBytesMax bytes that holds an object.
Result<nlohmann::json> read_json_object(const std::string& path);

}  // namespace gantry
