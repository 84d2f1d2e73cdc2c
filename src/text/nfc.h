// Unicode normalization form C, as Hugging Face's NFC normalizer does it (Qwen2).
#pragma once

#include <string>
#include <string_view>

namespace gantry {

// text: well-formed UTF-8. Time is linear up to sorting: n log n in the longest run of combining marks.
std::string to_nfc(std::string_view text);

}  // namespace gantry
