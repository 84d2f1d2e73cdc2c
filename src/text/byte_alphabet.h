// GPT-2's byte alphabet: published vocabularies write each byte of a token as one printable character (a
// space as U+0120). Gantry holds raw bytes.
#pragma once

#include <string>
#include <string_view>

namespace gantry {

// The raw bytes of a token written in the byte alphabet. A token with a character outside of the alphabet
// stands for its own UTF-8 bytes, as in Hugging Face's ByteLevel decoder (added tokens are written so).
std::string undo_byte_alphabet(std::string_view written);

// The other way: one character of the alphabet for each byte.
std::string to_byte_alphabet(std::string_view bytes);

}  // namespace gantry
