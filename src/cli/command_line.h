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

// "--max-num-seqs" → "GANTRY_MAX_NUM_SEQS"
std::string variable_of(const std::string& flag);

// Adds `--name` with its environment variable GANTRY_NAME (dashes become underscores), help and default.
template <typename T>
CLI::Option* add_flag(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  return app.add_option(name, value, help)->envname(variable_of(name))->capture_default_str();
}

// The same without a value: off unless it is given. default_str is what engine_arguments() hands on.
inline CLI::Option* add_switch(CLI::App& app, const std::string& name, bool& value, const std::string& help) {
  return app.add_flag(name, value, help)->envname(variable_of(name))->default_str(value ? "true" : "");
}

}  // namespace gantry::cli
