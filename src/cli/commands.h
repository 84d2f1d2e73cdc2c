// The subcommands. Each adds itself to `app` and, when chosen, runs inside app.parse() and sets `exit_code`.
#pragma once

#include <CLI/CLI.hpp>

namespace gantry::cli {

void add_serve_command(CLI::App& app, int& exit_code);
void add_worker_command(CLI::App& app, int& exit_code);
void add_inspect_command(CLI::App& app, int& exit_code);
void add_plan_command(CLI::App& app, int& exit_code);
void add_pull_command(CLI::App& app, int& exit_code);
void add_chat_command(CLI::App& app, int& exit_code);
void add_status_command(CLI::App& app, int& exit_code);
void add_bench_command(CLI::App& app, int& exit_code);
// Ends the process.
void add_rank_command(CLI::App& app);

}  // namespace gantry::cli
