// Checks of the sm90 kernels against kernels/reference, and their times beside the floors:
//   gantry_bench_cuda [--check] [--time] [--sweep] [--only NAME] [--json FILE] [--note TEXT]
// With neither --check nor --time: both. TEXT (date, commit) goes into the file. NAME: decode_gemm, experts,
// mla_decode, prefill_gemm, mla_prefill, prefill_layer, layer, elementwise.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "bench/cuda/device.h"
#include "bench/cuda/suites.h"

namespace gantry::bench {
namespace {

struct Suite {
  std::string_view name;
  void (*check)(Report&);
  void (*time)(Report&, bool sweep);
};

constexpr Suite kSuites[] = {
    {"decode_gemm", check_decode_gemm, time_decode_gemm},
    {"experts", check_experts, [](Report& report, bool) { time_experts(report); }},
    {"mla_decode", check_mla_decode, time_mla_decode},
    {"prefill_gemm", check_prefill_gemm, time_prefill_gemm},
    {"mla_prefill", check_mla_prefill, [](Report& report, bool) { time_mla_prefill(report); }},
    {"prefill_layer", check_prefill_layer, [](Report& report, bool) { time_prefill_layer(report); }},
    {"layer", check_layer, [](Report& report, bool) { time_layer(report); }},
    {"elementwise", check_elementwise, [](Report& report, bool) { time_elementwise(report); }},
};

void write_json(const std::string& path, const std::string& note, const Report& report,
                const cudaDeviceProp& card) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) {
    std::fprintf(stderr, "cannot write %s\n", path.c_str());
    std::exit(1);
  }
  std::fprintf(file,
               "{\"card\": \"%s\", \"note\": \"%s\", \"read_TBps\": %.3f, \"checks\": %d, \"failures\": %d, "
               "\"rows\": [\n",
               card.name, note.c_str(), report.bandwidth() * 1e-12, report.checks(), report.failures());
  const char* comma = "";
  for (const Row& row : report.rows()) {
    std::fprintf(
        file,
        "%s {\"kernel\": \"%s\", \"shape\": \"%s\", \"config\": \"%s\", \"us\": %.2f, \"floor_us\": %.2f, "
        "\"GBps\": %.0f, \"TFLOPS\": %.1f}",
        comma, row.kernel.c_str(), row.shape.c_str(), row.config.c_str(), row.us, row.floor_us,
        row.bytes / row.us * 1e-3, row.flops / row.us * 1e-6);
    comma = ",\n";
  }
  std::fprintf(file, "\n]}\n");
  std::fclose(file);
}

int run(int argc, char** argv) {
  bool check = false, time = false, sweep = false;
  std::string only, json, note;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--check") {
      check = true;
    } else if (arg == "--time") {
      time = true;
    } else if (arg == "--sweep") {
      sweep = time = true;
    } else if (arg == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else if (arg == "--json" && i + 1 < argc) {
      json = argv[++i];
    } else if (arg == "--note" && i + 1 < argc) {
      note = argv[++i];
    } else {
      std::fprintf(
          stderr,
          "unknown argument '%s'; want --check, --time, --sweep, --only NAME, --json FILE, --note TEXT\n",
          argv[i]);
      return 2;
    }
  }
  if (!check && !time) check = time = true;
  cudaDeviceProp card{};
  must(cudaGetDeviceProperties(&card, 0), "no CUDA device");
  if (card.major != 9 || card.minor != 0) {
    std::fprintf(stderr, "%s is sm_%d%d; these kernels need sm_90 (H100, H200)\n", card.name, card.major,
                 card.minor);
    return 1;
  }
  Report report(read_bandwidth());
  std::printf("%s, %d multiprocessors, read %.2f TB/s\n", card.name, card.multiProcessorCount,
              report.bandwidth() * 1e-12);
  for (const Suite& suite : kSuites) {
    if (!only.empty() && suite.name != only) continue;
    if (check) suite.check(report);
    if (time) suite.time(report, sweep);
  }
  std::printf("%d checks, %d failed\n", report.checks(), report.failures());
  if (!json.empty()) write_json(json, note, report, card);
  return report.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace gantry::bench

int main(int argc, char** argv) { return gantry::bench::run(argc, argv); }
