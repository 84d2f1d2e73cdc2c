// Limits of what a replica and the front send each other.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gantry::limits {

inline constexpr size_t kReplicaFrameBytesMax = 128u << 20;  // a prompt's logprobs with 20 alternatives each
inline constexpr size_t kReplicaErrorBytesMax = 4096;        // of an error's text
inline constexpr size_t kReplicaNameBytesMax = 4096;         // of a model, tenant or salt
inline constexpr int kReplicaRanksMax = 1024;
inline constexpr int kReplicaStepEventsMax = 1 << 20;  // tokens of a step, prompts of a step
inline constexpr int kReplicaSignOfLifeMs = 100;       // between two of a worker's

}  // namespace gantry::limits
