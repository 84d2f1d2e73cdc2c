// DeepSeek-V3's mixture of experts (arXiv 2412.19437, section 2.1.2): a sigmoid gate that balances without an
// auxiliary loss, fine-grained routed experts, shared experts.
#pragma once

#include <string>

#include "kernels/ops/args.h"
#include "model/layers/step.h"
#include "model/loader.h"
#include "model/shard.h"

namespace gantry {

struct Moe {
  Norm norm{};
  PackedWeight gate_weight{};        // [experts, hidden]
  const float* gate_bias = nullptr;  // [experts] e_score_correction_bias
  GateParams gate{};
  int32_t first_expert = 0;
  PackedWeight gate_up{};         // experts of this rank x [2 intermediate, hidden]
  PackedWeight down{};            // experts of this rank x [hidden, intermediate]
  bool shared_entry = false;      // the shared expert is the last of them
  PackedWeight shared_gate_up{};  // [2 shared_experts * intermediate, hidden], or none
  PackedWeight shared_down{};
  int32_t hidden = 0;
};

// Tensors {prefix}post_attention_layernorm and {prefix}mlp.*; prefix = "model.layers.3.". widths.moe is set.
Result<Moe> load_moe(Loader& loader, const Shard& shard, const std::string& prefix);
ActivationWidths moe_widths(const Shard& shard);

// x += sum of chosen experts' weighted outputs + shared experts, all on norm(x). Errors are the Communicator's.
Status moe(const Step& step, const Moe& layer);

}  // namespace gantry
