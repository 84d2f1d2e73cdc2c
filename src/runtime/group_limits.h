// Waits among the ranks of a replica.
#pragma once

#include <chrono>

namespace gantry::limits {

// Within a step: a peer may compute that long before it comes. One that has ended is seen at once.
inline constexpr std::chrono::seconds kRankWaitMax{300};
// Between two looks of rank 0 at the others, and how many a live process may let pass. Counted in looks, so that time in
// which rank 0 itself did not run is no sign of another's death. A process that waits for a core may be silent for long;
// one that a signal has stopped is given less.
inline constexpr std::chrono::milliseconds kRankTick{100};
inline constexpr int kRankSilentTicksMax = 30;
inline constexpr int kRankStoppedTicksMax = 4;
inline constexpr int kRankStartTicksMax = 600;  // before its first message
// What a rank says of another counts after this, if nothing has been seen to end.
inline constexpr std::chrono::milliseconds kRankSuspicion{500};
// For a follower to end by itself.
inline constexpr std::chrono::milliseconds kRankExitMax{2000};

}  // namespace gantry::limits
