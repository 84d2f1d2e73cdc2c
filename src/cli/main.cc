#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/command_line.h"
#include "cli/commands.h"

int main(int argc, char** argv) {
  using namespace gantry::cli;  // NOLINT(google-build-using-namespace): wiring only
  drop_service_variables();
  CLI::App app("Gantry serves language models over the OpenAI API.", "gantry");
  app.set_version_flag("--version", GANTRY_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
  add_serve_command(app, exit_code);
  add_worker_command(app, exit_code);
  add_inspect_command(app, exit_code);
  add_plan_command(app, exit_code);
  add_pull_command(app, exit_code);
  add_chat_command(app, exit_code);
  add_status_command(app, exit_code);
  add_bench_command(app, exit_code);
  add_rank_command(app);
  std::vector<std::string> arguments = normalize_arguments(argc, argv);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes a vector
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return exit_code;
}
