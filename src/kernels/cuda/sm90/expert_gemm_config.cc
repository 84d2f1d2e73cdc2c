#include <algorithm>

#include "kernels/cuda/sm90/expert_gemm.h"

namespace gantry::sm90 {
namespace {

constexpr int kBlockK = 128;
constexpr int kSmemBudget = 220 << 10;  // one persistent block a multiprocessor
constexpr int kFixedBytes = 4096;       // alignment slack, barriers, the quantisation's maxima

int round_up(int a, int b) { return (a + b - 1) / b * b; }

int stages_of(int weight_rows, int tokens) {
  const int stage = (weight_rows + tokens) * kBlockK + tokens * static_cast<int>(sizeof(float));
  return std::min(12, (kSmemBudget - kFixedBytes) / stage);
}
int smem_of(int weight_rows, int tokens, int stages) {
  return kFixedBytes + stages * ((weight_rows + tokens) * kBlockK + tokens * static_cast<int>(sizeof(float)));
}

}  // namespace

int slots_max(const ExpertShape& shape) {
  const int picks = shape.tokens * shape.experts_per_token;
  // Each expert hit wastes at most kSlotAlign - 1 slots; a chunk's box may reach past the last one.
  return round_up(picks + std::min(picks, shape.experts) * (kSlotAlign - 1) + 64, 128);
}

int chunks_max(const ExpertShape& shape, int chunk_tokens) {
  const int picks = shape.tokens * shape.experts_per_token;
  return std::min(picks, shape.experts) + picks / chunk_tokens;
}

int64_t stream_partial_floats(const ExpertConfig& config) {
  return int64_t{kStreamBlocksMax} * 256 * std::max(config.gate_up_tokens, config.down_tokens / 2);
}

ExpertConfig choose_expert_gemm(const ExpertShape& shape) {
  if (shape.tokens < 1 || shape.tokens > 128 || shape.hidden % kBlockK != 0 ||
      shape.intermediate % kBlockK != 0 || shape.hidden <= 0 || shape.intermediate <= 0 ||
      shape.experts < 1 || shape.experts > 288 || shape.experts_per_token < 1 ||
      shape.experts_per_token > std::min(shape.experts, 16)) {
    return {};
  }
  ExpertConfig c;
  c.gate_up_all = shape.tokens <= 32;
  c.gate_up_tokens = shape.tokens <= 8 ? 8 : shape.tokens <= 16 ? 16 : shape.tokens <= 32 ? 32 : 16;
  // Mean load of an expert that is hit, doubled: a second chunk reads the expert's weights a second time.
  const double hit = std::min<double>(shape.experts, shape.tokens * shape.experts_per_token);
  const double mean = shape.tokens * shape.experts_per_token / hit;
  c.down_tokens = shape.tokens <= 8 || mean <= 2.5 ? 8 : 16;
  c.gate_up_stages = stages_of(256, c.gate_up_tokens);
  c.gate_up_smem_bytes = smem_of(256, c.gate_up_tokens, c.gate_up_stages);
  c.down_stages = stages_of(128, c.down_tokens);
  c.down_smem_bytes = smem_of(128, c.down_tokens, c.down_stages);
  return c;
}

std::string to_string(const ExpertConfig& c) {
  return "gate_up tokens " + std::to_string(c.gate_up_tokens) + (c.gate_up_all ? " (all)" : " (routed)") +
         " stages " + std::to_string(c.gate_up_stages) + ", down tokens " + std::to_string(c.down_tokens) +
         " stages " + std::to_string(c.down_stages);
}

}  // namespace gantry::sm90
