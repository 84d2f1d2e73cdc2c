#include "model/layers/mtp.h"

#include <fmt/format.h>

#include <algorithm>

namespace gantry {

Result<Mtp> load_mtp(Loader& loader, const Shard& shard, const std::string& prefix) {
  const ModelConfig& config = shard.widths;
  if (!loader.has(prefix + "eh_proj.weight")) {
    return invalid_argument(fmt::format("{}: the checkpoint has no multi-token prediction layer ({}*): "
                                        "num_speculative_tokens must be 0",
                                        loader.path(), prefix),
                            "num_speculative_tokens");
  }
  const int64_t hidden = config.hidden;
  Mtp layer;
  GANTRY_ASSIGN_OR_RETURN(layer.embedding_norm, loader.norm(prefix + "enorm.weight", hidden, config.rms_eps));
  GANTRY_ASSIGN_OR_RETURN(layer.hidden_norm, loader.norm(prefix + "hnorm.weight", hidden, config.rms_eps));
  const LinearPart project[] = {{prefix + "eh_proj", hidden}};
  GANTRY_ASSIGN_OR_RETURN(layer.project, loader.linear(project, 2 * hidden));
  GANTRY_ASSIGN_OR_RETURN(layer.attention, load_mla(loader, config, prefix));
  GANTRY_ASSIGN_OR_RETURN(layer.experts, load_moe(loader, shard, prefix));
  layer.vocabulary.begin = shard.vocab_begin;
  layer.vocabulary.size = config.vocab;
  GANTRY_ASSIGN_OR_RETURN(layer.vocabulary.table,
                          loader.matrix(prefix + "embed_tokens.weight", shard.vocab_rows, hidden));
  GANTRY_ASSIGN_OR_RETURN(layer.vocabulary.norm,
                          loader.norm(prefix + "shared_head.norm.weight", hidden, config.rms_eps));
  GANTRY_ASSIGN_OR_RETURN(layer.vocabulary.head,
                          loader.head({prefix + "shared_head.head", shard.vocab_rows}, hidden));
  return layer;
}

ActivationWidths mtp_widths(const ModelConfig& config) { return {.workspace = 2 * int64_t{config.hidden}}; }

Status mtp(const Step& step, const Mtp& layer, const KvView& kv, const MtpArgs& args) {
  const Activations& buffers = *step.buffers;
  const int64_t hidden = layer.experts.hidden;
  GANTRY_RETURN_IF_ERROR(embed(step, layer.vocabulary, args.ids));
  for (const Segment& segment : step.segments) {
    if (segment.first_position == 0) std::fill_n(buffers.x + segment.first_row * hidden, hidden, 0.0f);
  }
  float* input = buffers.workspace;  // [R, 2 hidden]
  ops::norm(step.context, {.x = buffers.x,
                           .rows = step.rows,
                           .width = hidden,
                           .norm = layer.embedding_norm,
                           .out = input,
                           .out_stride = 2 * hidden});
  ops::norm(step.context, {.x = args.hidden,
                           .rows = step.rows,
                           .width = hidden,
                           .norm = layer.hidden_norm,
                           .out = input + hidden,
                           .out_stride = 2 * hidden});
  ops::norm_linear(step.context,
                   {.x = input, .rows = step.rows, .norm = {}, .weight = &layer.project, .out = buffers.x});
  GANTRY_RETURN_IF_ERROR(mla(step, layer.attention, kv));
  GANTRY_RETURN_IF_ERROR(moe(step, layer.experts));
  ops::norm(step.context, {.x = buffers.x,
                           .rows = static_cast<int64_t>(args.rows.size()),
                           .width = hidden,
                           .index = args.rows.data(),
                           .norm = layer.vocabulary.norm,
                           .out = args.out,
                           .out_stride = hidden});
  return head(step, layer.vocabulary, args.rows, args.logits);
}

}  // namespace gantry
