#include "engine/kv_sizing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr int64_t kTokens = limits::kKvBlockTokens;

// The last token of a request is never fed back, so that it needs no place.
int64_t blocks_of(int64_t model_len) { return (model_len - 1 + kTokens - 1) / kTokens; }

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Bytes for the cache, and where they come from.
struct Budget {
  uint64_t bytes = 0;
  std::string origin;
};

Budget budget_of(const KvDemand& demand) {
  if (demand.kv_cache_bytes > 0) return {demand.kv_cache_bytes, {}};
  if (demand.memory_utilization <= 0) return {kDefaultKvCacheBytes, {}};
  const auto allowed =
      static_cast<uint64_t>(static_cast<double>(demand.memory_bytes) * demand.memory_utilization);
  const uint64_t left = allowed > demand.memory_used_bytes ? allowed - demand.memory_used_bytes : 0;
  return {left,
          fmt::format(" ({:.2f} of {:.0f} MiB of memory less {:.0f} MiB in use)", demand.memory_utilization,
                      mib(demand.memory_bytes), mib(demand.memory_used_bytes))};
}

// What is to be changed so that `needed` bytes of cache are there.
std::string remedy(const KvDemand& demand, uint64_t needed) {
  const bool by_share = demand.kv_cache_bytes == 0 && demand.memory_utilization > 0;
  if (!by_share) return fmt::format("{} bytes of KV cache are enough", needed);
  const double share =
      static_cast<double>(demand.memory_used_bytes + needed) / static_cast<double>(demand.memory_bytes);
  if (share > 1)
    return fmt::format("{:.0f} MiB of memory are enough", mib(demand.memory_used_bytes + needed));
  return fmt::format("gpu_memory_utilization {:.2f} is enough", std::ceil(share * 100) / 100);
}

}  // namespace

Result<KvSize> size_kv_cache(const KvDemand& demand) {
  if (demand.max_model_len < 0 || demand.max_model_len > demand.max_position || demand.max_model_len == 1) {
    return invalid_argument(fmt::format("max_model_len is {}, must be between 2 and the checkpoint's {}",
                                        demand.max_model_len, demand.max_position),
                            "max_model_len");
  }
  const int64_t wanted = demand.max_model_len > 0 ? demand.max_model_len : demand.max_position;
  int64_t affordable = 0;
  const int64_t useful =
      std::min<int64_t>(blocks_of(wanted) * demand.max_num_seqs, std::numeric_limits<int32_t>::max());
  const Budget budget = budget_of(demand);
  affordable = static_cast<int64_t>(
      std::min<uint64_t>(budget.bytes / demand.block_bytes, std::numeric_limits<int32_t>::max()));
  const int64_t blocks = std::min(useful, affordable);
  if (blocks >= blocks_of(wanted)) return KvSize{static_cast<int32_t>(blocks), static_cast<int32_t>(wanted)};
  const uint64_t needed = static_cast<uint64_t>(blocks_of(wanted)) * demand.block_bytes;
  if (blocks < 1 || demand.max_model_len > 0) {
    std::string message = fmt::format(
        "one request of max_model_len {} needs {:.1f} MiB of KV cache, there are {:.1f} MiB{}: ", wanted,
        mib(needed), mib(budget.bytes), budget.origin);
    if (blocks >= 1) message += fmt::format("max_model_len at most {} fits, or ", blocks * kTokens + 1);
    message += remedy(demand, needed);
    return Status(StatusCode::kResourceExhausted, std::move(message), "max_model_len");
  }
  return KvSize{static_cast<int32_t>(blocks), static_cast<int32_t>(blocks * kTokens + 1)};
}

}  // namespace gantry
