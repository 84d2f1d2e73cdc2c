// Runs sequences through a model as an engine would: a paged cache with scattered blocks, and batches of
// prefill chunks and decodes.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/model.h"

namespace gantry::testing {

// What a sequence generated: the greedy tokens, and the logits that each was chosen from.
struct Trace {
  std::vector<int32_t> tokens;
  std::vector<std::vector<float>> logits;
};

// Rows of sequence `index` in step `step` while `left` of its prompt are to be processed, 1 .. left.
using ChunkFn = std::function<int32_t(size_t index, int step, int32_t left)>;

// All prompts together until each has `steps` tokens; a sequence that is done with its prompt decodes one row
// per step. The block ids of a sequence are neither contiguous nor ascending. With `forced` a sequence goes on with
// the tokens of that trace, whatever it chose: ranks without logits, or whose tokens may differ.
std::vector<Trace> run_batched(Model& model, const Backend& backend,
                               const std::vector<std::vector<int32_t>>& prompts, int steps,
                               const ChunkFn& chunk, const std::vector<Trace>* forced = nullptr);

// Each prompt by itself.
std::vector<Trace> run_alone(Model& model, const Backend& backend,
                             const std::vector<std::vector<int32_t>>& prompts, int steps,
                             const ChunkFn& chunk);

}  // namespace gantry::testing
