#include "model/parallel_layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace gantry {
namespace {

// Rows of a rank's share of the vocabulary come in panels of the kernels.
constexpr int64_t kVocabularyPanel = 16;

int64_t ceil_div(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Empty if the width splits, else why not.
std::string why_not(const char* what, int64_t width, int64_t block, int64_t ranks) {
  if (width % ranks != 0) return fmt::format("its {} {} have no equal parts", width, what);
  if (ranks > 1 && width / ranks % block != 0) {
    return fmt::format("{} of its {} {} per rank cut the weights' blocks of {}", width / ranks, width, what,
                       block);
  }
  return {};
}

std::string why_not_tensor(const ModelConfig& config, const QuantBlock& block, int32_t ranks,
                           bool expert_parallel) {
  const int64_t unit = std::max(block.rows, block.cols);
  if (config.heads % ranks != 0) return fmt::format("its {} query heads have no equal parts", config.heads);
  if (std::string why =
          why_not("rows of query heads", int64_t{config.heads} * config.head_dim, block.rows, ranks);
      !why.empty()) {
    return why;
  }
  const int64_t value_dim = config.mla ? config.mla->v_head_dim : config.head_dim;
  if (std::string why = why_not("columns of o_proj", int64_t{config.heads} * value_dim, block.cols, ranks);
      !why.empty()) {
    return why;
  }
  if (config.mla) {
    const int64_t rows = int64_t{config.heads} * (config.mla->qk_nope_head_dim + config.mla->v_head_dim);
    if (std::string why = why_not("rows of kv_b_proj", rows, block.rows, ranks); !why.empty()) return why;
  } else if (ranks > 1 && config.kv_heads > 1) {
    const int64_t run = config.kv_heads % ranks == 0 ? config.kv_heads / ranks : 1;
    if (run * config.head_dim % block.rows != 0) {
      return fmt::format("a KV head's {} rows cut the weights' blocks of {}", config.head_dim, block.rows);
    }
  }
  if (!config.moe || config.moe->first_dense_layers > 0) {
    if (std::string why = why_not("intermediate columns", config.intermediate, unit, ranks); !why.empty()) {
      return why;
    }
  }
  if (!config.moe) return {};
  const MoeConfig& moe = *config.moe;
  if (expert_parallel && moe.experts % ranks != 0) {
    return fmt::format("its {} experts have no equal parts", moe.experts);
  }
  if (!expert_parallel) {
    if (std::string why = why_not("columns of an expert", moe.intermediate, unit, ranks); !why.empty()) {
      return why + " (--enable-expert-parallel keeps experts whole)";
    }
  }
  return why_not("columns of the shared experts", int64_t{moe.shared_experts} * moe.intermediate, unit,
                 ranks);
}

}  // namespace

QuantBlock quant_block_of(const std::vector<CheckpointTensor>& tensors, const WeightFormat& format) {
  QuantBlock block;
  if (format.fp8_block > 0) block = {format.fp8_block, format.fp8_block};
  for (const CheckpointTensor& tensor : tensors) {
    if (tensor.split != TensorSplit::kColumns) continue;
    block.cols = std::max<int64_t>(block.cols, dtype_info(tensor.dtype).block_elements);
  }
  return block;
}

std::vector<LayerRange> split_layers(int32_t layers, int32_t stages) {
  GANTRY_CHECK(stages >= 1 && stages <= layers) << layers << " layers in " << stages << " stages";
  std::vector<int32_t> counts(static_cast<size_t>(stages), layers / stages);
  const int32_t left = layers % stages;
  for (int32_t i = 0; i < left; ++i) ++counts[static_cast<size_t>(stages - 2 - i)];
  std::vector<LayerRange> ranges;
  int32_t begin = 0;
  for (const int32_t count : counts) {
    ranges.push_back({begin, begin + count});
    begin += count;
  }
  return ranges;
}

uint64_t TensorSlice::bytes(const CheckpointTensor& tensor) const {
  if (!held) return 0;
  const int64_t whole = tensor.shape[dim];
  if (whole == 0) return 0;
  const int64_t elements = tensor.shape.elements() / whole * size;
  return bytes_of(tensor.dtype, static_cast<uint64_t>(elements)).value_or(0);
}

std::vector<int32_t> ParallelLayout::tensor_sizes(const ModelConfig& config, const QuantBlock& block,
                                                  bool expert_parallel) {
  std::vector<int32_t> sizes;
  for (int32_t ranks = 1; ranks <= config.heads; ++ranks) {
    if (why_not_tensor(config, block, ranks, expert_parallel).empty()) sizes.push_back(ranks);
  }
  return sizes;
}

Result<ParallelLayout> ParallelLayout::create(const ModelConfig& config, const QuantBlock& block,
                                              const ParallelSizes& sizes) {
  if (sizes.pipeline < 1 || sizes.pipeline > config.layers) {
    return invalid_argument(fmt::format("pipeline_parallel_size is {}: want 1 to the model's {} layers",
                                        sizes.pipeline, config.layers),
                            "pipeline_parallel_size");
  }
  const std::string why = sizes.tensor < 1 || sizes.tensor > config.heads
                              ? fmt::format("want 1 to its {} query heads", config.heads)
                              : why_not_tensor(config, block, sizes.tensor, sizes.expert_parallel);
  if (!why.empty()) {
    return invalid_argument(
        fmt::format("tensor_parallel_size {} does not split the model: {}; sizes that work: {}", sizes.tensor,
                    why, fmt::join(tensor_sizes(config, block, sizes.expert_parallel), ", ")),
        "tensor_parallel_size");
  }
  if (sizes.expert_parallel && !config.moe) {
    return invalid_argument(config.architecture + " has no experts: leave --enable-expert-parallel out",
                            "enable_expert_parallel");
  }
  ParallelLayout layout;
  layout.sizes_ = sizes;
  layout.stages_ = split_layers(config.layers, sizes.pipeline);
  layout.experts_ = config.moe ? config.moe->experts : 0;
  layout.heads_ = config.heads / sizes.tensor;
  layout.group_ = config.heads / config.kv_heads;
  layout.kv_heads_ = config.mla ? 1 : layout.heads_ / std::gcd(layout.heads_, layout.group_);
  // One rank reads the table as it is.
  layout.vocabulary_rows_ =
      sizes.tensor == 1 ? config.vocab
                        : ceil_div(ceil_div(config.vocab, sizes.tensor), kVocabularyPanel) * kVocabularyPanel;
  layout.tied_ = config.tied_embeddings;
  return layout;
}

LayerRange ParallelLayout::experts(int32_t tensor_rank) const {
  if (!sizes_.expert_parallel) return {0, experts_};
  const int32_t share = experts_ / sizes_.tensor;
  return {tensor_rank * share, (tensor_rank + 1) * share};
}

bool ParallelLayout::on_stage(const CheckpointTensor& tensor, int32_t stage) const {
  const bool last = stage + 1 == sizes_.pipeline;
  switch (tensor.place) {
    case CheckpointTensor::Place::kEverywhere:
      return true;
    case CheckpointTensor::Place::kEmbedding:
      return stage == 0 || (last && tied_);
    case CheckpointTensor::Place::kLayer: {
      const LayerRange& layers = stages_[static_cast<size_t>(stage)];
      return tensor.layer >= layers.begin && tensor.layer < layers.end;
    }
    case CheckpointTensor::Place::kHead:
    case CheckpointTensor::Place::kMtp:
      return last;
  }
  return false;
}

TensorSlice ParallelLayout::slice(const CheckpointTensor& tensor, const RankPlace& rank) const {
  TensorSlice out;
  out.held = on_stage(tensor, rank.stage);
  if (!out.held) return out;
  out.size = tensor.shape[0];
  out.runs = {{0, out.size}};
  TensorSplit split = tensor.split;
  if (tensor.expert >= 0 && sizes_.expert_parallel) {
    const LayerRange mine = experts(rank.tensor_rank);
    out.held = tensor.expert >= mine.begin && tensor.expert < mine.end;
    split = TensorSplit::kWhole;
  }
  const int64_t index = rank.tensor_rank;
  switch (split) {
    case TensorSplit::kWhole:
      return out;
    case TensorSplit::kVocabulary:
      out.size = vocabulary_rows_;
      out.runs = {{std::min(index * vocabulary_rows_, tensor.shape[0]),
                   std::min((index + 1) * vocabulary_rows_, tensor.shape[0])}};
      return out;
    case TensorSplit::kFirstRank:
      if (index > 0) out.runs.clear();
      return out;
    case TensorSplit::kKvRows:
      slice_kv_heads(tensor, rank.tensor_rank, out);
      return out;
    case TensorSplit::kRows:
      break;
    case TensorSplit::kColumns:
      out.dim = 1;
      break;
  }
  out.size = tensor.shape[out.dim] / sizes_.tensor;
  out.runs = {{index * out.size, (index + 1) * out.size}};
  return out;
}

// Each KV head of the rank serves as many of its query heads, in order.
void ParallelLayout::slice_kv_heads(const CheckpointTensor& tensor, int32_t tensor_rank,
                                    TensorSlice& out) const {
  const int64_t all = int64_t{heads_} * sizes_.tensor / group_;
  const int64_t each = heads_ / kv_heads_;
  out.runs.clear();
  for (int64_t i = 0; i < kv_heads_; ++i) {
    const int64_t head = (int64_t{tensor_rank} * heads_ + i * each) / group_;
    const TensorSlice::Run run{head * tensor.shape[0] / all, (head + 1) * tensor.shape[0] / all};
    if (!out.runs.empty() && out.runs.back().end == run.begin) {
      out.runs.back().end = run.end;
    } else {
      out.runs.push_back(run);
    }
  }
  out.size = kv_heads_ * tensor.shape[0] / all;
}

}  // namespace gantry
