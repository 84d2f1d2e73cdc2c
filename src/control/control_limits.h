// Limits of control/: streams that wait, and workers that come and go.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gantry::limits {

inline constexpr size_t kWorkerOutboxBytesMax = 512u << 20;  // that a worker has not read
inline constexpr int kWorkerExitSecondsMax = 3;              // from the front's goodbye to SIGKILL
inline constexpr int64_t kWorkerDeathMsMax = 200;            // that are waited to say how it ended
inline constexpr int kRestartFirstWaitMs = 100;  // before the second start in a row, then twice as long
inline constexpr int kRestartWaitMsMax = 5000;
inline constexpr int kRestartTriesMax = 3;  // of a restart that was asked for, until it counts as failed

// What a request that is running when its worker dies is blamed for, while no token of it comes in between: a crash
// counts more than SIGKILL, which is nearly always sent by somebody else. Two crashes and it is tried alone, the third
// ends it.
inline constexpr int kBlameForCrash = 4;
inline constexpr int kBlameForKill = 1;
inline constexpr int kBlameForTrial = 8;
inline constexpr int kBlameMax = 11;  // with more the request is given up

}  // namespace gantry::limits
