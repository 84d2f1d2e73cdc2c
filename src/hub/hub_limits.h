// Limits of the hub client by name: what a server may send, and how long it is waited for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gantry::limits {

inline constexpr size_t kHubHeaderBytesMax = 64u << 10;  // of one answer, all headers together
inline constexpr size_t kHubHeadersMax = 200;
inline constexpr size_t kHubJsonBytesMax = 16u << 20;  // of one answer of the API
inline constexpr size_t kHubErrorBodyBytesMax = 64u << 10;
inline constexpr int kHubPagesMax = 200;         // of a file list; the hub sends up to 1000 files a page
inline constexpr size_t kHubFilesMax = 100'000;  // of a repository
inline constexpr uint64_t kHubFileBytesMax = 1ull << 44;
inline constexpr size_t kHubFileNameBytesMax = 1024;
inline constexpr size_t kHubPathPartBytesMax = 255;
inline constexpr size_t kHubRepoNameBytesMax = 96;  // organisation and name together, as the hub has it
inline constexpr size_t kHubRevisionBytesMax = 255;
inline constexpr size_t kHubTokenBytesMax = 4096;
inline constexpr size_t kHubUrlBytesMax = 16u << 10;
inline constexpr int kHubRedirectsMax = 10;
inline constexpr int kHubConnectionsMax = 64;
inline constexpr int kHubRetriesMax = 100;
inline constexpr int kHubConnectSeconds = 10;
inline constexpr int kHubStallSecondsMax = 3600;  // that HF_HUB_DOWNLOAD_TIMEOUT may ask for
inline constexpr int kHubRetryAfterSecondsMax = 600;
inline constexpr int kHubBackoffMillisecondsFirst = 250;
inline constexpr int kHubBackoffMillisecondsMax = 30'000;
inline constexpr uint64_t kHubChunkBytesMin = 8ull << 20;
inline constexpr uint64_t kHubChunkBytesMax = 128ull << 20;

}  // namespace gantry::limits
