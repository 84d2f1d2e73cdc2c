// Which tenant is served next: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996, section 2) with tokens
// of service for packets. A tenant that has been idle starts where the others are, without credit for its rest.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace gantry {

// A generated token costs as much as this many prompt tokens: it reads the weights and the KV cache for one row
// (Sheng et al., arXiv 2401.00588, section 4, take the same weights).
inline constexpr int64_t kOutputCost = 2;

// Tokens of service.
inline int64_t service_cost(int64_t prompt_tokens, int64_t output_tokens) {
  return prompt_tokens + kOutputCost * output_tokens;
}

// How many tokens outputs have had lately: max_tokens says what they may have.
class OutputEstimate {
 public:
  void ended(int64_t output_tokens);
  int64_t expected(int64_t max_tokens) const;

 private:
  static constexpr double kWeight = 1.0 / 16;
  double mean_ = -1;
};

class FairShare {
 public:
  // The start tag of the tenant's next request: who has the lowest is served first.
  int64_t arrive(const std::string& tenant, int64_t cost);
  // A request with this tag begins to be served.
  void take_up(int64_t start_tag);
  // The request has ended: its tenant is charged what it took instead of what was expected.
  void leave(const std::string& tenant, int64_t expected, int64_t actual);
  size_t tenants() const { return tenants_.size(); }

 private:
  // Tenants without open requests are remembered while they owe, up to this many.
  static constexpr size_t kIdleTenantsMax = 4096;
  struct Tenant {
    int64_t finish = 0;  // tag of its last request's end
    int64_t open = 0;
  };
  void forget_idle();

  std::unordered_map<std::string, Tenant> tenants_;
  size_t open_tenants_ = 0;
  int64_t virtual_time_ = 0;
};

}  // namespace gantry
