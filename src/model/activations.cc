#include "model/activations.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace gantry {
namespace {

constexpr size_t kAlignment = 64;

// Lays pieces out one after the other: the first pass (no base) measures, the second hands out.
class Layout {
 public:
  explicit Layout(std::byte* base) : base_(base) {}

  void floats(float*& pointer, int64_t rows, int64_t width) {
    const size_t bytes = static_cast<size_t>(rows) * static_cast<size_t>(width) * sizeof(float);
    pointer = reinterpret_cast<float*>(take(bytes).data());
  }
  std::span<std::byte> take(size_t bytes) {
    const std::span<std::byte> piece{base_ == nullptr ? nullptr : base_ + used_,
                                     base_ == nullptr ? 0 : bytes};
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

size_t lay_out(std::byte* base, const ActivationWidths& widths, int32_t rows, int32_t logit_rows,
               size_t scratch_bytes, Activations& out) {
  Layout layout(base);
  layout.floats(out.x, rows, widths.hidden);
  layout.floats(out.q, rows, widths.q);
  layout.floats(out.attended, rows, widths.attended);
  layout.floats(out.latent_attended, rows, widths.latent_attended);
  layout.floats(out.workspace, rows, widths.workspace);
  layout.floats(out.part, rows, widths.part);
  layout.floats(out.head_input, logit_rows, widths.hidden);
  layout.floats(out.logits, logit_rows, widths.logits);
  out.scratch = layout.take(scratch_bytes);
  return layout.used();
}

}  // namespace

void Activations::populate() {
  const std::span<std::byte> bytes = memory.bytes();
  if (bytes.empty()) return;
#ifdef MADV_POPULATE_WRITE
  if (madvise(bytes.data(), bytes.size(), MADV_POPULATE_WRITE) == 0) return;
#endif
  std::memset(bytes.data(), 0, bytes.size());  // kernels before 5.14
}

void ActivationWidths::widen(const ActivationWidths& other) {
  hidden = std::max(hidden, other.hidden);
  q = std::max(q, other.q);
  attended = std::max(attended, other.attended);
  latent_attended = std::max(latent_attended, other.latent_attended);
  workspace = std::max(workspace, other.workspace);
  rope_pairs = std::max(rope_pairs, other.rope_pairs);
  part = std::max(part, other.part);
  logits = std::max(logits, other.logits);
}

Result<Activations> Activations::allocate(const ActivationWidths& widths, int32_t rows_max,
                                          int32_t logit_rows_max, size_t scratch_bytes,
                                          const MemorySpace* space) {
  Activations activations;
  const size_t bytes = lay_out(nullptr, widths, rows_max, logit_rows_max, scratch_bytes, activations);
  GANTRY_ASSIGN_OR_RETURN(activations.memory, Memory::map(bytes, "the model's activations", space));
  lay_out(activations.memory.bytes().data(), widths, rows_max, logit_rows_max, scratch_bytes, activations);
  const size_t angles = static_cast<size_t>(rows_max) * static_cast<size_t>(widths.rope_pairs);
  activations.positions.resize(2 * angles);
  activations.own_ids.reserve(static_cast<size_t>(rows_max));
  activations.cos = activations.positions.data();
  activations.sin = activations.cos + angles;
  return activations;
}

}  // namespace gantry
