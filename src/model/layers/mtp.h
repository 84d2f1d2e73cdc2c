// DeepSeek-V3's multi-token prediction module (arXiv 2412.19437, section 2.2): one decoder layer that guesses the
// token after the next from the model's hidden state and the next token.
#pragma once

#include <string>

#include "model/layers/mla.h"
#include "model/layers/moe.h"
#include "model/layers/vocabulary.h"

namespace gantry {

struct Mtp {
  Norm embedding_norm{};
  Norm hidden_norm{};
  PackedWeight project{};  // eh_proj [hidden, 2 hidden], on [embedding; hidden]
  Mla attention;
  Moe experts;
  Vocabulary vocabulary;  // its own embedding, and the norm and head that end it
};

// The module at {prefix} = "model.layers.61.". widths.mla and widths.moe are set. kInvalidArgument (param()
// "num_speculative_tokens") where the checkpoint lacks it.
Result<Mtp> load_mtp(Loader& loader, const Shard& shard, const std::string& prefix);
ActivationWidths mtp_widths(const ModelConfig& config);

// The step's rows through the module; its entries go to the cache. ids [R] are the tokens at the rows' positions,
// hidden [R, hidden] the model's states, after its final norm, of the positions before (of position 0: its own, and
// its embedding counts as 0). For the chosen rows [M]: out [M, hidden] takes the module's states after its norm,
// logits [M, vocab] those of the next position's token.
struct MtpArgs {
  std::span<const int32_t> ids{};
  const float* hidden = nullptr;
  std::span<const int32_t> rows{};
  float* out = nullptr;
  float* logits = nullptr;  // as in head()
};
Status mtp(const Step& step, const Mtp& layer, const KvView& kv, const MtpArgs& args);

}  // namespace gantry
