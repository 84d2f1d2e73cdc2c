// Greedy decoding of token ids with one model, for comparisons with other engines:
//   greedy_ids MODEL STEPS BACKEND auto|float32 LOGITS < prompts.json > generated.json
// prompts.json: a list of {"ids": [...], "forced": [...]}. Prints the list of generated ids; where a prompt
// has forced ids, the sequence goes on with those instead of what was chosen. The file LOGITS receives the
// f32 logits of every step, [prompts, STEPS, vocab].
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/limits.h"
#include "formats/weight_source.h"
#include "model/model.h"

namespace gantry {
namespace {

using nlohmann::json;

constexpr int32_t kContext = 2048;

// The ids chosen in `steps` steps; their logits go to `out`.
std::vector<int32_t> decode(Model& model, const KvStore& kv, const json& prompt, int steps,
                            std::ostream& out) {
  std::vector<int32_t> table(static_cast<size_t>(kv.blocks()));
  std::iota(table.begin(), table.end(), 0);
  auto rows = prompt.at("ids").get<std::vector<int32_t>>();
  const auto forced = prompt.value("forced", std::vector<int32_t>());
  int32_t position = 0;
  std::vector<int32_t> ids;
  std::vector<float> logits(static_cast<size_t>(model.config().vocab));
  for (size_t step = 0; step < static_cast<size_t>(steps); ++step) {
    const auto count = static_cast<int32_t>(rows.size());
    const Segment segment{
        .first_row = 0, .rows = count, .first_position = position, .block_table = table.data()};
    const int32_t last = count - 1;
    const Status status =
        model.forward({.ids = rows, .segments = {&segment, 1}, .logit_rows = {&last, 1}}, kv, logits.data());
    GANTRY_CHECK(status.ok()) << status.message();
    position += count;
    out.write(reinterpret_cast<const char*>(logits.data()),
              static_cast<std::streamsize>(logits.size() * sizeof(float)));
    ids.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    rows = {step < forced.size() ? forced[step] : ids.back()};
  }
  return ids;
}

int run(const std::string& path, int steps, const std::string& backend_name, bool float32,
        const std::string& logits_file) {
  auto source = open_weights(path);
  const auto backend = backend_by_name(backend_name);
  if (!source.ok() || !backend.ok()) {
    std::cerr << (source.ok() ? backend.status().message() : source.status().message()) << "\n";
    return 1;
  }
  ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  auto model = load_model(**source, {.backend = *backend,
                                     .pool = &pool,
                                     .compute = float32 ? Compute::kF32 : Compute::kAuto,
                                     .kv_dtype = float32 ? DType::kF32 : (*backend)->kv_dtype,
                                     .rows_max = kContext,
                                     .logit_rows_max = 1,
                                     .context_max = kContext,
                                     .on_progress = {}});
  if (!model.ok()) {
    std::cerr << model.status().message() << "\n";
    return 1;
  }
  auto kv = KvStore::create(**backend, (*model)->kv_layouts(), kContext / limits::kKvBlockTokens);
  if (!kv.ok()) {
    std::cerr << kv.status().message() << "\n";
    return 1;
  }
  const json prompts = json::parse(std::cin, nullptr, /*allow_exceptions=*/false);
  std::ofstream logits(logits_file, std::ios::binary);
  json generated = json::array();
  for (const json& prompt : prompts) generated.push_back(decode(**model, **kv, prompt, steps, logits));
  std::cout << generated.dump() << "\n";
  if (!logits.good()) {
    std::cerr << "cannot write " << logits_file << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace gantry

int main(int argc, char** argv) {
  int steps = 0;
  if (argc == 6) std::from_chars(argv[2], argv[2] + std::string(argv[2]).size(), steps);
  const std::string dtype = argc == 6 ? argv[4] : "";
  if (steps < 1 || (dtype != "auto" && dtype != "float32")) {
    std::fputs("usage: greedy_ids MODEL STEPS BACKEND auto|float32 LOGITS < prompts.json\n", stderr);
    return 2;
  }
  return gantry::run(argv[1], steps, argv[3], dtype == "float32", argv[5]);
}
