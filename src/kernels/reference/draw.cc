#include "kernels/reference/draw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace gantry::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kNotFinite = 1, kNothingLeft = 2;  // SampleError

// Ids, best first.
std::vector<int32_t> ranked(std::span<const float> logits) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return ids;
}

int32_t by_inversion(std::span<const float> logits, const DrawRow& row) {
  const std::vector<int32_t> order = ranked(logits);
  const auto weight = [&](int32_t id) {
    const double below = static_cast<double>(logits[static_cast<size_t>(id)]) -
                         static_cast<double>(logits[static_cast<size_t>(order[0])]);
    return std::exp(below * static_cast<double>(row.inverse_temperature));
  };
  size_t keep = order.size();
  if (row.top_k > 0) keep = std::min(keep, static_cast<size_t>(row.top_k));
  double mass = 0;
  for (size_t i = 0; i < keep; ++i) mass += weight(order[i]);
  if (row.top_p < 1) {
    const double wanted = static_cast<double>(row.top_p) * mass;
    double held = 0;
    size_t count = 0;
    while (count < keep && (count == 0 || held < wanted)) held += weight(order[count++]);
    keep = count;
  }
  while (keep > 1 && weight(order[keep - 1]) < static_cast<double>(row.min_p)) --keep;
  std::vector<int32_t> kept(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep));
  std::sort(kept.begin(), kept.end());
  double left = 0;
  for (const int32_t id : kept) left += weight(id);
  left *= row.uniform;
  int32_t chosen = order[0];
  for (const int32_t id : kept) {
    if (weight(id) <= 0) continue;
    chosen = id;
    if (left < weight(id)) break;
    left -= weight(id);
  }
  return chosen;
}

}  // namespace

DrawState::DrawState(const ScratchSpec& spec)
    : slots_(static_cast<size_t>(spec.slots)),
      logits_(spec.slots > 0 ? static_cast<size_t>(spec.logit_rows_max * spec.vocab) : 0) {}

void DrawState::start(const SlotStart& start) {
  Slot& slot = slots_[static_cast<size_t>(start.slot)];
  slot = {.biases = {start.biases.begin(), start.biases.end()},
          .end_tokens = {start.end_tokens.begin(), start.end_tokens.end()},
          .seen = {}};
  if (!start.penalises) return;
  for (const int32_t id : start.prompt) slot.seen[id];
  for (const int32_t id : start.generated) ++slot.seen[id].generated;
}

Drawn DrawState::draw_row(const DrawRow& row, std::span<const float> raw) {
  Drawn drawn;
  drawn.token = row.score;
  const auto fail = [&](int32_t error) {
    drawn.error = error;
    if (row.score < 0) slots_[static_cast<size_t>(row.slot)].last = 0;
    return drawn;
  };
  float max = -kInfinity;
  for (const float x : raw) {
    if (!(x < kInfinity)) return fail(kNotFinite);
    max = std::max(max, x);
  }
  float logsumexp = 0;
  const bool wants_logprobs = row.score >= 0 || row.logprobs >= 0;
  if (wants_logprobs && max > -kInfinity) {
    double sum = 0;
    for (const float x : raw) sum += std::exp(static_cast<double>(x) - static_cast<double>(max));
    logsumexp = static_cast<float>(static_cast<double>(max) + std::log(sum));
    drawn.tops = static_cast<int32_t>(std::min(static_cast<size_t>(std::max(row.logprobs, 0)), raw.size()));
    if (drawn.tops > 0) {
      const std::vector<int32_t> order = ranked(raw);
      for (int32_t i = 0; i < drawn.tops; ++i) {
        const int32_t id = order[static_cast<size_t>(i)];
        drawn.top[i] = {id, raw[static_cast<size_t>(id)] - logsumexp};
      }
    }
  }
  if (row.score >= 0) {
    if (max == -kInfinity) return fail(kNothingLeft);
    drawn.logprob = raw[static_cast<size_t>(row.score)] - logsumexp;
    return drawn;
  }
  Slot& slot = slots_[static_cast<size_t>(row.slot)];
  std::vector<float> logits(raw.begin(), raw.end());
  if (row.bias != 0) {
    for (const auto& [id, bias] : slot.biases) logits[static_cast<size_t>(id)] += bias;
  }
  if (row.masks_ends != 0) {
    for (const int32_t id : slot.end_tokens) logits[static_cast<size_t>(id)] = -kInfinity;
  }
  if (row.penalises != 0) {
    for (const auto& [id, seen] : slot.seen) {
      float& x = logits[static_cast<size_t>(id)];
      x = std::min(x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty,
                   std::numeric_limits<float>::max());
      if (seen.generated == 0) continue;
      x -= row.frequency_penalty * static_cast<float>(seen.generated);
      x -= row.presence_penalty;
    }
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (*best == -kInfinity) return fail(kNothingLeft);
  drawn.token =
      row.inverse_temperature == 0 ? static_cast<int32_t>(best - logits.begin()) : by_inversion(logits, row);
  if (row.logprobs >= 0) drawn.logprob = raw[static_cast<size_t>(drawn.token)] - logsumexp;
  slot.last = drawn.token;
  if (row.penalises != 0) ++slot.seen[drawn.token].generated;
  return drawn;
}

void DrawState::draw(const DrawArgs& args) {
  GANTRY_CHECK(args.rows.size() == rows_.size());
  const float* logits = args.logits != nullptr ? args.logits : logits_.data();
  drawn_.clear();
  for (const DrawRow& row : args.rows) {
    drawn_.push_back(draw_row(row, {logits, static_cast<size_t>(args.vocab)}));
    logits += args.vocab;
  }
}

void DrawState::launch() {
  launched_.push_back(std::move(drawn_));
  drawn_.clear();
}

std::span<const Drawn> DrawState::collect() {
  GANTRY_CHECK(!launched_.empty()) << "no step was launched";
  collected_ = std::move(launched_.front());
  launched_.pop_front();
  return collected_;
}

DrawState* draw_state(const OpContext& context) { return static_cast<DrawState*>(context.state); }

Result<std::unique_ptr<BackendState>> create_state(const ScratchSpec& spec) {
  return std::unique_ptr<BackendState>(std::make_unique<DrawState>(spec));
}
bool begin_step(const OpContext& context, const StepInputs& inputs) {
  if (DrawState* state = draw_state(context)) state->begin(inputs);
  return false;
}
Status finish(const OpContext&) { return {}; }
void draw(const OpContext& context, const DrawArgs& args) { draw_state(context)->draw(args); }
Status launch(const OpContext& context) {
  draw_state(context)->launch();
  return {};
}
Result<std::span<const Drawn>> collect(const OpContext& context) { return draw_state(context)->collect(); }
void start_slot(const OpContext& context, const SlotStart& start) { draw_state(context)->start(start); }

}  // namespace gantry::reference
