#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace gantry {
namespace {

// [R, hidden], all ranks of a stage have the same.
std::span<float> rows_of(const Step& step) {
  return {step.buffers->x, static_cast<size_t>(step.rows * step.hidden)};
}

}  // namespace

Status Decoder::load_ends(Loader& loader, int32_t rope_dim) {
  GANTRY_ASSIGN_OR_RETURN(vocabulary_, load_vocabulary(loader, shard_));
  // llama.cpp stores Llama 3's scaling as one divisor per pair instead of configuration keys.
  std::span<const float> factors;
  if (loader.has("rope_freqs.weight")) {
    GANTRY_ASSIGN_OR_RETURN(factors, loader.vector_f32("rope_freqs.weight", rope_dim / 2));
    for (const float factor : factors) {
      if (!(factor > 0))
        return data_loss(
            fmt::format("{}: tensor rope_freqs.weight holds {}: want above 0", loader.path(), factor));
    }
  }
  rope_ = Rope(config_.rope, rope_dim, factors);
  return {};
}

Status Decoder::load_buffers(Loader& loader, std::initializer_list<ActivationWidths> layer_widths) {
  GANTRY_RETURN_IF_ERROR(loader.finish());
  if (options_.drafts && options_.backend->memory != nullptr) {
    return unimplemented("drafts are not supported on a GPU: num_speculative_tokens must be 0",
                         "num_speculative_tokens");
  }
  ActivationWidths widths{.hidden = config_.hidden, .rope_pairs = rope_.pairs()};
  if (options_.ranks.tensor != nullptr) {
    widths.part = config_.hidden;
    if (shard_.last_stage) widths.logits = shard_.vocab_rows;
  }
  for (const ActivationWidths& layer : layer_widths) widths.widen(layer);
  ScratchSpec scratch{.rows_max = options_.rows_max,
                      .width_max = loader.width_max(),
                      .hidden = config_.hidden,
                      .heads = shard_.widths.heads,
                      .head_dim_max = config_.head_dim,
                      .context_max = options_.context_max,
                      .threads = options_.pool->size(),
                      .logit_rows_max = options_.logit_rows_max,
                      .vocab = config_.vocab,
                      .rope_pairs_max = rope_.pairs(),
                      .slots = options_.slots};
  if (config_.mla) {
    scratch.head_dim_max =
        std::max(config_.head_dim, config_.mla->kv_lora_rank + config_.mla->qk_rope_head_dim);
  }
  if (config_.moe) {
    scratch.experts = config_.moe->experts;
    scratch.experts_per_token = config_.moe->experts_per_token;
    scratch.expert_width = shard_.widths.moe->intermediate;
  }
  GANTRY_ASSIGN_OR_RETURN(
      activations_,
      Activations::allocate(widths, options_.rows_max, options_.logit_rows_max,
                            options_.backend->scratch_bytes(scratch), options_.backend->memory));
  if (!options_.sizes_only && options_.backend->memory == nullptr) activations_.populate();
  if (options_.backend->create_state != nullptr) {
    GANTRY_ASSIGN_OR_RETURN(state_, options_.backend->create_state(scratch));
  }
  weight_bytes_ = loader.packed_bytes();
  return {};
}

OpContext Decoder::context() const {
  return {.backend = options_.backend,
          .pool = options_.pool,
          .scratch = activations_.scratch,
          .state = state_.get()};
}

Step Decoder::begin(std::span<const Segment> segments, size_t rows, size_t logit_rows) {
  GANTRY_CHECK(rows <= static_cast<size_t>(options_.rows_max)) << rows << " rows of " << options_.rows_max;
  GANTRY_CHECK(logit_rows <= static_cast<size_t>(options_.logit_rows_max))
      << logit_rows << " rows of logits of " << options_.logit_rows_max;
  size_t covered = 0;
  for (const Segment& segment : segments) {
    GANTRY_CHECK(segment.rows > 0 && segment.first_position >= 0 &&
                 int64_t{segment.first_position} + segment.rows <= options_.context_max)
        << "rows at " << segment.first_position << " + " << segment.rows << " of " << options_.context_max;
    covered += static_cast<size_t>(segment.rows);
  }
  GANTRY_CHECK(covered == rows) << covered << " rows in segments, " << rows << " ids";
  return {.context = context(),
          .buffers = &activations_,
          .rows = static_cast<int64_t>(rows),
          .hidden = config_.hidden,
          .tensor = options_.ranks.tensor,
          .segments = segments,
          .rope = rope_.rows(segments, activations_.cos, activations_.sin)};
}

Status Decoder::start(const Step& step, const ForwardBatch& batch) const {
  if (shard_.first_stage) return embed(step, vocabulary_, batch.ids);
  const RankGroups& ranks = options_.ranks;
  return ranks.all->receive(std::as_writable_bytes(rows_of(step)), ranks.rank - ranks.sizes.tensor);
}

Status Decoder::end(const Step& step, const ForwardBatch& batch, float* logits) const {
  if (!shard_.last_stage) {
    const RankGroups& ranks = options_.ranks;
    return ranks.all->send(std::as_bytes(rows_of(step)), ranks.rank + ranks.sizes.tensor);
  }
  if (batch.hidden != nullptr) {
    ops::norm(step.context, {.x = step.buffers->x,
                             .rows = step.rows,
                             .width = config_.hidden,
                             .norm = vocabulary_.norm,
                             .out = batch.hidden,
                             .out_stride = config_.hidden});
  }
  return head(step, vocabulary_, batch.logit_rows, logits);
}

Status Decoder::enter(const Step& step, const ForwardBatch& batch, const KvStore& kv, float* logits) {
  const bool decodes = std::all_of(batch.segments.begin(), batch.segments.end(),
                                   [](const Segment& segment) { return segment.rows == 1; });
  const StepInputs inputs{.ids = batch.ids,
                          .segments = batch.segments,
                          .logit_rows = batch.logit_rows,
                          .rope = step.rope,
                          .logits = logits,
                          .draws = batch.draws,
                          .recordable = decodes && batch.logit_rows.size() == batch.ids.size(),
                          .cache = kv.id()};
  if (ops::begin_step(step.context, inputs)) return {};
  GANTRY_RETURN_IF_ERROR(run(step, batch, kv, logits));
  if (!batch.draws.empty()) ops::draw(step.context, {.vocab = config_.vocab, .rows = batch.draws});
  return {};
}

Status Decoder::forward(const ForwardBatch& batch, const KvStore& kv, float* logits) {
  const Step step = begin(batch.segments, batch.ids.size(), batch.logit_rows.size());
  GANTRY_RETURN_IF_ERROR(enter(step, batch, kv, logits));
  ops::finish(step.context);
  return {};
}

Status Decoder::launch(const ForwardBatch& batch, const KvStore& kv) {
  GANTRY_CHECK(options_.slots > 0 && batch.draws.size() == batch.logit_rows.size())
      << batch.draws.size() << " draws of " << batch.logit_rows.size() << " rows of logits";
  const Step step = begin(batch.segments, batch.ids.size(), batch.logit_rows.size());
  GANTRY_RETURN_IF_ERROR(enter(step, batch, kv, nullptr));
  ops::launch(step.context);
  return {};
}

}  // namespace gantry
