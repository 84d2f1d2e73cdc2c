// What the first prompt id tells testing/fake_worker.cc to do.
#pragma once

#include "base/ids.h"

namespace gantry::fake_worker {

inline constexpr int64_t kVocab = 100;
inline constexpr TokenId kAbort = 50;     // dies
inline constexpr TokenId kStop = 51;      // stops, as by SIGSTOP
inline constexpr TokenId kBadToken = 52;  // sends a token outside of the vocabulary
inline constexpr TokenId kSlowStep = 53;  // says that its step has been running for an hour
inline constexpr TokenId kRefuse = 54;
inline constexpr TokenId kNoEnd = 55;   // sends the tokens and leaves the choice open
inline constexpr TokenId kSilent = 56;  // says nothing more, not even that it lives

}  // namespace gantry::fake_worker
