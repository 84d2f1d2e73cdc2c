// Every limit of Gantry by name. A queue, buffer, body, recursion or wait without a limit here is a defect.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gantry::limits {

// formats/
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100ull << 20;
inline constexpr uint64_t kSafetensorsTensorsMax = 1u << 20;
inline constexpr size_t kWeightShardsMax = 4096;
inline constexpr uint64_t kWeightReadAheadBytesMax = 4ull
                                                     << 30;  // a larger file is not read ahead on opening
inline constexpr size_t kTensorNameBytesMax = 1024;
inline constexpr uint64_t kGgufMetadataEntriesMax = 1u << 16;
inline constexpr uint64_t kGgufTensorsMax = 1u << 20;
inline constexpr uint64_t kGgufStringBytesMax = 64ull << 20;
inline constexpr uint64_t kGgufArrayElementsMax = 16ull << 20;
inline constexpr int kGgufArrayDepthMax = 4;
inline constexpr uint64_t kGgufAlignmentMax = 1ull << 20;
inline constexpr int kLayersMax = 4096;
inline constexpr int kTensorRankMax = 4;
inline constexpr uint64_t kJsonFileBytesMax = 256ull << 20;

// text/
inline constexpr size_t kVocabularyMax = 1u << 20;
inline constexpr size_t kTokenizeBytesMax = 16u << 20;
inline constexpr size_t kMergesMax = 1u << 22;
inline constexpr size_t kTokenBytesMax = 1024;  // of a token, ordinary or added

// chat/
inline constexpr size_t kTemplateBytesMax = 1u << 20;
inline constexpr int kTemplateDepthMax = 200;       // of the syntax tree, and of values
inline constexpr int kTemplateCallDepthMax = 1000;  // nodes under evaluation at once, macros included
inline constexpr uint64_t kTemplateFuelMax = 10'000'000;
inline constexpr size_t kTemplateOutputBytesMax = 32u << 20;

// cache/, sched/, engine/
inline constexpr int kKvBlockTokens = 64;
inline constexpr int kSequencesMax = 4096;
inline constexpr int kBatchedTokensMax = 1 << 20;
inline constexpr size_t kWaitingRequestsMax = 4096;

// kernels/
inline constexpr int kExpertsMax = 1024;

// model/: what a config.json may ask for
inline constexpr int kModelWidthMax = 1 << 20;  // hidden and intermediate sizes
inline constexpr int kModelHeadsMax = 4096;
inline constexpr int kModelHeadDimMax = 1 << 14;  // and MLA's ranks
inline constexpr int kModelPositionsMax = 1 << 28;
inline constexpr size_t kModelEosIdsMax = 1024;

// requests
inline constexpr int kChoicesMax = 128;
inline constexpr int kTopLogprobsMax = 20;
inline constexpr size_t kStopStringsMax = 16;
inline constexpr size_t kStopStringBytesMax = 1024;
inline constexpr size_t kStopTokenIdsMax = 128;
inline constexpr size_t kLogitBiasMax = 1024;
inline constexpr size_t kPromptsPerRequestMax = 128;
inline constexpr size_t kMessagesMax = 4096;

// server/
inline constexpr size_t kHttpHeaderBytesMax = 16u << 10;
inline constexpr size_t kHttpHeadersMax = 100;
inline constexpr size_t kHttpBodyBytesMax = 32u << 20;
inline constexpr size_t kHttpChunksMax = 65'536;
inline constexpr size_t kHttpReadAheadBytesMax = 16u << 10;  // of requests that wait behind the current one
inline constexpr size_t kHttpBodiesBytesMax = 512u << 20;    // being received on all connections together
inline constexpr int kHttpConnectionsMax = 16'384;
inline constexpr int kHttpHeaderSecondsMax = 10;
inline constexpr int kHttpBodySecondsMax = 60;
inline constexpr int kHttpBodyIdleSecondsMax = 10;  // without one byte of the body
inline constexpr int kHttpLingerSecondsMax =
    2;  // reading on after an early error, so that the client sees it
inline constexpr int kHttpIdleSecondsMax = 90;
inline constexpr int kHttpWriteSecondsMax = 30;
inline constexpr size_t kStreamBufferedBytesMax = 256u << 10;
inline constexpr int kStreamKeepAliveSeconds = 15;  // a comment line on a stream without tokens
inline constexpr size_t kRequestIdBytesMax = 128;
inline constexpr int kJsonDepthMax = 64;
inline constexpr size_t kJsonValuesMax = 4u << 20;
inline constexpr size_t kJsonContainersMax = 128u << 10;
inline constexpr size_t kJsonKeysMax = 64u << 10;         // of one object
inline constexpr size_t kWorkQueueMax = 1024;             // requests that wait to be parsed and tokenised
inline constexpr size_t kWorkQueueBytesMax = 256u << 20;  // of their bodies together
inline constexpr int64_t kGeneratedTokensMax = 1 << 20;   // prompts x n x max_tokens of one request
inline constexpr int64_t kLogprobEntriesMax = 4 << 20;    // the same x (1 + top_logprobs)
inline constexpr size_t kCacheSaltBytesMax = 256;
inline constexpr size_t kUserBytesMax = 1024;
inline constexpr int kReadyTokenSecondsMax = 5;  // a token this old still counts as "just now"
inline constexpr int kReadyProbeSecondsMax = 5;  // how long /ready waits for a token of its own request

}  // namespace gantry::limits
