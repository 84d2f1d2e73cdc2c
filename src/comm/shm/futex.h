// Waiting on a word of shared memory (futex(2), not FUTEX_PRIVATE: the waiters are processes).
#pragma once

#include <atomic>
#include <cstdint>

namespace gantry::shm {

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);

// Returns when woken, when the word is no longer `expected`, after timeout_ns, or for no reason.
void futex_wait(const Word& word, uint32_t expected, int64_t timeout_ns);
void futex_wake_all(const Word& word);

}  // namespace gantry::shm
