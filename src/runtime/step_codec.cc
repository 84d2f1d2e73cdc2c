#include "runtime/step_codec.h"

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "protocol/replica_codec.h"
#include "runtime/byte_codec.h"

namespace gantry {
namespace {

template <typename Codec, typename T>
void start_fields(Codec& c, T& start) {
  c(start.sequence);
  c(start.slot);
  c(start.choice);
  if constexpr (Codec::kReads) {
    std::string bytes;
    c(bytes);
    Result<GenerateRequest> request = decode_request(bytes);
    // A start without a request is refused below.
    if (request.ok()) start.request = std::make_shared<const GenerateRequest>(std::move(*request));
  } else {
    c(encode_request(*start.request));
  }
  numbers(c, start.generated);
}

template <typename Codec, typename T>
void rows_fields(Codec& c, T& rows) {
  c(rows.sequence);
  c(rows.slot);
  c(rows.first_row);
  c(rows.rows);
  c(rows.first_position);
  c(rows.awaits);
  c(rows.first_block);
  c(rows.new_blocks);
  c(rows.table_index);
  c(rows.sampled);
  c(rows.reserved);
  c(rows.score_first);
  c(rows.scores);
}

template <typename Codec, typename T>
void body_fields(Codec& c, T& plan) {
  c(plan.ticket);
  c.list(plan.sequences, [](Codec& codec, auto& rows) { rows_fields(codec, rows); });
  numbers(c, plan.ids);
  numbers(c, plan.blocks);
  c(plan.logit_rows);
}

template <typename Codec, typename T>
void starts_fields(Codec& c, T& starts) {
  c.list(starts, [](Codec& codec, auto& start) { start_fields(codec, start); });
}

template <typename Codec, typename T>
void token_fields(Codec& c, T& token) {
  c(token.id);
  c(token.logprob);
  c(token.first_top);
  c(token.tops);
}

template <typename Codec, typename T>
void result_fields(Codec& c, T& result) {
  c(result.ticket);
  c.list(result.sequences, [](Codec& codec, auto& sequence) {
    codec(sequence.sequence);
    codec(sequence.error);
    codec(sequence.first_token);
    codec(sequence.accepted);
    codec(sequence.first_score);
    codec(sequence.scores);
    codec(sequence.score_position);
    codec(sequence.first_draft);
    codec(sequence.drafts);
  });
  const auto tokens = [](Codec& codec, auto& token) { token_fields(codec, token); };
  c.list(result.tokens, tokens);
  c.list(result.scores, tokens);
  c.list(result.top, [](Codec& codec, auto& top) {
    codec(top.id);
    codec(top.logprob);
  });
  numbers(c, result.drafts);
}

// [first, first + count) lies in [0, size).
bool within(int64_t first, int64_t count, int64_t size) {
  return first >= 0 && count >= 0 && first + count <= size;
}

bool rows_fit(const PlanRows& rows, const StepPlan& plan, int64_t next_row, const PlanLimits& limits) {
  const int64_t table = (int64_t{limits.context} + limits::kKvBlockTokens - 1) / limits::kKvBlockTokens;
  return within(rows.slot, 1, limits.slots) && rows.rows > 0 && rows.first_row == next_row &&
         within(rows.first_row, rows.rows, static_cast<int64_t>(plan.ids.size())) &&
         within(rows.first_position, rows.rows, limits.context) && rows.awaits.value == 0 &&
         within(rows.first_block, rows.new_blocks, static_cast<int64_t>(plan.blocks.size())) &&
         within(rows.table_index, rows.new_blocks, table) && within(0, rows.sampled, rows.rows) &&
         rows.sampled <= 1 + limits.drafts && within(0, rows.reserved, limits.context) &&
         within(rows.score_first, rows.scores, rows.rows) &&
         within(0, int64_t{rows.scores} + rows.sampled, limits.logit_rows);
}

const char* misfit(const StepPlan& plan, const PlanLimits& limits) {
  if (plan.ids.size() > static_cast<size_t>(limits.rows)) return "rows";
  if (plan.sequences.size() > static_cast<size_t>(limits.slots)) return "sequences";
  int64_t next_row = 0, logit_rows = 0;
  for (const PlanRows& rows : plan.sequences) {
    if (!rows_fit(rows, plan, next_row, limits)) return "rows of a sequence";
    next_row += rows.rows;
    logit_rows += rows.sampled + rows.scores;
  }
  if (next_row != static_cast<int64_t>(plan.ids.size())) return "rows";
  if (logit_rows > limits.logit_rows || logit_rows != plan.logit_rows) return "rows of logits";
  const auto is_token = [&](TokenId id) { return id >= 0 && id < limits.vocab; };
  if (!std::all_of(plan.ids.begin(), plan.ids.end(), is_token)) return "token ids";
  for (const BlockId block : plan.blocks) {
    if (block.value < 0 || block.value >= limits.kv_blocks) return "blocks";
  }
  if (plan.starts.size() > static_cast<size_t>(limits.slots)) return "starts";
  for (const SequenceStart& start : plan.starts) {
    if (start.request == nullptr) return "requests";
    const GenerateRequest& request = *start.request;
    if (!within(start.slot, 1, limits.slots) || start.choice < 0 || start.choice >= limits::kChoicesMax)
      return "starts";
    if (!validate(request.params, limits.vocab).ok()) return "sampling parameters";
    if (!std::all_of(request.prompt.begin(), request.prompt.end(), is_token) ||
        !std::all_of(start.generated.begin(), start.generated.end(), is_token)) {
      return "token ids of a start";
    }
  }
  return nullptr;
}

}  // namespace

std::string encode_plan(const StepPlan& plan, bool with_starts) {
  ByteWriter writer;
  body_fields(writer, plan);
  static const std::vector<SequenceStart> kNone;
  starts_fields(writer, with_starts ? plan.starts : kNone);
  return writer.take();
}

Result<StepPlan> decode_plan(std::string_view bytes, const PlanLimits& limits) {
  ByteReader reader(bytes);
  StepPlan plan;
  body_fields(reader, plan);
  starts_fields(reader, plan.starts);
  if (!reader.done()) return data_loss("a step plan is cut short or goes on after its end");
  if (const char* what = misfit(plan, limits)) {
    return data_loss(std::string("a step plan is not for this rank: ") + what);
  }
  return plan;
}

std::string encode_result(const StepResult& result) {
  ByteWriter writer;
  result_fields(writer, result);
  return writer.take();
}

Result<StepResult> decode_result(std::string_view bytes) {
  ByteReader reader(bytes);
  StepResult result;
  result_fields(reader, result);
  if (!reader.done()) return data_loss("a step result is cut short or goes on after its end");
  const auto tops_fit = [&](const SampledToken& token) {
    return within(token.first_top, token.tops, static_cast<int64_t>(result.top.size()));
  };
  bool fits = std::all_of(result.tokens.begin(), result.tokens.end(), tops_fit) &&
              std::all_of(result.scores.begin(), result.scores.end(), tops_fit);
  for (const SequenceResult& sequence : result.sequences) {
    fits = fits && sequence.error <= SampleError::kNothingLeft &&
           within(sequence.first_token, sequence.accepted, static_cast<int64_t>(result.tokens.size())) &&
           within(sequence.first_score, sequence.scores, static_cast<int64_t>(result.scores.size())) &&
           within(sequence.first_draft, sequence.drafts, static_cast<int64_t>(result.drafts.size()));
  }
  if (!fits) return data_loss("a step result refers to what it does not hold");
  return result;
}

}  // namespace gantry
