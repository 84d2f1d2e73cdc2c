#include "cli/command_line.h"

#include <array>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <utility>

extern char** environ;

namespace gantry::cli {

std::vector<std::string> normalize_arguments(int argc, const char* const* argv) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kShort{{
      {"-tp", "--tensor-parallel-size"},
      {"-pp", "--pipeline-parallel-size"},
      {"-dp", "--data-parallel-size"},
      {"-ep", "--enable-expert-parallel"},
  }};
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    for (const auto& [from, to] : kShort) {
      if (argument == from || argument.starts_with(std::string(from) + "="))
        argument.replace(0, from.size(), to);
    }
    arguments.push_back(std::move(argument));
  }
  return arguments;
}

std::string variable_of(const std::string& flag) {
  std::string variable = "GANTRY_";
  for (const char c : flag.substr(0, flag.find(','))) {
    if (c == '-' && variable == "GANTRY_") continue;
    variable += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return variable;
}

void drop_service_variables() {
  std::vector<std::string> names;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || !text.starts_with("GANTRY_")) continue;
    const std::string_view value = text.substr(equals + 1);
    if (value.starts_with("tcp://") || value.starts_with("udp://"))
      names.emplace_back(text.substr(0, equals));
  }
  for (const std::string& name : names) unsetenv(name.c_str());
}

}  // namespace gantry::cli
