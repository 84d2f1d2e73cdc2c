#include "sched/sequence.h"

#include <algorithm>

namespace gantry {
namespace {

bool contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

int32_t Sequence::rows_left(bool lookahead) const {
  if (sampling == 0) return length() - planned;
  // The token being sampled follows all that is planned; a second one may not be awaited.
  return lookahead && sampling == 1 && planned < positions_max() ? 1 : 0;
}

Sequence::Verdict Sequence::accept(TokenId token) {
  const SamplingParams& params = spec().params;
  const auto count = static_cast<int32_t>(generated.size());
  if (count >= params.min_tokens) {
    const bool ends = contains(params.stop_token_ids, token) ||
                      (!params.ignore_eos && contains(params.eos_token_ids, token));
    if (ends) return {FinishReason::kStop, false};
  }
  generated.push_back(token);
  return {count + 1 >= params.max_tokens ? FinishReason::kLength : FinishReason::kNone, true};
}

}  // namespace gantry
