#include "model/registry.h"

#include <fmt/format.h>

#include <string_view>

#include "base/check.h"
#include "model/checkpoint_tensors.h"
#include "model/sliced_source.h"

namespace gantry {
namespace {

struct Entry {
  std::string_view architecture;
  LoadFn load;
};

constexpr Entry kModels[] = {
    {"LlamaForCausalLM", load_dense_decoder},
    {"Qwen2ForCausalLM", load_dense_decoder},
    {"DeepseekV3ForCausalLM", load_deepseek_v3},
};

// Where the ops work in the host's memory a slice may cut a block of FP8 (sliced_source.h).
Result<ParallelLayout> layout_of(const WeightSource& source, const ModelConfig& config,
                                 const Backend& backend, const ParallelSizes& sizes) {
  QuantBlock block;
  if (sizes.ranks() > 1) {
    if (backend.memory != nullptr) {
      return unimplemented(
          "a model is split over ranks on CPUs alone: tensor_parallel_size and "
          "pipeline_parallel_size must be 1 on a GPU",
          sizes.tensor > 1 ? "tensor_parallel_size" : "pipeline_parallel_size");
    }
    block = quant_block_of(checkpoint_tensors(config, source), WeightFormat{});
  }
  return ParallelLayout::create(config, block, sizes);
}

}  // namespace

Status Model::draft(const DraftBatch&, const KvStore&, float*, float*) {
  GANTRY_CHECK(false) << config().architecture << " has no draft module";
  return {};
}

Status Model::launch(const ForwardBatch&, const KvStore&) {
  GANTRY_CHECK(false) << config().architecture << " draws no tokens";
  return {};
}
std::span<const Drawn> Model::collect() {
  GANTRY_CHECK(false) << config().architecture << " draws no tokens";
  return {};
}
void Model::start_slot(const SlotStart&) {
  GANTRY_CHECK(false) << config().architecture << " draws no tokens";
}

Status check_ranks(const WeightSource& source, const Backend& backend, const ParallelSizes& sizes) {
  Result<ModelConfig> config = parse_model_config(source.config(), source.generation_config());
  if (!config.ok()) return config.status().with_context(source.path());
  return layout_of(source, *config, backend, sizes).status();
}

Result<std::unique_ptr<Model>> load_model(const WeightSource& source, const LoadOptions& options) {
  GANTRY_CHECK(options.backend != nullptr && options.pool != nullptr);
  GANTRY_CHECK(options.rows_max > 0 && options.logit_rows_max > 0 && options.context_max > 0);
  Result<ModelConfig> config = parse_model_config(source.config(), source.generation_config());
  if (!config.ok()) return config.status().with_context(source.path());
  if (options.drafts && config->mtp_layers == 0) {
    return invalid_argument(
        fmt::format(
            "{}: the checkpoint has no multi-token prediction layer: num_speculative_tokens must be 0",
            source.path()),
        "num_speculative_tokens");
  }
  LoadOptions loaded = options;
  if (options.compute == Compute::kF8 && config->fp8 && config->fp8->power_of_two_scales) {
    loaded.compute = Compute::kF8PowerOfTwo;
  }
  for (const Entry& entry : kModels) {
    if (entry.architecture != config->architecture) continue;
    GANTRY_ASSIGN_OR_RETURN(const ParallelLayout layout,
                            layout_of(source, *config, *options.backend, options.ranks.sizes));
    Shard shard = make_shard(*config, layout, options.ranks);
    if (options.ranks.sizes.ranks() == 1) {
      return entry.load(source, loaded, std::move(*config), std::move(shard));
    }
    GANTRY_ASSIGN_OR_RETURN(const auto sliced,
                            slice_weights(source, *config, layout, layout.place(options.ranks.rank)));
    return entry.load(*sliced, loaded, std::move(*config), std::move(shard));
  }
  return internal_error("no loader for architecture " + config->architecture);
}

}  // namespace gantry
