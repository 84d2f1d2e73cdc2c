// Invariant 5 through the whole engine, on a small random Llama and every backend: the same request gives the same
// tokens and logprobs, bit for bit, alone or with others, however its prompt is cut, cached or not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "base/log.h"
#include "engine/testing/random_llama.h"
#include "engine/testing/served.h"

namespace gantry {
namespace {

constexpr int32_t kVocab = RandomLlama::kVocab;

uint64_t cache_bytes(const Backend& backend, uint64_t blocks) {
  return blocks * KvStore::block_bytes(backend, std::vector(2, KvLayout{DType::kF16, 2, 12, 12}));
}

TEST(Determinism, TheSameBitsWhateverElseRunsOnEveryBackend) {
  const RandomLlama source;
  std::mt19937_64 random(3);
  std::vector<GenerateRequest> requests;
  for (uint64_t id = 1; id <= 16; ++id) requests.push_back(random_request(id, kVocab, random));
  for (const Backend* backend : every_backend()) {
    SCOPED_TRACE(backend->name);
    Served alone(source, backend, {.one_by_one = true}, requests);
    EXPECT_EQ(alone.stats.preemptions, 0);
    for (const Conditions& conditions :
         {Conditions{.batched_tokens = 2048, .prefix_caching = true, .threads = 2},
          Conditions{.batched_tokens = 33, .prefix_caching = true},
          Conditions{.batched_tokens = 96,
                     .prefix_caching = true,
                     .kv_cache_bytes = cache_bytes(*backend, 9),
                     .threads = 2}}) {
      SCOPED_TRACE(conditions.batched_tokens);
      Served together(source, backend, conditions, requests);
      EXPECT_GT(together.stats.prefix_hits, 0);
      expect_same_answers(alone.collector, together.collector, requests);
    }
  }
}

// GANTRY_DETERMINISM_REQUESTS=500 (`make determinism`) asks so many, and takes every limit of a chunk from one row to more
// than the longest prompt; otherwise a few of both.
TEST(Determinism, TheSameBitsUnderLoadForEveryChunkSize) {
  constexpr int32_t kLongestPrompt = 300;
  const char* asked = std::getenv("GANTRY_DETERMINISM_REQUESTS");
  const uint64_t count = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 32;
  const int32_t stride = asked != nullptr ? 1 : 27;
  init_log("warning");  // one line for each of hundreds of replicas says nothing
  const RandomLlama source;
  const Backend* backend = cpu_backend("auto").value();
  const std::vector<GenerateRequest> requests = random_requests(count, kVocab, 9);
  Served alone(source, backend, {.one_by_one = true}, requests);
  EXPECT_EQ(alone.stats.preemptions, 0);

  ReplicaStats sum;
  const auto compare = [&](const Conditions& conditions, const std::vector<GenerateRequest>& some) {
    Served together(source, backend, conditions, some);
    expect_same_answers(alone.collector, together.collector, some);
    sum.generated_tokens += together.stats.generated_tokens;
    sum.preemptions += together.stats.preemptions;
    sum.prefix_hits += together.stats.prefix_hits;
  };
  const uint64_t tiny_cache = cache_bytes(*backend, 8);
  compare({.prefix_caching = true, .kv_cache_bytes = tiny_cache, .threads = 2}, requests);
  compare({.batched_tokens = 2048, .prefix_caching = true, .threads = 2}, requests);
  size_t next = 0;
  int32_t sizes = 0;
  for (int32_t chunk = 1; chunk <= kLongestPrompt + 2; chunk += stride, ++sizes) {
    SCOPED_TRACE(chunk);
    std::vector<GenerateRequest> some;
    for (int i = 0; i < 16; ++i, ++next) some.push_back(requests[next % requests.size()]);
    // By turns the whole step's limit, and that of prompts beside decodes.
    Conditions conditions{.prefix_caching = true, .kv_cache_bytes = tiny_cache};
    (chunk % 2 == 0 ? conditions.batched_tokens : conditions.max_prefill_beside_decodes) = chunk;
    compare(conditions, some);
  }
  EXPECT_GT(sum.preemptions, 0);
  EXPECT_GT(sum.prefix_hits, 0);
  std::printf(
      "%zu requests, %lld tokens alone; together %lld tokens under %d chunk limits, %lld preemptions, %lld "
      "prompt tokens "
      "from the cache: the same bits\n",
      requests.size(), static_cast<long long>(alone.stats.generated_tokens),
      static_cast<long long>(sum.generated_tokens), sizes, static_cast<long long>(sum.preemptions),
      static_cast<long long>(sum.prefix_hits));
}

}  // namespace
}  // namespace gantry
