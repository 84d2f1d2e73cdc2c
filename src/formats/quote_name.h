// Names from files inside one-line messages.
#pragma once

#include <string>
#include <string_view>

namespace gantry {

// The name in double quotes. What is not printable ASCII becomes \xNN; a name of more than 120 bytes is cut
// and ends in "...".
std::string quote_name(std::string_view name);

}  // namespace gantry
