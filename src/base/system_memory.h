// How much memory this process may use, and how much it uses.
#pragma once

#include <cstdint>

namespace gantry {

// The machine's memory, or the limit of the process's cgroup (v2) where that is lower.
uint64_t usable_memory_bytes();

// Resident memory of this process: now, and the most since it started or since reset_peak_memory().
struct ResidentMemory {
  uint64_t now = 0;
  uint64_t peak = 0;
  uint64_t files = 0;  // of now: pages of files, the program's own code first of all
};
// Zeros where /proc is not there.
ResidentMemory resident_memory();
// False where the kernel does not allow it.
bool reset_peak_memory();

}  // namespace gantry
