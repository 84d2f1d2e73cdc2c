// draw() by the book: every row sorted, in double precision. The oracle of the backends that draw; steps that are
// launched have run when launch() returns.
#pragma once

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "kernels/ops/backend.h"

namespace gantry::reference {

class DrawState final : public BackendState {
 public:
  explicit DrawState(const ScratchSpec& spec);

  void begin(const StepInputs& inputs) { rows_ = inputs.draws; }
  // Where a head without a place of the caller's leaves its logits.
  float* logits() { return logits_.data(); }
  int32_t id(int32_t given) const {
    return given >= 0 ? given : slots_[static_cast<size_t>(-1 - given)].last;
  }
  void start(const SlotStart& start);
  void draw(const DrawArgs& args);
  void launch();
  std::span<const Drawn> collect();

 private:
  struct Slot {
    int32_t last = 0;
    std::vector<std::pair<int32_t, float>> biases;
    std::vector<int32_t> end_tokens;
    struct Seen {
      int32_t generated = 0;
    };
    std::map<int32_t, Seen> seen;  // by token
  };
  Drawn draw_row(const DrawRow& row, std::span<const float> raw);

  std::vector<Slot> slots_;
  std::vector<float> logits_;
  std::span<const DrawRow> rows_;
  std::vector<Drawn> drawn_;  // of the step
  std::deque<std::vector<Drawn>> launched_;
  std::vector<Drawn> collected_;
};

Result<std::unique_ptr<BackendState>> create_state(const ScratchSpec& spec);
bool begin_step(const OpContext& context, const StepInputs& inputs);
Status finish(const OpContext& context);
void draw(const OpContext& context, const DrawArgs& args);
Status launch(const OpContext& context);
Result<std::span<const Drawn>> collect(const OpContext& context);
void start_slot(const OpContext& context, const SlotStart& start);

// Null where the context has no state.
DrawState* draw_state(const OpContext& context);

}  // namespace gantry::reference
