// Grouped FP8 GEMMs over the experts that a decode step hits. The list of work is made on the device
// (routing.h), so no count travels to the host: the grid is fixed, its blocks stride over the list.
//   gate_up: for each expert and each of its tokens, h = silu(gate) * up, quantised per 128 columns.
//   down:    y[slot] = W_down h[slot]; the combine adds slots in order of expert (routing.h).
#pragma once

#include <cstdint>
#include <string>

namespace gantry::sm90 {

struct ExpertShape {
  int tokens = 0;             // B, 1 .. 128
  int experts = 0;            // the shared ones too, which come last
  int experts_per_token = 0;  // likewise
  int hidden = 0;             // multiples of 128
  int intermediate = 0;       // of one expert
};

struct ExpertConfig {
  // gate_up multiplies all B tokens by each expert hit and keeps what was routed: the tensor core is idle
  // anyway and no row is copied. Up to B = 32; above, chunks of routed tokens.
  int gate_up_tokens = 0;
  bool gate_up_all = false;
  int down_tokens = 0;  // tokens of one chunk of an expert's slots
  int gate_up_stages = 0, gate_up_smem_bytes = 0;
  int down_stages = 0, down_smem_bytes = 0;
  bool operator==(const ExpertConfig&) const = default;
};

// Slots: one per (token, expert) pair, sorted by expert, each expert's first slot a multiple of kSlotAlign
// (16 bytes of f32 scales, what the copy engine moves).
inline constexpr int kSlotAlign = 4;
int slots_max(const ExpertShape& shape);
// Upper bound of the chunks in a work list.
int chunks_max(const ExpertShape& shape, int chunk_tokens);

// Blocks of a grid, and floats of the partial sums that they exchange.
inline constexpr int kStreamBlocksMax = 256;
int64_t stream_partial_floats(const ExpertConfig& config);

// Pure. gate_up_tokens == 0: the shape is not supported.
ExpertConfig choose_expert_gemm(const ExpertShape& shape);
std::string to_string(const ExpertConfig& config);

}  // namespace gantry::sm90
