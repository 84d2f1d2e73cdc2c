// The tensors that a published checkpoint of a configuration holds, by name, type and shape, without a file.
// What `gantry plan` counts and what each rank of a parallel layout takes its slice of.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/weight_source.h"
#include "model/config.h"
#include "tensor/tensor.h"

namespace gantry {

// How tensor parallelism divides a tensor (Megatron-LM, arXiv 1909.08053: a pair of linears is split by the
// rows of the first and the columns of the second).
enum class TensorSplit : uint8_t {
  kWhole,       // every rank has all of it: norms, gates, MLA's projections into the low ranks
  kRows,        // dimension 0 in equal runs
  kColumns,     // dimension 1 in equal runs
  kKvRows,      // dimension 0 by KV heads; with fewer heads than ranks a head has several ranks
  kVocabulary,  // dimension 0, padded so that every rank has as many rows
  kFirstRank,  // whole on the first rank, zeros on the others: a bias that is added once, to a sum over ranks
};

struct CheckpointTensor {
  // kEverywhere: of no layer, but none of the published files', such as llama.cpp's rope_freqs.
  enum class Place : uint8_t { kEmbedding, kLayer, kHead, kMtp, kEverywhere };

  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  Place place = Place::kLayer;
  int32_t layer = 0;    // kLayer: 0 to layers - 1; kMtp: layers and on
  int32_t expert = -1;  // of a routed expert
  TensorSplit split = TensorSplit::kWhole;

  uint64_t bytes() const { return TensorView{nullptr, dtype, shape}.bytes(); }
};

// How the weights of linears are stored.
struct WeightFormat {
  DType dtype = DType::kBF16;  // of all that is not quantised: torch_dtype
  // FP8 e4m3 with one f32 scale per block of this many rows and columns (weight_scale_inv, rounded up at
  // ragged edges); 0: not quantised.
  int32_t fp8_block = 0;
};

// torch_dtype (or dtype) of config.json, and its FP8 as `model` has it. kInvalidArgument.
Result<WeightFormat> parse_weight_format(const nlohmann::json& config, const ModelConfig& model);

// All tensors, the MTP modules' last. DeepSeek-V3's names are those of the published files: gate, norms,
// embedding, head and eh_proj stay in format.dtype, e_score_correction_bias is f32.
std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config, const WeightFormat& format);

// The same for a checkpoint that is there: types and shapes are the file's.
std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config, const WeightSource& source);

}  // namespace gantry
