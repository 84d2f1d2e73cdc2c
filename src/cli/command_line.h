// argv and environment, made fit for CLI11.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace gantry::cli {

// CLI11 2.1 refuses short flags of several letters: -tp, -pp, -dp and -ep become their long names.
std::vector<std::string> normalize_arguments(int argc, const char* const* argv);

// Kubernetes sets GANTRY_PORT=tcp://10.0.0.1:8000 for a Service called gantry. Such a value is no setting: it
// is removed from the environment before flags are read. So is any GANTRY_* value of the form tcp://... or
// udp://...
void drop_service_variables();

// Adds `--name` with its environment variable GANTRY_NAME (dashes become underscores), help and default.
template <typename T>
CLI::Option* add_flag(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  std::string variable = "GANTRY_";
  for (const char c : name.substr(0, name.find(','))) {
    if (c == '-' && variable == "GANTRY_") continue;
    variable += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return app.add_option(name, value, help)->envname(variable)->capture_default_str();
}

}  // namespace gantry::cli
