// Every buffer that a forward pass writes, allocated once at load. [R, n] rows are contiguous; R is at most
// rows_max.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/ops/backend.h"
#include "model/memory.h"

namespace gantry {

// Floats per row. Each kind of layer says what it needs; the buffers serve all, one after the other.
struct ActivationWidths {
  int64_t hidden = 0;
  int64_t q = 0;                // queries of all heads; MLA: in latent space
  int64_t attended = 0;         // heads * value dim
  int64_t latent_attended = 0;  // MLA: heads * latent
  int64_t workspace = 0;        // the most that one op asks for
  int64_t rope_pairs = 0;
  int64_t part = 0;  // hidden, where tensor parallel ranks sum their parts
  // Per row of logits: this rank's share of the vocabulary, where there are others.
  int64_t logits = 0;

  void widen(const ActivationWidths& other);
};

struct Activations {
  float* x = nullptr;         // [R, hidden] the residual stream
  float* q = nullptr;         // [R, q]
  float* attended = nullptr;  // [R, attended]
  float* latent_attended = nullptr;
  float* workspace = nullptr;   // [R, workspace]
  float* part = nullptr;        // [R, hidden] of a sum over ranks
  float* head_input = nullptr;  // [M, hidden] normed rows whose logits are wanted
  float* logits = nullptr;      // [M, logits] of this rank's share of the vocabulary
  float* cos = nullptr;         // [R, rope_pairs], on the host
  float* sin = nullptr;
  std::span<std::byte> scratch;  // of the ops
  Memory memory;                 // where the ops work
  std::vector<float> positions;  // cos, sin
  std::vector<int32_t> own_ids;  // [rows_max] rows of this rank's share of the table

  // space: the backend's memory.
  static Result<Activations> allocate(const ActivationWidths& widths, int32_t rows_max,
                                      int32_t logit_rows_max, size_t scratch_bytes, const MemorySpace* space);
  // Makes all of it resident, so that no step waits for pages and what a ready replica needs is there. Of host
  // memory only.
  void populate();
};

}  // namespace gantry
