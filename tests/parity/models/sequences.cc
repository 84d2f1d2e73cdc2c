#include "sequences.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/limits.h"

namespace gantry::testing {
namespace {

struct Sequence {
  std::vector<int32_t> ids;     // prompt and generated
  std::vector<int32_t> blocks;  // block table
  int32_t done = 0;             // positions in the cache
  int32_t prompt = 0;
  Trace trace;
};

int32_t blocks_for(size_t tokens) {
  return static_cast<int32_t>((tokens + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens);
}

std::vector<Sequence> make_sequences(const std::vector<std::vector<int32_t>>& prompts, int steps,
                                     int32_t& blocks) {
  blocks = 0;
  for (const auto& prompt : prompts) blocks += blocks_for(prompt.size() + static_cast<size_t>(steps));
  std::vector<int32_t> free(static_cast<size_t>(blocks));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), std::mt19937(7));
  std::vector<Sequence> sequences;
  for (const auto& prompt : prompts) {
    Sequence sequence{
        .ids = prompt, .blocks = {}, .prompt = static_cast<int32_t>(prompt.size()), .trace = {}};
    for (int32_t i = blocks_for(prompt.size() + static_cast<size_t>(steps)); i > 0; --i) {
      sequence.blocks.push_back(free.back());
      free.pop_back();
    }
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

}  // namespace

std::vector<Trace> run_batched(Model& model, const Backend& backend,
                               const std::vector<std::vector<int32_t>>& prompts, int steps,
                               const ChunkFn& chunk, const std::vector<Trace>* forced) {
  int32_t blocks = 0;
  std::vector<Sequence> sequences = make_sequences(prompts, steps, blocks);
  const auto kv = KvStore::create(backend, model.kv_layouts(), blocks).value();
  const auto vocab = static_cast<size_t>(model.config().vocab);

  for (int step = 0;; ++step) {
    std::vector<int32_t> ids, logit_rows;
    std::vector<Segment> segments;
    std::vector<size_t> sampled;
    for (size_t i = 0; i < sequences.size(); ++i) {
      Sequence& s = sequences[i];
      if (s.trace.tokens.size() == static_cast<size_t>(steps)) continue;
      const auto left = static_cast<int32_t>(s.ids.size()) - s.done;
      const int32_t rows = s.done < s.prompt ? chunk(i, step, left) : left;
      GANTRY_CHECK(rows >= 1 && rows <= left);
      segments.push_back({.first_row = static_cast<int32_t>(ids.size()),
                          .rows = rows,
                          .first_position = s.done,
                          .block_table = s.blocks.data()});
      ids.insert(ids.end(), s.ids.begin() + s.done, s.ids.begin() + s.done + rows);
      s.done += rows;
      if (rows < left) continue;
      logit_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
      sampled.push_back(i);
    }
    if (ids.empty()) break;

    std::vector<float> logits(logit_rows.size() * vocab);
    const Status status =
        model.forward({.ids = ids, .segments = segments, .logit_rows = logit_rows}, *kv, logits.data());
    GANTRY_CHECK(status.ok()) << status.message();
    for (size_t i = 0; i < sampled.size(); ++i) {
      const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i * vocab);
      const auto end = row + static_cast<std::ptrdiff_t>(vocab);
      const auto token = static_cast<int32_t>(std::max_element(row, end) - row);
      Sequence& s = sequences[sampled[i]];
      const size_t at = s.trace.tokens.size();
      s.trace.logits.emplace_back(row, end);
      s.trace.tokens.push_back(token);
      s.ids.push_back(forced == nullptr ? token : (*forced)[sampled[i]].tokens[at]);
    }
  }

  std::vector<Trace> traces;
  for (Sequence& s : sequences) traces.push_back(std::move(s.trace));
  return traces;
}

std::vector<Trace> run_alone(Model& model, const Backend& backend,
                             const std::vector<std::vector<int32_t>>& prompts, int steps,
                             const ChunkFn& chunk) {
  std::vector<Trace> traces;
  for (const auto& prompt : prompts) traces.push_back(run_batched(model, backend, {prompt}, steps, chunk)[0]);
  return traces;
}

}  // namespace gantry::testing
