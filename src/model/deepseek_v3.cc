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
  DeepseekV3(ModelConfig config, const LoadOptions& options) : Decoder(std::move(config), options) {}

  Status load(const WeightSource& source) {
    Loader loader(source, options_, arena_);
    GANTRY_RETURN_IF_ERROR(load_ends(loader, config_.mla->qk_rope_head_dim));
    GANTRY_ASSIGN_OR_RETURN(
        layers_, loader.layers<DeepseekLayer>(config_.layers, [&](int32_t i, DeepseekLayer& layer) -> Status {
          const std::string prefix = layer_prefix(i);
          GANTRY_ASSIGN_OR_RETURN(layer.attention, load_mla(loader, config_, prefix));
          if (i < config_.moe->first_dense_layers) {
            GANTRY_ASSIGN_OR_RETURN(layer.dense, load_mlp(loader, config_, prefix));
          } else {
            GANTRY_ASSIGN_OR_RETURN(layer.experts, load_moe(loader, config_, prefix));
          }
          return {};
        }));
    if (options_.drafts) {
      GANTRY_ASSIGN_OR_RETURN(mtp_, load_mtp(loader, config_, layer_prefix(config_.layers)));
    }
    for (int32_t i = mtp_ ? 1 : 0; i < config_.mtp_layers; ++i) {
      loader.ignore_prefix(layer_prefix(config_.layers + i));
    }
    return load_buffers(loader, {mla_widths(config_), mlp_widths(config_), moe_widths(config_),
                                 mtp_ ? mtp_widths(config_) : ActivationWidths{}});
  }

  std::vector<KvLayout> kv_layouts() const override {
    return {layers_.size() + (mtp_ ? 1 : 0), mla_kv_layout(config_, options_.kv_dtype)};
  }

  int64_t kv_tail() const override { return mtp_ ? config_.hidden : 0; }

  void run(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits) override {
    embed(step, vocabulary_, batch.ids);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const DeepseekLayer& layer = layers_[i];
      mla(step, layer.attention, kv.layer(static_cast<int>(i)));
      if (layer.dense) {
        mlp(step, *layer.dense);
      } else {
        moe(step, *layer.experts);
      }
    }
    end(step, batch, logits);
  }

  void draft(const DraftBatch& batch, const KvStore& kv, float* logits, float* hidden) override {
    const Step step = begin(batch.segments, batch.ids.size(), batch.logit_rows.size());
    mtp(step, *mtp_, kv.layer(static_cast<int>(layers_.size())),
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
                                                ModelConfig config) {
  auto model = std::make_unique<DeepseekV3>(std::move(config), options);
  GANTRY_RETURN_IF_ERROR(model->load(source));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace gantry
