// DeepSeek-V3 and R1 (arXiv 2412.19437): multi-head latent attention; the first layers are dense, the others
// mixtures of experts. The first of the multi-token prediction modules that follow the last layer is loaded where
// drafts are wanted.
#include <optional>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "model/layers/mla.h"
#include "model/layers/mlp.h"
#include "model/layers/moe.h"
#include "model/layers/mtp.h"
#include "model/registry.h"

namespace gantry {
namespace {

struct DeepseekLayer {
  Mla attention;
  std::optional<Mlp> dense;  // in the first first_k_dense_replace layers
  std::optional<Moe> experts;
};

class DeepseekV3 final : public Decoder {
 public:
  using Decoder::Decoder;

  Status load(const WeightSource& source) {
    Loader loader(source, options_, arena_);
    const auto ends = [&] { return load_ends(loader, config_.mla->qk_rope_head_dim); };
    GANTRY_ASSIGN_OR_RETURN(
        layers_, loader.layers<DeepseekLayer>(
                     shard_.layers.count(), ends, [&](int32_t i, DeepseekLayer& layer) -> Status {
                       const int32_t number = shard_.layers.begin + i;
                       const std::string prefix = layer_prefix(number);
                       GANTRY_ASSIGN_OR_RETURN(layer.attention, load_mla(loader, shard_.widths, prefix));
                       if (number < config_.moe->first_dense_layers) {
                         GANTRY_ASSIGN_OR_RETURN(layer.dense, load_mlp(loader, shard_.widths, prefix));
                       } else {
                         GANTRY_ASSIGN_OR_RETURN(layer.experts, load_moe(loader, shard_, prefix));
                       }
                       return {};
                     }));
    if (options_.drafts && shard_.last_stage) {
      GANTRY_ASSIGN_OR_RETURN(mtp_, load_mtp(loader, shard_, layer_prefix(config_.layers)));
    }
    for (int32_t i = mtp_ ? 1 : 0; i < config_.mtp_layers; ++i) {
      loader.ignore_prefix(layer_prefix(config_.layers + i));
    }
    return load_buffers(loader, {mla_widths(shard_.widths), mlp_widths(shard_.widths), moe_widths(shard_),
                                 mtp_ ? mtp_widths(shard_.widths) : ActivationWidths{}});
  }

  std::vector<KvLayout> kv_layouts() const override {
    return {layers_.size() + (mtp_ ? 1 : 0), mla_kv_layout(config_, options_.kv_dtype)};
  }

  int64_t kv_tail() const override { return mtp_ ? config_.hidden : 0; }

  Status run(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits) override {
    GANTRY_RETURN_IF_ERROR(start(step, batch));
    for (size_t i = 0; i < layers_.size(); ++i) {
      const DeepseekLayer& layer = layers_[i];
      GANTRY_RETURN_IF_ERROR(mla(step, layer.attention, kv.layer(static_cast<int>(i))));
      GANTRY_RETURN_IF_ERROR(layer.dense ? mlp(step, *layer.dense) : moe(step, *layer.experts));
    }
    return end(step, batch, logits);
  }

  Status draft(const DraftBatch& batch, const KvStore& kv, float* logits, float* hidden) override {
    const Step step = begin(batch.segments, batch.ids.size(), batch.logit_rows.size());
    return mtp(step, *mtp_, kv.layer(static_cast<int>(layers_.size())),
               {.ids = batch.ids,
                .hidden = batch.hidden,
                .rows = batch.logit_rows,
                .out = hidden,
                .logits = logits});
  }

 private:
  static std::string layer_prefix(int32_t layer) { return "model.layers." + std::to_string(layer) + "."; }

  std::vector<DeepseekLayer> layers_;
  std::optional<Mtp> mtp_;
};

}  // namespace

Result<std::unique_ptr<Model>> load_deepseek_v3(const WeightSource& source, const LoadOptions& options,
                                                ModelConfig config, Shard shard) {
  auto model = std::make_unique<DeepseekV3>(std::move(config), options, std::move(shard));
  GANTRY_RETURN_IF_ERROR(model->load(source));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace gantry
