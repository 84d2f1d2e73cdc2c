// A .gguf file as a checkpoint.
#include <fmt/format.h>

#include "base/limits.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/gguf_names.h"
#include "formats/gguf_vocab.h"
#include "formats/quote_name.h"

namespace gantry {
namespace {

Status add_tensor(const GgufTensor& tensor, const std::byte* data, const std::string& file,
                  std::vector<WeightInfo>& weights) {
  const HfName target = hf_name_from_gguf(tensor.name);
  if (!target.stacked_experts) {
    weights.push_back({target.name, {data, tensor.dtype, tensor.shape}, file});
    return Status();
  }
  if (tensor.shape.rank() != 3) {
    return data_loss(fmt::format("{}: tensor {}: is {}, not [experts, out, in]", file,
                                 quote_name(tensor.name), tensor.shape.to_string()));
  }
  const int64_t experts = tensor.shape[0];
  if (experts > limits::kExpertsMax) {
    return resource_exhausted(fmt::format("{}: tensor {}: has {} experts; at most {} are supported", file,
                                          quote_name(tensor.name), experts, limits::kExpertsMax));
  }
  const Shape shape{tensor.shape[1], tensor.shape[2]};
  for (int64_t expert = 0; expert < experts; ++expert) {
    const TensorView view{data, tensor.dtype, shape};
    weights.push_back({fmt::format("{}{}{}", target.name, expert, target.after_expert), view, file});
    data += view.bytes();
  }
  return Status();
}

Status refuse_split(const GgufFile& gguf, const std::string& file) {
  const GgufValue* count = gguf.find("split.count");
  if (count == nullptr || count->as_int() == 1 || count->as_int() == 0) return Status();
  return unimplemented(file +
                       ": is one part of a split GGUF, which is not supported; join the parts with "
                       "llama-gguf-split --merge");
}

}  // namespace

Result<Checkpoint> read_gguf(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::open(path));
  GANTRY_ASSIGN_OR_RETURN(const GgufFile gguf, parse_gguf(file->bytes(), path));
  GANTRY_RETURN_IF_ERROR(refuse_split(gguf, path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.vocab, vocab_from_gguf(gguf, path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.config, config_from_gguf(gguf, checkpoint.vocab, path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.generation_config, generation_config_from_gguf(gguf, path));
  for (const GgufTensor& tensor : gguf.tensors) {
    GANTRY_RETURN_IF_ERROR(
        add_tensor(tensor, file->bytes().data() + tensor.offset, path, checkpoint.weights));
    if (checkpoint.weights.size() > limits::kGgufTensorsMax) {
      return resource_exhausted(
          fmt::format("{}: has more than {} tensors and experts", path, limits::kGgufTensorsMax));
    }
  }
  checkpoint.files.push_back(std::move(file));
  return checkpoint;
}

}  // namespace gantry
