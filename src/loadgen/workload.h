// What is asked: random prompts of given lengths, or the prompts of a file. The i-th request is a pure function
// of the options and i.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

namespace gantry::loadgen {

inline constexpr size_t kDatasetBytesMax = 1u << 30;
inline constexpr int32_t kPromptTokensMax = 1 << 22;

struct WorkloadItem {
  // A string, an array of token ids, or (messages) an array of chat messages.
  nlohmann::ordered_json prompt;
  bool messages = false;
  int32_t output_tokens = 0;
};

class Workload {
 public:
  virtual ~Workload() = default;
  virtual WorkloadItem item(int64_t index) const = 0;
  // Requests in one pass; 0: no end.
  virtual int64_t size() const = 0;
};

enum class PromptForm { kIds, kText };

struct RandomLengths {
  uint64_t seed = 0;
  int32_t input_tokens = 1024;
  int32_t output_tokens = 128;
  double range_ratio = 0;     // lengths are uniform in [(1 - r) n, (1 + r) n]
  int32_t prefix_tokens = 0;  // before them, the same in every prompt
  TokenId token_first = 256;  // ids are drawn from [token_first, token_end)
  TokenId token_end = 1024;
  PromptForm form =
      PromptForm::kIds;  // as text: one common English word per token, which most vocabularies have
};
// kInvalidArgument names the flag of `gantry bench`.
Result<std::unique_ptr<Workload>> make_random_workload(const RandomLengths& lengths);

// A file of JSON lines, {"prompt": text or ids} or {"messages": [...]} with an optional "output_tokens" each; or one
// JSON array in ShareGPT's form, [{"conversations": [{"value": question}, {"value": answer}, ...]}, ...], whose
// answers' words count as output tokens. Without its own length a request has `output_tokens`.
Result<std::unique_ptr<Workload>> read_dataset(const std::string& path, int32_t output_tokens);

}  // namespace gantry::loadgen
