#include "model/layers/vocabulary.h"

#include <algorithm>
#include <cstring>

namespace gantry {
namespace {

// This rank's share of each row of logits into [M, vocab], without padding.
void place_share(const float* share, int64_t begin, int64_t width, const Vocabulary& vocabulary, size_t rows,
                 float* logits) {
  const int64_t used = std::clamp<int64_t>(vocabulary.size - begin, 0, width);
  if (used == 0) return;
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(logits + static_cast<int64_t>(row) * vocabulary.size + begin,
                share + static_cast<int64_t>(row) * width, static_cast<size_t>(used) * sizeof(float));
  }
}

}  // namespace

Result<Vocabulary> load_vocabulary(Loader& loader, const Shard& shard) {
  const ModelConfig& config = shard.widths;
  Vocabulary vocabulary{.begin = shard.vocab_begin, .size = config.vocab};
  if (shard.first_stage) {
    GANTRY_ASSIGN_OR_RETURN(vocabulary.table,
                            loader.table("model.embed_tokens.weight", shard.vocab_rows, config.hidden));
  }
  // Some files carry a copy of the tied table under the head's name; transformers does not read it either.
  if (config.tied_embeddings) loader.ignore("lm_head.weight");
  if (!shard.last_stage) return vocabulary;
  GANTRY_ASSIGN_OR_RETURN(vocabulary.norm, loader.norm("model.norm.weight", config.hidden, config.rms_eps));
  const LinearPart part{config.tied_embeddings ? "model.embed_tokens" : "lm_head", shard.vocab_rows};
  GANTRY_ASSIGN_OR_RETURN(vocabulary.head, loader.head(part, config.hidden));
  return vocabulary;
}

Status embed(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> ids) {
  float* x = step.buffers->x;
  if (step.tensor == nullptr) {
    ops::embed(step.context, {.ids = ids, .table = vocabulary.table, .out = x});
    return {};
  }
  // Every token's row is added to zeros of the other ranks.
  const int64_t rows = vocabulary.table.shape[0];
  const auto is_own = [&](int32_t id) { return id >= vocabulary.begin && id < vocabulary.begin + rows; };
  std::vector<int32_t>& own_ids = step.buffers->own_ids;
  own_ids.clear();
  for (const int32_t id : ids) {
    own_ids.push_back(is_own(id) ? id - static_cast<int32_t>(vocabulary.begin) : 0);
  }
  ops::embed(step.context, {.ids = own_ids, .table = vocabulary.table, .out = x});
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!is_own(ids[i])) std::fill_n(x + static_cast<int64_t>(i) * step.hidden, step.hidden, 0.0f);
  }
  return step.tensor->all_reduce_sum({x, static_cast<size_t>(step.rows * step.hidden)});
}

Status head(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> rows, float* logits) {
  float* share = step.tensor == nullptr ? logits : step.buffers->logits;
  ops::head(step.context, {.x = step.buffers->x,
                           .rows = rows,
                           .norm = vocabulary.norm,
                           .weight = &vocabulary.head,
                           .workspace = step.buffers->head_input,
                           .out = share});
  if (step.tensor == nullptr || rows.empty()) return {};
  const int64_t width = vocabulary.head.rows;
  const std::span<float> values(share, rows.size() * static_cast<size_t>(width));
  if (step.tensor->rank() != 0) return step.tensor->send(std::as_bytes(values), 0);
  place_share(share, 0, width, vocabulary, rows.size(), logits);
  for (int rank = 1; rank < step.tensor->size(); ++rank) {
    GANTRY_RETURN_IF_ERROR(step.tensor->receive(std::as_writable_bytes(values), rank));
    place_share(share, rank * width, width, vocabulary, rows.size(), logits);
  }
  return {};
}

}  // namespace gantry
