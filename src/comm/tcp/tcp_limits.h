// Limits of connections between hosts.
#pragma once

#include <chrono>
#include <cstddef>

namespace gantry::limits {

inline constexpr size_t kRecordBytesMax = 64u << 10;  // of plain data
inline constexpr size_t kSecretBytesMin = 16;
inline constexpr size_t kSecretBytesMax = 4096;
// Connections whose peer has not proven yet that it knows the secret: the oldest makes room for another.
inline constexpr size_t kHandshakesMax = 32;
inline constexpr std::chrono::milliseconds kHandshakeMax{5000};
inline constexpr size_t kAbortReasonBytesMax = 200;

}  // namespace gantry::limits
