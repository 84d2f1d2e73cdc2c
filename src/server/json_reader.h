// Strict JSON in (RFC 8259): what is ambiguous or unbounded is refused, not guessed.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/status.h"

namespace gantry {

using Json = nlohmann::ordered_json;

// The request body as an object. Refused (kInvalidArgument): repeated keys, a byte order mark, ill-formed
// UTF-8, lone surrogates, NaN, numbers out of range, trailing bytes, and more than kJsonDepthMax,
// kJsonValuesMax, kJsonContainersMax or kJsonKeysMax of base/limits.h. param() is the top-level key where the
// error lies, where there is one. Time is linear in the text.
Result<Json> read_json_object(std::string_view text);

}  // namespace gantry
