#include "model/registry.h"

#include <fmt/format.h>

#include <string_view>

#include "base/check.h"

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

}  // namespace

void Model::draft(const DraftBatch&, const KvStore&, float*, float*) {
  GANTRY_CHECK(false) << config().architecture << " has no draft module";
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
    return entry.load(source, loaded, std::move(*config));
  }
  return internal_error("no loader for architecture " + config->architecture);
}

}  // namespace gantry
