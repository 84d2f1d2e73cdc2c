#include "runtime/drafter.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/limits.h"

namespace gantry {

Drafter::Drafter(Model& model, const KvStore& kv, Sampler& sampler, ThreadPool& pool,
                 const DrafterOptions& options)
    : model_(model),
      kv_(kv),
      sampler_(sampler),
      pool_(pool),
      drafts_(options.drafts),
      tensor_(options.tensor),
      width_(static_cast<size_t>(model.config().hidden)),
      vocab_(static_cast<size_t>(model.config().vocab)),
      entered_(static_cast<size_t>(options.slots), kUnknown) {
  const auto slots = static_cast<size_t>(options.slots);
  const size_t rows = static_cast<size_t>(options.rows_max) + slots;
  hidden_.resize(static_cast<size_t>(options.rows_max) * width_);
  before_.resize(rows * width_);
  ids_.reserve(rows);
  segments_.reserve(slots);
  logit_rows_.reserve(slots);
  drafting_.reserve(slots);
  if (tensor_ == nullptr || tensor_->rank() == 0) logits_.resize(slots * vocab_);
  states_.resize(slots * width_);
  drawn_.reserve(slots);
}

Status Drafter::run(std::span<const Rows> sequences) {
  GANTRY_RETURN_IF_ERROR(enter(sequences));
  for (int32_t place = 1; place < drafts_ && !drafting_.empty(); ++place) {
    GANTRY_RETURN_IF_ERROR(extend(place));
  }
  return {};
}

const float* Drafter::state_before(const Rows& rows, int32_t position) const {
  const Segment& segment = rows.segment;
  const int32_t before = std::max(position - 1, 0);
  if (before >= segment.first_position) {
    return hidden_.data() + static_cast<size_t>(segment.first_row + before - segment.first_position) * width_;
  }
  return kv_.tail(segment.block_table[before / limits::kKvBlockTokens]);
}

void Drafter::add_entry(const Rows& rows, int32_t position) {
  const Segment& segment = rows.segment;
  const int32_t row = position - segment.first_position;
  std::memcpy(before_.data() + ids_.size() * width_, state_before(rows, position), width_ * sizeof(float));
  ids_.push_back(row < segment.rows ? rows.ids[static_cast<size_t>(row)] : rows.next);
}

void Drafter::keep_tails(const Rows& rows) {
  const Segment& segment = rows.segment;
  for (int32_t i = 0; i < segment.rows; ++i) {
    const int32_t position = segment.first_position + i;
    if (i + 1 < segment.rows && (position + 1) % limits::kKvBlockTokens != 0) continue;
    std::memcpy(kv_.tail(segment.block_table[position / limits::kKvBlockTokens]),
                hidden_.data() + static_cast<size_t>(segment.first_row + i) * width_, width_ * sizeof(float));
  }
}

Status Drafter::enter(std::span<const Rows> sequences) {
  ids_.clear();
  segments_.clear();
  logit_rows_.clear();
  drafting_.clear();
  for (const Rows& rows : sequences) {
    const Segment& segment = rows.segment;
    int32_t& entered = entered_[static_cast<size_t>(rows.slot)];
    if (entered == kUnknown) entered = segment.first_position;
    GANTRY_CHECK(entered >= segment.first_position) << "a gap in the draft module's cache";
    const int32_t end = segment.first_position + segment.rows;
    const bool drafts = rows.next >= 0 && end < rows.reserved;
    const auto first_row = static_cast<int32_t>(ids_.size());
    const int32_t first = entered;
    for (; entered < end + (drafts ? 1 : 0); ++entered) add_entry(rows, entered);
    if (entered > first) segments_.push_back({first_row, entered - first, first, segment.block_table});
    if (drafts) {
      drafting_.push_back({&rows, static_cast<int32_t>(logit_rows_.size())});
      logit_rows_.push_back(static_cast<int32_t>(ids_.size()) - 1);
    }
  }
  // Its first entry may need the tail that a block has until now.
  for (const Rows& rows : sequences) keep_tails(rows);
  if (ids_.empty()) return {};
  GANTRY_RETURN_IF_ERROR(
      model_.draft({ids_, before_.data(), segments_, logit_rows_}, kv_, logits_.data(), states_.data()));
  return draw(0);
}

Status Drafter::extend(int32_t place) {
  ids_.clear();
  segments_.clear();
  logit_rows_.clear();
  size_t kept = 0;
  for (const Draft& draft : drafting_) {
    const Rows& rows = *draft.rows;
    const int32_t position = rows.segment.first_position + rows.segment.rows + place;
    if (position >= rows.reserved) continue;
    const auto row = static_cast<int32_t>(kept);
    std::memcpy(before_.data() + kept * width_,
                states_.data() + static_cast<size_t>(draft.logit_row) * width_, width_ * sizeof(float));
    ids_.push_back(rows.drafts[static_cast<size_t>(place - 1)]);
    segments_.push_back({row, 1, position, rows.segment.block_table});
    logit_rows_.push_back(row);
    drafting_[kept++] = {&rows, row};
  }
  drafting_.resize(kept);
  if (kept == 0) return {};
  GANTRY_RETURN_IF_ERROR(
      model_.draft({ids_, before_.data(), segments_, logit_rows_}, kv_, logits_.data(), states_.data()));
  return draw(place);
}

Status Drafter::draw(int32_t place) {
  drawn_.resize(drafting_.size());
  const auto draw_one = [&](size_t i, int thread) {
    const Draft& draft = drafting_[i];
    const Rows& rows = *draft.rows;
    const std::span<const float> logits(logits_.data() + static_cast<size_t>(draft.logit_row) * vocab_,
                                        vocab_);
    const int32_t position = rows.segment.first_position + rows.segment.rows + place + 1;
    drawn_[i] = sampler_.draft(logits, *rows.sampler, position, thread);
  };
  if (!logits_.empty()) {
    pool_.parallel_for(static_cast<int64_t>(drawn_.size()), 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) draw_one(static_cast<size_t>(i), thread);
    });
  }
  if (tensor_ != nullptr && !drawn_.empty()) {
    GANTRY_RETURN_IF_ERROR(tensor_->broadcast(std::as_writable_bytes(std::span(drawn_)), 0));
  }
  for (size_t i = 0; i < drawn_.size(); ++i) {
    drafting_[i].rows->drafts[static_cast<size_t>(place)] = drawn_[i];
  }
  return {};
}

}  // namespace gantry
