// A .gguf file as a checkpoint.
#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"
#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/gguf_names.h"
#include "formats/gguf_vocab.h"
#include "formats/quote_name.h"

namespace gantry {
namespace {

Status add_tensor(const GgufTensor& tensor, const std::string& file, std::vector<WeightInfo>& weights) {
  const HfName target = hf_name_from_gguf(tensor.name);
  if (!target.stacked_experts) {
    weights.push_back({target.name, {nullptr, tensor.dtype, tensor.shape}, file, 0, tensor.offset});
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
  uint64_t offset = tensor.offset;
  for (int64_t expert = 0; expert < experts; ++expert) {
    const TensorView view{nullptr, tensor.dtype, shape};
    weights.push_back(
        {fmt::format("{}{}{}", target.name, expert, target.after_expert), view, file, 0, offset});
    offset += view.bytes();
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

// A GGUF file does not say how long its head is: what is too short is read again, longer.
struct Head {
  std::vector<std::byte> bytes;
  GgufFile gguf;  // refers to them
};

Result<Head> read_head(const RegularFile& file) {
  constexpr uint64_t kFirst = 4ull << 20, kFactor = 8;
  for (uint64_t bytes_max = kFirst;; bytes_max = std::min(bytes_max * kFactor, kGgufHeadBytesMax)) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::byte> bytes, file.head(bytes_max));
    Result<GgufFile> gguf = parse_gguf(bytes, file.size(), file.path());
    if (gguf.ok()) return Head{std::move(bytes), std::move(*gguf)};
    const bool may_be_cut = gguf.status().code() == StatusCode::kDataLoss;
    if (!may_be_cut || bytes.size() == file.size() || bytes_max == kGgufHeadBytesMax) return gguf.status();
  }
}

}  // namespace

Result<Checkpoint> read_gguf(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<const RegularFile> file, open_weight_file(path));
  GANTRY_ASSIGN_OR_RETURN(const Head head, read_head(*file));
  const GgufFile& gguf = head.gguf;
  GANTRY_RETURN_IF_ERROR(refuse_split(gguf, path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.vocab, vocab_from_gguf(gguf, path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.config, config_from_gguf(gguf, checkpoint.vocab, path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.generation_config, generation_config_from_gguf(gguf, path));
  for (const GgufTensor& tensor : gguf.tensors) {
    GANTRY_RETURN_IF_ERROR(add_tensor(tensor, path, checkpoint.weights));
    if (checkpoint.weights.size() > limits::kGgufTensorsMax) {
      return resource_exhausted(
          fmt::format("{}: has more than {} tensors and experts", path, limits::kGgufTensorsMax));
    }
  }
  checkpoint.files.push_back(std::move(file));
  return checkpoint;
}

}  // namespace gantry
