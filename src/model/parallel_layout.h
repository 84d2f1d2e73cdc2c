// Which part of a model each rank of a replica holds: pipeline stages take runs of layers, tensor parallel
// ranks take slices of each layer's tensors, expert parallelism gives whole experts instead of slices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/checkpoint_tensors.h"
#include "model/config.h"

namespace gantry {

struct ParallelSizes {
  int32_t tensor = 1;            // ranks that split each layer
  int32_t pipeline = 1;          // stages that split the layers
  bool expert_parallel = false;  // routed experts whole, spread over the tensor parallel ranks

  int32_t ranks() const { return tensor * pipeline; }
};

// Runs of rows and columns that a slice must not cut: FP8's scales, a GGUF format's blocks. {1, 1} for plain
// types.
struct QuantBlock {
  int64_t rows = 1;
  int64_t cols = 1;
};
QuantBlock quant_block_of(const std::vector<CheckpointTensor>& tensors, const WeightFormat& format);

struct LayerRange {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t count() const { return end - begin; }
};

// Stages of layers / stages layers; what is left over goes, one each, to the later stages except the last,
// which has the head: 61 over 2, 4 → [31, 30], [15, 15, 16, 15]. stages in [1, layers].
std::vector<LayerRange> split_layers(int32_t layers, int32_t stages);

struct RankPlace {
  int32_t stage = 0;
  int32_t tensor_rank = 0;
};

// What a rank holds of a tensor: runs of one dimension, in elements of the file's tensor, one after the other.
// Several only of KV heads, which may be held more than once (ParallelLayout::kv_heads()).
struct TensorSlice {
  struct Run {
    int64_t begin = 0;
    int64_t end = 0;
  };

  bool held = false;
  int dim = 0;
  std::vector<Run> runs;
  int64_t size = 0;  // of the rank's own tensor; zeros follow the runs (TensorSplit::kVocabulary, kFirstRank)

  uint64_t bytes(const CheckpointTensor& tensor) const;
};

class ParallelLayout {
 public:
  // kInvalidArgument names the size at fault and lists those that work.
  static Result<ParallelLayout> create(const ModelConfig& config, const QuantBlock& block,
                                       const ParallelSizes& sizes);
  // The tensor parallel sizes from 1 to the number of heads that create() accepts.
  static std::vector<int32_t> tensor_sizes(const ModelConfig& config, const QuantBlock& block,
                                           bool expert_parallel);

  const ParallelSizes& sizes() const { return sizes_; }
  // Global rank = stage * tensor + tensor_rank: a tensor parallel group is a run of ranks, on one node.
  RankPlace place(int32_t rank) const { return {rank / sizes_.tensor, rank % sizes_.tensor}; }
  const std::vector<LayerRange>& stages() const { return stages_; }
  int32_t heads() const { return heads_; }  // query heads per rank
  // Per rank, each for as many of its query heads; MLA: 1, the latent. With fewer KV heads than ranks a head is
  // on several; where a rank's query heads share KV heads unequally (6 over 2 on 3 ranks) it holds some twice.
  int32_t kv_heads() const { return kv_heads_; }
  int64_t vocabulary_rows() const { return vocabulary_rows_; }  // per rank, padding included
  // [begin, end) of the routed experts that the rank runs; all of them without expert parallelism.
  LayerRange experts(int32_t tensor_rank) const;

  // What the rank holds of the tensor, whose shape is the configuration's. MTP modules and the head lie on the
  // last stage; a tied table also on the first.
  TensorSlice slice(const CheckpointTensor& tensor, const RankPlace& rank) const;

 private:
  bool on_stage(const CheckpointTensor& tensor, int32_t stage) const;
  void slice_kv_heads(const CheckpointTensor& tensor, int32_t tensor_rank, TensorSlice& out) const;

  ParallelSizes sizes_;
  std::vector<LayerRange> stages_;
  int32_t experts_ = 0;
  int32_t heads_ = 0;
  int32_t kv_heads_ = 0;
  int32_t group_ = 1;  // query heads that share a KV head
  int64_t vocabulary_rows_ = 0;
  bool tied_ = false;
};

}  // namespace gantry
