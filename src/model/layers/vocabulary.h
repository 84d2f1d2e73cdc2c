// The two ends of a decoder: token embedding and the head that gives logits. Tensor parallel ranks split both by
// rows: a table on every rank would cost R1 1.85 GB each, to save one all-reduce a step of what a layer does twice.
#pragma once

#include "base/status.h"
#include "kernels/ops/args.h"
#include "model/layers/step.h"
#include "model/loader.h"
#include "model/shard.h"

namespace gantry {

struct Vocabulary {
  TensorView table{};   // [vocab rows, hidden] in the file's dtype; of the first stage
  Norm norm{};          // of the last hidden state; of the last stage, as is the head
  PackedWeight head{};  // [vocab rows, hidden]; with tied embeddings the table's values
  int64_t begin = 0;    // the first row's token; this rank's rows include padding
  int64_t size = 0;     // tokens of the model
};

// The ends that the shard has.
Result<Vocabulary> load_vocabulary(Loader& loader, const Shard& shard);

// x = table[ids]. Errors here and below are the Communicator's.
Status embed(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> ids);
// logits [M, vocab] = head(norm(x[rows])), on tensor rank 0; elsewhere `logits` may be null.
Status head(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> rows, float* logits);

}  // namespace gantry
