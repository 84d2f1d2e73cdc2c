// A device for tests: runs plans exactly as ranks must, on a "model" whose next token is a hash of everything
// that attention would read through the block tables. Any block that is lost, shared by mistake or written
// too early changes the tokens, and a draft module's entry or a block's tail that is not of the text is told.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "base/limits.h"
#include "cache/block_table.h"
#include "sched/step_plan.h"

namespace gantry {

struct SimulatedModel {
  int32_t vocab = 48;

  static uint64_t mix(uint64_t h) {  // splitmix64's finaliser
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
  }
  static uint64_t cell(int32_t position, TokenId token) {
    return mix((static_cast<uint64_t>(position) << 32) + static_cast<uint64_t>(token) + 1);
  }
  // The token after the cells whose fold is `state`.
  TokenId next(uint64_t state, uint64_t seed, int32_t choice) const {
    return static_cast<TokenId>(mix(state ^ mix(seed + static_cast<uint64_t>(choice))) %
                                static_cast<uint64_t>(vocab));
  }
  static uint64_t fold(uint64_t state, uint64_t cell) { return mix(state * 31 + cell); }

  // What a choice generates when nothing ends it early.
  std::vector<TokenId> stream(const GenerateRequest& request, int32_t choice, int32_t count) const {
    uint64_t state = 0;
    int32_t position = 0;
    for (const TokenId id : request.prompt) state = fold(state, cell(position++, id));
    std::vector<TokenId> out;
    for (int32_t i = 0; i < count; ++i) {
      out.push_back(next(state, request.params.seed, choice));
      state = fold(state, cell(position++, out.back()));
    }
    return out;
  }
};

class SimulatedDevice {
 public:
  SimulatedDevice(int32_t blocks, int32_t slots, int32_t blocks_per_slot, int32_t drafts, uint64_t seed)
      : cells_(static_cast<size_t>(blocks) * limits::kKvBlockTokens),
        writers_(cells_.size()),
        entries_(cells_.size()),
        tails_(static_cast<size_t>(blocks)),
        tables_(slots, blocks_per_slot),
        slots_(static_cast<size_t>(slots)),
        drafts_(drafts),
        random_(seed) {}

  // Empty while all is well; else the first thing that no correct plan leads to.
  const std::string& error() const { return error_; }
  const int32_t* table(int32_t slot) const { return tables_.row(slot); }

  void submit(const StepPlan& plan) {
    for (const SequenceStart& start : plan.starts) {
      Slot& slot = slots_[static_cast<size_t>(start.slot)];
      slot = {};
      slot.sequence = start.sequence;
      slot.request = start.request;
      slot.choice = start.choice;
    }
    Flight& flight = flights_.emplace_back();
    flight.result.ticket = plan.ticket;
    for (const PlanRows& rows : plan.sequences) run(plan, rows, flight);
  }

  void collect(StepResult& result) {
    // Stages and ranks write as late as this: nobody else may have used the places in the meantime.
    for (const Written& written : flights_.front().written) {
      if (writers_[written.place] != written.sequence)
        fail("a block was used again while a ticket wrote to it");
    }
    result = std::move(flights_.front().result);
    flights_.pop_front();
  }

 private:
  struct Slot {
    SeqId sequence;
    std::shared_ptr<const GenerateRequest> request;
    int32_t choice = 0;
    std::vector<TokenId> next;  // the token sampled last, and the drafts after it
    Ticket sampled_by;
    int32_t rejected = 0;  // by that ticket
    int32_t entered = -1;  // positions whose entry holds good; -1: as many as were cached
  };
  struct Written {
    size_t place;
    SeqId sequence;
  };
  struct Flight {
    StepResult result;
    std::vector<Written> written;
  };

  void fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }
  size_t place(int32_t slot, int32_t position) const {
    const int32_t block = tables_.row(slot)[position / limits::kKvBlockTokens];
    return static_cast<size_t>(block) * limits::kKvBlockTokens +
           static_cast<size_t>(position % limits::kKvBlockTokens);
  }

  void run(const StepPlan& plan, const PlanRows& rows, Flight& flight) {
    Slot& slot = slots_[static_cast<size_t>(rows.slot)];
    if (slot.sequence != rows.sequence) fail("rows of a sequence that did not start on this slot");
    const auto first_block = plan.blocks.begin() + rows.first_block;
    tables_.set(rows.slot, rows.table_index, std::span(first_block, first_block + rows.new_blocks));

    std::vector<TokenId> ids(plan.ids.begin() + rows.first_row,
                             plan.ids.begin() + rows.first_row + rows.rows);
    int32_t first = rows.first_position;
    if (rows.awaits.value != 0) {
      if (slot.sampled_by != rows.awaits) fail("rows await a ticket that did not sample this sequence last");
      first -= slot.rejected;
    }
    for (int32_t i = 0; i < rows.rows; ++i) {
      TokenId& id = ids[static_cast<size_t>(i)];
      if (id == kTokenOnDevice) id = slot.next[static_cast<size_t>(i)];
      const size_t at = place(rows.slot, first + i);
      cells_[at] = SimulatedModel::cell(first + i, id);
      writers_[at] = rows.sequence;
      flight.written.push_back({at, rows.sequence});
    }
    if (rows.sampled + rows.scores > 0) give_result(rows, ids, first, slot, flight);
    if (drafts_ > 0) enter(rows, first, slot, flight);
  }

