// Waits among the ranks of a replica.
#pragma once

#include <chrono>
#include <cstddef>

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
// The same of another host's agent, and for the agent of rank 0; and between two bytes that either takes from the other.
inline constexpr int kHostSilentTicksMax = 9;
inline constexpr std::chrono::milliseconds kHostSendMax{1000};
inline constexpr size_t kHostNameBytesMax = 256;
// Between two attempts of an agent to reach rank 0, and for one of them.
inline constexpr std::chrono::milliseconds kAgentRetry{100};
inline constexpr std::chrono::milliseconds kAgentConnectMax{1000};
// That an agent lives on after rank 0 has said that it ends.
inline constexpr std::chrono::seconds kAgentGoodbye{10};
// For a follower to end by itself.
inline constexpr std::chrono::milliseconds kRankExitMax{2000};

}  // namespace gantry::limits
