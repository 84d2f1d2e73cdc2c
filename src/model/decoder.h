// What every decoder-only model has: configuration, weights' storage, activations, positions, vocabulary.
// A model adds its layers and the order in which forward() runs them.
#pragma once

#include <initializer_list>

#include "model/activations.h"
#include "model/layers/step.h"
#include "model/layers/vocabulary.h"
#include "model/loader.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/shard.h"

namespace gantry {

class Decoder : public Model {
 public:
  Decoder(ModelConfig config, const LoadOptions& options, Shard shard)
      : config_(std::move(config)),
        options_(options),
        shard_(std::move(shard)),
        arena_(options.backend->memory) {}

  const ModelConfig& config() const override { return config_; }
  uint64_t weight_bytes() const override { return weight_bytes_; }
  uint64_t resident_weight_bytes() const override { return arena_.bytes(); }
  uint64_t activation_bytes() const override { return activations_.memory.bytes().size(); }
  Status forward(const ForwardBatch& batch, const KvStore& kv, float* logits) final;
  Status launch(const ForwardBatch& batch, const KvStore& kv) final;
  std::span<const Drawn> collect() final { return ops::collect(context()); }
  void start_slot(const SlotStart& start) final { ops::start_slot(context(), start); }

 protected:
  // The step's ops in order, from start() to end().
  virtual Status run(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits) = 0;

  // Embedding, head (those that the shard has) and rotary positions of `rope_dim` values. Beside the layers.
  Status load_ends(Loader& loader, int32_t rope_dim);
  // Refuses left-over tensors and allocates the activations. After the layers. Widths: those of each kind
  // of layer.
  Status load_buffers(Loader& loader, std::initializer_list<ActivationWidths> layer_widths);

  OpContext context() const;
  // Rows' rotary positions, and the checks that a batch of `rows` fits what was loaded.
  Step begin(std::span<const Segment> segments, size_t rows, size_t logit_rows);
  // The tokens' embeddings, or what the stage before has made of them. Before the layers.
  Status start(const Step& step, const ForwardBatch& batch) const;
  // Delivers batch.hidden, if wanted, and the logits, or hands the rows to the next stage. After the layers.
  Status end(const Step& step, const ForwardBatch& batch, float* logits) const;

  ModelConfig config_;
  LoadOptions options_;
  Shard shard_;
  Arena arena_;
  Vocabulary vocabulary_;

 private:
  // The step up to where it is finished or launched.
  Status enter(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits);

  Rope rope_;
  std::unique_ptr<BackendState> state_;
  Activations activations_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace gantry
