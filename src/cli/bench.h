// What the modes of `gantry bench` share.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"
#include "loadgen/workload.h"

namespace gantry::cli {

void add_bench_serve(CLI::App& bench, int& exit_code);
void add_bench_latency(CLI::App& bench, int& exit_code);
void add_bench_throughput(CLI::App& bench, int& exit_code);

void add_length_flags(CLI::App& app, loadgen::RandomLengths& lengths);
// Nothing where `path` is empty.
Status write_result(const std::string& path, const nlohmann::ordered_json& result);
// Says what is wrong; the exit code.
int print_failure(const Status& status);

}  // namespace gantry::cli
