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

namespace gantry {

class Decoder : public Model {
 public:
  const ModelConfig& config() const override { return config_; }
  uint64_t weight_bytes() const override { return weight_bytes_; }
  uint64_t resident_weight_bytes() const override { return arena_.bytes(); }
  uint64_t activation_bytes() const override { return activations_.memory.bytes().size(); }
  void forward(const ForwardBatch& batch, const KvStore& kv, float* logits) final;

 protected:
  Decoder(ModelConfig config, const LoadOptions& options)
      : config_(std::move(config)), options_(options), arena_(options.backend->memory) {}

  // The step's ops in order, from the embedding to the head.
  virtual void run(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits) = 0;

  // Embedding, head and rotary positions of `rope_dim` values. Before the layers.
  Status load_ends(Loader& loader, int32_t rope_dim);
  // Refuses left-over tensors and allocates the activations. After the layers. Widths: those of each kind
  // of layer.
  Status load_buffers(Loader& loader, std::initializer_list<ActivationWidths> layer_widths);

  // Rows' rotary positions, and the checks that a batch of `rows` fits what was loaded.
  Step begin(std::span<const Segment> segments, size_t rows, size_t logit_rows) const;
  // Delivers batch.hidden, if wanted, and the logits. After the layers.
  void end(const Step& step, const ForwardBatch& batch, float* logits) const;

  ModelConfig config_;
  LoadOptions options_;
  Arena arena_;
  Vocabulary vocabulary_;

 private:
  Rope rope_;
  std::unique_ptr<BackendState> state_;
  Activations activations_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace gantry
