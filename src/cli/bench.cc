// `gantry bench`: serve measures any OpenAI server over HTTP; latency and throughput measure the engine alone, in
// this process. The names of flags and figures are vllm bench's.
#include "cli/bench.h"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>

#include "cli/command_line.h"
#include "cli/commands.h"

namespace gantry::cli {

void add_length_flags(CLI::App& app, loadgen::RandomLengths& lengths) {
  add_flag(app, "--input-len", lengths.input_tokens, "Prompt tokens");
  add_flag(app, "--output-len", lengths.output_tokens, "Tokens to generate");
  add_flag(app, "--range-ratio", lengths.range_ratio,
           "Lengths are uniform within this fraction of the above");
  add_flag(app, "--prefix-len", lengths.prefix_tokens,
           "More prompt tokens before them, the same in every prompt");
  add_flag(app, "--seed", lengths.seed, "Of prompts, lengths and arrivals");
}

Status write_result(const std::string& path, const nlohmann::ordered_json& result) {
  if (path.empty()) return {};
  std::ofstream file(path);
  file << result.dump(1) << '\n';
  file.close();
  if (!file) return unavailable("the result cannot be written to " + path);
  return {};
}

int print_failure(const Status& status) {
  std::fprintf(stderr, "gantry bench: %s\n", status.message().c_str());
  return 1;
}

void add_bench_command(CLI::App& app, int& exit_code) {
  auto* bench = app.add_subcommand("bench", "Measure a server, or the engine alone");
  bench->require_subcommand(1);
  add_bench_serve(*bench, exit_code);
  add_bench_latency(*bench, exit_code);
  add_bench_throughput(*bench, exit_code);
}

}  // namespace gantry::cli
