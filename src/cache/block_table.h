// The KV blocks of every running sequence, as kernels read them: one row of ids per slot of the batch. Each
// rank keeps its own copy and applies what each plan adds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/ids.h"

namespace gantry {

class BlockTables {
 public:
  BlockTables(int32_t slots, int32_t blocks_per_slot)
      : stride_(static_cast<size_t>(blocks_per_slot)), ids_(static_cast<size_t>(slots) * stride_, -1) {}

  // Entries [first, first + blocks.size()) of the slot; block i holds positions [64 i, 64 i + 64).
  void set(int32_t slot, int32_t first, std::span<const BlockId> blocks) {
    GANTRY_CHECK(first >= 0 && static_cast<size_t>(first) + blocks.size() <= stride_);
    int32_t* row = ids_.data() + static_cast<size_t>(slot) * stride_ + first;
    std::transform(blocks.begin(), blocks.end(), row, [](BlockId block) { return block.value; });
  }
  // Stable while the tables live.
  const int32_t* row(int32_t slot) const { return ids_.data() + static_cast<size_t>(slot) * stride_; }

 private:
  size_t stride_;
  std::vector<int32_t> ids_;  // [slots, blocks_per_slot]
};

}  // namespace gantry
