// The two ends of a decoder: token embedding and the head that gives logits.
#pragma once

#include "kernels/ops/args.h"
#include "model/layers/step.h"
#include "model/loader.h"

namespace gantry {

struct Vocabulary {
  TensorView table{};   // [vocab, hidden] in the file's dtype
  Norm norm{};          // of the last hidden state
  PackedWeight head{};  // [vocab, hidden]; with tied embeddings the table's values
};

Result<Vocabulary> load_vocabulary(Loader& loader, const ModelConfig& config);

// x = table[ids]
void embed(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> ids);
// logits [M, vocab] = head(norm(x[rows]))
void head(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> rows, float* logits);

}  // namespace gantry
