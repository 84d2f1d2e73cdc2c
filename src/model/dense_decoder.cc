// Llama (arXiv 2302.13971; Llama 3, arXiv 2407.21783) and Qwen2, Qwen2.5 (arXiv 2407.10671): a pre-norm decoder
// of grouped-query attention and SwiGLU. What differs is in the configuration: biases on queries, keys and
// values (Qwen2), rope scaling (Llama 3).
#include <string>
#include <vector>

#include "model/decoder.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/registry.h"

namespace gantry {
namespace {

struct DenseLayer {
  Attention attention;
  Mlp mlp;
};

class DenseDecoder final : public Decoder {
 public:
  using Decoder::Decoder;

  Status load(const WeightSource& source) {
    Loader loader(source, options_, arena_);
    const auto ends = [&] { return load_ends(loader, config_.head_dim); };
    GANTRY_ASSIGN_OR_RETURN(
        layers_,
        loader.layers<DenseLayer>(shard_.layers.count(), ends, [&](int32_t i, DenseLayer& layer) -> Status {
          const std::string prefix = "model.layers." + std::to_string(shard_.layers.begin + i) + ".";
          GANTRY_ASSIGN_OR_RETURN(layer.attention, load_attention(loader, shard_.widths, prefix));
          GANTRY_ASSIGN_OR_RETURN(layer.mlp, load_mlp(loader, shard_.widths, prefix));
          return {};
        }));
    return load_buffers(loader, {attention_widths(shard_.widths), mlp_widths(shard_.widths)});
  }

  std::vector<KvLayout> kv_layouts() const override {
    return {layers_.size(), attention_kv_layout(shard_.widths, options_.kv_dtype)};
  }

  Status run(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits) override {
    GANTRY_RETURN_IF_ERROR(start(step, batch));
    for (size_t i = 0; i < layers_.size(); ++i) {
      GANTRY_RETURN_IF_ERROR(attention(step, layers_[i].attention, kv.layer(static_cast<int>(i))));
      GANTRY_RETURN_IF_ERROR(mlp(step, layers_[i].mlp));
    }
    return end(step, batch, logits);
  }

 private:
  std::vector<DenseLayer> layers_;
};

}  // namespace

Result<std::unique_ptr<Model>> load_dense_decoder(const WeightSource& source, const LoadOptions& options,
                                                  ModelConfig config, Shard shard) {
  auto model = std::make_unique<DenseDecoder>(std::move(config), options, std::move(shard));
  GANTRY_RETURN_IF_ERROR(model->load(source));
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace gantry