  void give_result(const PlanRows& rows, const std::vector<TokenId>& ids, int32_t first, Slot& slot,
                   Flight& flight) {
    SequenceResult& out = flight.result.sequences.emplace_back();
    out.sequence = rows.sequence;
    out.scores = rows.scores;
    out.first_score = static_cast<int32_t>(flight.result.scores.size());
    out.score_position = first + rows.score_first + 1;
    for (int32_t i = 0; i < rows.scores; ++i) {
      const int32_t position = out.score_position + i;
      const TokenId id = slot.request->prompt[static_cast<size_t>(position)];
      flight.result.scores.push_back({id, static_cast<float>(position), 0, 0});
    }
    if (rows.sampled > 0) sample(rows, ids, first, slot, out, flight);
  }

  void sample(const PlanRows& rows, const std::vector<TokenId>& ids, int32_t first, Slot& slot,
              SequenceResult& out, Flight& flight) {
    const GenerateRequest& request = *slot.request;
    const int32_t begin = first + rows.rows - rows.sampled;
    uint64_t state = 0;
    for (int32_t p = 0; p < begin; ++p) state = SimulatedModel::fold(state, cells_[place(rows.slot, p)]);
    out.first_token = static_cast<int32_t>(flight.result.tokens.size());
    TokenId token = -1;
    for (int32_t i = 0; i < rows.sampled; ++i) {
      state = SimulatedModel::fold(state, cells_[place(rows.slot, begin + i)]);
      token = model_.next(state, request.params.seed, slot.choice);
      flight.result.tokens.push_back({token, 0, 0, 0});
      ++out.accepted;
      const size_t draft = static_cast<size_t>(rows.rows - rows.sampled + i + 1);
      if (draft < ids.size() && ids[draft] != token) break;
    }
    slot.rejected = rows.sampled - out.accepted;
    slot.sampled_by = flight.result.ticket;
    // Drafts are right more often than not.
    slot.next.assign(1, token);
    for (int32_t i = 0, p = begin + out.accepted; i < drafts_; ++i, ++p) {
      state = SimulatedModel::fold(state, SimulatedModel::cell(p, slot.next.back()));
      const TokenId right = model_.next(state, request.params.seed, slot.choice);
      slot.next.push_back(random_() % 3 == 0 ? (right + 1) % model_.vocab : right);
    }
  }

  // The draft module's cache, as runtime/drafter keeps it. An entry is the fold of all cells up to it.
  void enter(const PlanRows& rows, int32_t first, Slot& slot, Flight& flight) {
    if (slot.entered < 0) slot.entered = first;
    if (slot.entered < first) fail("a gap in the draft module's cache");
    const int32_t end = first + rows.rows - (rows.sampled > 0 ? slot.rejected : 0);
    uint64_t state = 0;
    for (int32_t p = 0; p < end; ++p) {
      if (p > 0 && p == first && p == slot.entered && tail(rows.slot, p - 1) != state) {
        fail("a block's tail is of another text");
      }
      const size_t at = place(rows.slot, p);
      state = SimulatedModel::fold(state, cells_[at]);
      if (p >= slot.entered) entries_[at] = state;
      if (entries_[at] != state) fail("the draft module's cache is of another text");
      if (p >= first && (p + 1 == end || (p + 1) % limits::kKvBlockTokens == 0)) tail(rows.slot, p) = state;
    }
    slot.entered = std::max(slot.entered, end);
    if (rows.sampled == 0) return;
    // The new token's, and those of its drafts, which later rows write again.
    if (end < rows.reserved) slot.entered = end + 1;
    for (int32_t p = end; p < std::min(rows.reserved, end + drafts_); ++p) {
      state = SimulatedModel::fold(state, SimulatedModel::cell(p, slot.next[static_cast<size_t>(p - end)]));
      const size_t at = place(rows.slot, p);
      entries_[at] = state;
      writers_[at] = rows.sequence;
      flight.written.push_back({at, rows.sequence});
    }
  }
  uint64_t& tail(int32_t slot, int32_t position) {
    return tails_[static_cast<size_t>(tables_.row(slot)[position / limits::kKvBlockTokens])];
  }

  SimulatedModel model_;
  std::vector<uint64_t> cells_;    // [blocks, kKvBlockTokens]
  std::vector<SeqId> writers_;     // the same, who wrote it last
  std::vector<uint64_t> entries_;  // the same, of the draft module
  std::vector<uint64_t> tails_;    // [blocks] the state at the last position that was computed
  BlockTables tables_;
  std::vector<Slot> slots_;
  int32_t drafts_;
  std::mt19937_64 random_;
  std::deque<Flight> flights_;
  std::string error_;
};

}  // namespace gantry
