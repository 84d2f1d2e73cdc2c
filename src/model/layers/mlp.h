// The gated feed-forward layer: SwiGLU (arXiv 2002.05202).
#pragma once

#include <string>

#include "kernels/ops/args.h"
#include "model/layers/step.h"
#include "model/loader.h"

namespace gantry {

struct Mlp {
  Norm norm{};
  PackedWeight gate_up{};  // [2 intermediate, hidden]
  PackedWeight down{};     // [hidden, intermediate]
};

// Tensors {prefix}post_attention_layernorm and {prefix}mlp.*; prefix = "model.layers.3.".
Result<Mlp> load_mlp(Loader& loader, const ModelConfig& config, const std::string& prefix);
ActivationWidths mlp_widths(const ModelConfig& config);

// x += down(silu(gate(norm(x))) * up(norm(x))). Errors are the Communicator's.
Status mlp(const Step& step, const Mlp& layer);

}  // namespace gantry
