// A Hugging Face checkpoint folder: config.json, generation_config.json, the tokenizer's files, safetensors.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "base/limits.h"
#include "formats/checkpoint.h"
#include "formats/quote_name.h"
#include "formats/safetensors.h"
#include "formats/strict_json.h"
#include "text/tokenizer_json.h"

namespace gantry {
namespace {

using nlohmann::json;

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

std::string join(const std::string& folder, std::string_view name) {
  return folder + (folder.ends_with('/') ? "" : "/") + std::string(name);
}

Result<json> read_object_or(const std::string& path, json otherwise) {
  if (!path_exists(path)) return otherwise;
  return read_json_object(path);
}

Status add_shard(const std::string& path, Checkpoint& checkpoint) {
  GANTRY_ASSIGN_OR_RETURN(std::shared_ptr<const RegularFile> file, open_weight_file(path));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::byte> first, file->head(kSafetensorsLengthBytes));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::byte> head,
                          file->head(safetensors_head_bytes(first, file->size())));
  GANTRY_ASSIGN_OR_RETURN(std::vector<SafetensorsTensor> tensors,
                          parse_safetensors(head, file->size(), path));
  const auto index = static_cast<int32_t>(checkpoint.files.size());
  for (SafetensorsTensor& tensor : tensors) {
    checkpoint.weights.push_back(
        {std::move(tensor.name), {nullptr, tensor.dtype, tensor.shape}, path, index, tensor.offset});
  }
  checkpoint.files.push_back(std::move(file));
  return Status();
}

// Shards lie beside their index: a name that leads elsewhere is refused, a symbolic link is the user's own
// doing.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

// Tensor name → shard name, as the index says.
Result<std::map<std::string, std::string>> read_weight_map(const std::string& index_path) {
  GANTRY_ASSIGN_OR_RETURN(const json index, read_json_object(index_path));
  const auto entries = index.find("weight_map");
  if (entries == index.end() || !entries->is_object()) {
    return data_loss(index_path + ": has no object weight_map");
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, shard] : entries->items()) {
    if (!shard.is_string() || !is_plain_file_name(shard.get_ref<const std::string&>())) {
      return data_loss(
          fmt::format("{}: tensor {}: its shard {} is not the plain name of a file beside the index",
                      index_path, quote_name(tensor), quote_name(shard.dump(-1, ' ', true))));
    }
    weight_map.emplace(tensor, shard.get<std::string>());
  }
  return weight_map;
}

Status add_indexed_shards(const std::string& folder, Checkpoint& checkpoint) {
  const std::string index_path = join(folder, kIndexFile);
  GANTRY_ASSIGN_OR_RETURN(const auto weight_map, read_weight_map(index_path));
  std::set<std::string_view> shards;
  for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  if (shards.size() > limits::kWeightShardsMax) {
    return resource_exhausted(fmt::format("{}: names {} shards; at most {} are read", index_path,
                                          shards.size(), limits::kWeightShardsMax));
  }
  for (const std::string_view shard : shards) {
    const std::string path = join(folder, shard);
    if (!path_exists(path)) {
      return not_found(fmt::format("{}: missing; {} names it (is the download complete?)", path, kIndexFile));
    }
    const size_t first = checkpoint.weights.size();
    GANTRY_RETURN_IF_ERROR(add_shard(path, checkpoint));
    for (size_t i = first; i < checkpoint.weights.size(); ++i) {
      const std::string& tensor = checkpoint.weights[i].name;
      const auto entry = weight_map.find(tensor);
      if (entry == weight_map.end()) {
        return data_loss(fmt::format("{}: tensor {} is not in {}", path, quote_name(tensor), kIndexFile));
      }
      if (entry->second != shard) {
        return data_loss(fmt::format("{}: tensor {} is here, but {} places it in {}", path,
                                     quote_name(tensor), kIndexFile, quote_name(entry->second)));
      }
    }
  }
  std::set<std::string_view> present;
  for (const WeightInfo& info : checkpoint.weights) present.insert(info.name);
  for (const auto& [tensor, shard] : weight_map) {
    if (!present.contains(tensor)) {
      return data_loss(fmt::format("{}: tensor {} is not in the file, but {} places it there",
                                   join(folder, shard), quote_name(tensor), kIndexFile));
    }
  }
  return Status();
}

