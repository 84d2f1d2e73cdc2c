#include "sched/fair_share.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gantry {

void OutputEstimate::ended(int64_t output_tokens) {
  const auto tokens = static_cast<double>(output_tokens);
  mean_ = mean_ < 0 ? tokens : mean_ + kWeight * (tokens - mean_);
}

int64_t OutputEstimate::expected(int64_t max_tokens) const {
  return mean_ < 0 ? max_tokens : std::min(max_tokens, static_cast<int64_t>(std::ceil(mean_)));
}

int64_t FairShare::arrive(const std::string& tenant, int64_t cost) {
  Tenant& t = tenants_[tenant];
  if (t.open++ == 0) ++open_tenants_;
  const int64_t start = std::max(virtual_time_, t.finish);
  t.finish = start + cost;
  return start;
}

void FairShare::take_up(int64_t start_tag) { virtual_time_ = std::max(virtual_time_, start_tag); }

void FairShare::leave(const std::string& tenant, int64_t expected, int64_t actual) {
  const auto it = tenants_.find(tenant);
  GANTRY_CHECK(it != tenants_.end() && it->second.open > 0) << "a request of a tenant that has none leaves";
  it->second.finish += actual - expected;
  if (--it->second.open > 0) return;
  --open_tenants_;
  if (it->second.finish <= virtual_time_) {
    tenants_.erase(it);
  } else if (tenants_.size() - open_tenants_ > kIdleTenantsMax) {
    forget_idle();
  }
}

void FairShare::forget_idle() {
  std::erase_if(tenants_, [](const auto& entry) { return entry.second.open == 0; });
}

}  // namespace gantry
