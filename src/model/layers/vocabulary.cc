#include "model/layers/vocabulary.h"

namespace gantry {

Result<Vocabulary> load_vocabulary(Loader& loader, const ModelConfig& config) {
  Vocabulary vocabulary;
  GANTRY_ASSIGN_OR_RETURN(vocabulary.table,
                          loader.table("model.embed_tokens.weight", config.vocab, config.hidden));
  GANTRY_ASSIGN_OR_RETURN(vocabulary.norm, loader.norm("model.norm.weight", config.hidden, config.rms_eps));
  const LinearPart part{config.tied_embeddings ? "model.embed_tokens" : "lm_head", config.vocab};
  GANTRY_ASSIGN_OR_RETURN(vocabulary.head, loader.head(part, config.hidden));
  // Some files carry a copy of the tied table under the head's name; transformers does not read it either.
  if (config.tied_embeddings) loader.ignore("lm_head.weight");
  return vocabulary;
}

void embed(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> ids) {
  ops::embed(step.context, {.ids = ids, .table = vocabulary.table, .out = step.buffers->x});
}

void head(const Step& step, const Vocabulary& vocabulary, std::span<const int32_t> rows, float* logits) {
  ops::head(step.context, {.x = step.buffers->x,
                           .rows = rows,
                           .norm = vocabulary.norm,
                           .weight = &vocabulary.head,
                           .workspace = step.buffers->head_input,
                           .out = logits});
}

}  // namespace gantry