Status add_weights(const std::string& folder, Checkpoint& checkpoint) {
  if (path_exists(join(folder, kSingleFile))) return add_shard(join(folder, kSingleFile), checkpoint);
  if (path_exists(join(folder, kIndexFile))) return add_indexed_shards(folder, checkpoint);
  return not_found(fmt::format("{}: has neither {} nor {}{}", folder, kSingleFile, kIndexFile,
                               path_exists(join(folder, "pytorch_model.bin")) ||
                                       path_exists(join(folder, "pytorch_model.bin.index.json"))
                                   ? "; pytorch_model.bin is not read: convert it to safetensors"
                                   : ""));
}

// Added tokens may lie behind those of the vocabulary.
size_t token_count(const VocabSpec& vocab) {
  size_t count = vocab.tokens.size();
  for (const AddedToken& token : vocab.added) count = std::max(count, static_cast<size_t>(token.id) + 1);
  return count;
}

// eos_token_id is a number or a list of numbers.
Status add_eos(const json& config, const std::string& file, VocabSpec& vocab) {
  const auto found = config.find("eos_token_id");
  if (found == config.end() || found->is_null()) return Status();
  const json ids = found->is_array() ? *found : json::array({*found});
  const size_t count = token_count(vocab);
  for (const json& id : ids) {
    if (!id.is_number_integer() || id < 0 || id >= count) {
      return data_loss(fmt::format("{}: eos_token_id {} is not the id of one of the tokenizer's {} tokens",
                                   file, id.dump(-1, ' ', true), count));
    }
    const auto token = id.get<TokenId>();
    if (std::find(vocab.eos.begin(), vocab.eos.end(), token) == vocab.eos.end()) vocab.eos.push_back(token);
  }
  return Status();
}

Status add_vocab(const std::string& folder, Checkpoint& checkpoint) {
  const std::string tokenizer_path = join(folder, "tokenizer.json");
  if (!path_exists(tokenizer_path)) return Status();
  GANTRY_ASSIGN_OR_RETURN(const json tokenizer, read_json_object(tokenizer_path));
  GANTRY_ASSIGN_OR_RETURN(const json tokenizer_config,
                          read_object_or(join(folder, "tokenizer_config.json"), nullptr));
  Result<VocabSpec> vocab = vocab_from_tokenizer_json(tokenizer, tokenizer_config);
  if (!vocab.ok()) return vocab.status().with_context(folder);
  const std::string template_path = join(folder, "chat_template.jinja");
  if (path_exists(template_path)) {
    GANTRY_ASSIGN_OR_RETURN(vocab->chat_template, read_file(template_path, limits::kTemplateBytesMax));
  }
  GANTRY_RETURN_IF_ERROR(add_eos(checkpoint.config, join(folder, "config.json"), *vocab));
  GANTRY_RETURN_IF_ERROR(
      add_eos(checkpoint.generation_config, join(folder, "generation_config.json"), *vocab));
  checkpoint.vocab = std::move(*vocab);
  return Status();
}

}  // namespace

Result<Checkpoint> read_folder_without_weights(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  const std::string config_path = join(path, "config.json");
  if (!path_exists(config_path)) {
    return not_found(
        path + ": has no config.json; a model is a folder with config.json and safetensors, or a .gguf file");
  }
  GANTRY_ASSIGN_OR_RETURN(checkpoint.config, read_json_object(config_path));
  GANTRY_ASSIGN_OR_RETURN(checkpoint.generation_config,
                          read_object_or(join(path, "generation_config.json"), json::object()));
  GANTRY_RETURN_IF_ERROR(add_vocab(path, checkpoint));
  return checkpoint;
}

Result<Checkpoint> read_checkpoint_folder(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(Checkpoint checkpoint, read_folder_without_weights(path));
  GANTRY_RETURN_IF_ERROR(add_weights(path, checkpoint));
  return checkpoint;
}

}  // namespace gantry
