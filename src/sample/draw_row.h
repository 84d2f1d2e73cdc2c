// Requests in the types of a backend that draws (kernels/ops/draw.h).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops/draw.h"
#include "sample/sampler.h"

namespace gantry {

// The next token of a choice, at `position` in prompt and output.
DrawRow draw_row(const GenerateRequest& request, int32_t choice, int32_t slot, int32_t position);
// The log-probability of the prompt's token at `position`.
DrawRow score_row(const GenerateRequest& request, int32_t position);

// What a slot is started with. Refers to the request and to `generated`.
class SlotStartOf {
 public:
  SlotStartOf(const GenerateRequest& request, int32_t slot, std::span<const TokenId> generated,
              int64_t vocab);
  SlotStartOf(const SlotStartOf&) = delete;
  SlotStartOf& operator=(const SlotStartOf&) = delete;
  const SlotStart& start() const { return start_; }
  // Whether rows of the request use anything of it.
  bool needed() const { return needed_; }

 private:
  bool needed_;
  std::vector<TokenId> end_tokens_;
  SlotStart start_;
};

}  // namespace gantry
