// The replica from submit() to frames, over a model whose logits are a hash of all that attention would read.
#include "engine/local_replica.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "engine/testing/frame_collector.h"
#include "engine/testing/random_requests.h"
#include "sched/testing/simulated_device.h"

namespace gantry {
namespace {

constexpr int32_t kVocab = 97;
constexpr TokenId kPoison = 96;  // a row of this token has a NaN among its logits

class HashModel : public Model {
 public:
  // in_forward: called in each step.
  explicit HashModel(std::function<void()> in_forward = {})
      : in_forward_(std::move(in_forward)), cells_(size_t{1} << 16) {
    config_.vocab = kVocab;
    config_.max_position = 600;
  }
  const ModelConfig& config() const override { return config_; }
  std::vector<KvLayout> kv_layouts() const override { return {KvLayout{DType::kF32, 1, 4, 4}}; }
  uint64_t weight_bytes() const override { return 0; }

  Status forward(const ForwardBatch& batch, const KvStore&, float* logits) override {
    if (in_forward_) in_forward_();
    size_t next = 0;
    for (const Segment& segment : batch.segments) {
      for (int32_t i = 0; i < segment.rows; ++i) {
        const int32_t position = segment.first_position + i;
        const TokenId id = batch.ids[static_cast<size_t>(segment.first_row + i)];
        cell(segment, position) = SimulatedModel::cell(position, id);
        if (next == batch.logit_rows.size() || batch.logit_rows[next] != segment.first_row + i) continue;
        uint64_t state = 0;
        for (int32_t p = 0; p <= position; ++p) state = SimulatedModel::fold(state, cell(segment, p));
        float* row = logits + next++ * kVocab;
        for (int32_t v = 0; v < kVocab; ++v) {
          state = SimulatedModel::mix(state + static_cast<uint64_t>(v));
          row[v] = static_cast<float>(state % 6000) / 1000 - 3;
        }
        row[kPoison] = id == kPoison ? std::numeric_limits<float>::quiet_NaN() : -50.0f;
      }
    }
    EXPECT_EQ(next, batch.logit_rows.size());
    return {};
  }

 private:
  uint64_t& cell(const Segment& segment, int32_t position) {
    const int32_t block = segment.block_table[position / limits::kKvBlockTokens];
    return cells_[static_cast<size_t>(block * limits::kKvBlockTokens + position % limits::kKvBlockTokens)];
  }
  ModelConfig config_;
  std::function<void()> in_forward_;
  std::vector<uint64_t> cells_;
};

struct ReplicaSetup {
  int32_t batched_tokens = 256;
  bool prefix_caching = true;
  uint64_t kv_cache_bytes = 0;
  ThreadPool* pool = nullptr;  // or one of its own
  FairMutex* turn = nullptr;
  std::function<void()> in_forward = {};
};

struct Replica {
  explicit Replica(const ReplicaSetup& setup = {}) {
    ReplicaOptions options;
    options.model_id = "hash";
    options.backend = cpu_backend("reference").value();
    options.pool = setup.pool != nullptr ? setup.pool : &pool;
    options.pool_turn = setup.turn;
    options.max_num_seqs = 16;
    options.max_num_batched_tokens = setup.batched_tokens;
    options.prefix_caching = setup.prefix_caching;
    options.kv_cache_bytes = setup.kv_cache_bytes;
    client = start_local_replica(std::make_unique<HashModel>(setup.in_forward), options).value();
    client->set_sink(&collector);
  }
  ~Replica() { client->set_sink(nullptr); }
  void wait_until_empty() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    for (ReplicaStats s = client->stats(); s.kv_blocks_used + s.running + s.waiting != 0;
         s = client->stats()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::yield();
    }
  }

  ThreadPool pool{2};
  FrameCollector collector;
  std::unique_ptr<ReplicaClient> client;
};

// Invariant 5: alone, together, in any chunking, with or without the prefix cache, in a tiny cache: the same
// bits.
TEST(LocalReplica, ARequestGivesTheSameBitsWhateverElseRuns) {
  constexpr uint64_t kRequests = 60;
  std::mt19937_64 random(7);
  std::vector<GenerateRequest> requests;
  for (uint64_t id = 1; id <= kRequests; ++id) requests.push_back(random_request(id, kVocab - 1, random));

  Replica alone({.batched_tokens = 600, .prefix_caching = false});
  serve(*alone.client, alone.collector, requests, true);
  const uint64_t block = 2 * 4 * sizeof(float) * limits::kKvBlockTokens;
  for (const auto& [batched_tokens, kv_bytes] :
       {std::pair<int32_t, uint64_t>{7, 0}, {64, 12 * block}, {256, 0}, {2048, 9 * block}}) {
    Replica together({.batched_tokens = batched_tokens, .kv_cache_bytes = kv_bytes});
    serve(*together.client, together.collector, requests, false);
    expect_same_answers(alone.collector, together.collector, requests);
    EXPECT_GT(together.client->stats().prefix_hits, 0);
    together.wait_until_empty();
  }
}

TEST(LocalReplica, EmittedTokensCountAsGenerated) {
  std::mt19937_64 random(9);
  for (uint64_t id = 1; id <= 20; ++id) {
    GenerateRequest r = random_request(id, kVocab - 1, random);
    r.params.n = 1;
    r.params.prompt_logprobs = -1;
    r.params.frequency_penalty = 0.7f;
    Replica replica;
    ASSERT_TRUE(replica.client->submit(r).ok());
    const auto whole = replica.collector.wait_for_end(id);
    for (size_t cut = 1; cut < whole.tokens.size(); cut += 5) {
      Replica second;
      GenerateRequest again = r;
      again.emitted = {{whole.tokens.begin(), whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut)}};
      struct Tail : FrameSink {
        void on_frame(StepFrame&& frame) override {
          std::lock_guard lock(mutex);
          for (const TokenEvent& e : frame.tokens) {
            if (e.token >= 0) tokens.push_back(e.token);
            ended = e.finish != FinishReason::kNone;
          }
          changed.notify_all();
        }
        std::mutex mutex;
        std::condition_variable changed;
        std::vector<TokenId> tokens;
        bool ended = false;
      } tail;
      second.client->set_sink(&tail);
      ASSERT_TRUE(second.client->submit(again).ok());
      {
        std::unique_lock lock(tail.mutex);
        ASSERT_TRUE(tail.changed.wait_for(lock, std::chrono::seconds(60), [&] { return tail.ended; }));
      }
      second.client->set_sink(nullptr);
      EXPECT_EQ(tail.tokens, std::vector<TokenId>(whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut),
                                                  whole.tokens.end()));
    }
  }
}

TEST(LocalReplica, NotFiniteLogitsFailOneRequestAlone) {
  std::mt19937_64 random(3);
  Replica replica;
  for (uint64_t id = 1; id <= 8; ++id) {
    GenerateRequest r = random_request(id, kVocab - 1, random);
    r.params.n = 1;
    if (id == 4) r.prompt.back() = kPoison;
    ASSERT_TRUE(replica.client->submit(std::move(r)).ok());
  }
  for (uint64_t id = 1; id <= 8; ++id) {
    const auto stream = replica.collector.wait_for_end(id);
    EXPECT_EQ(stream.last.finish == FinishReason::kError, id == 4) << id;
    if (id == 4) {
      EXPECT_NE(stream.last.error.find("not finite"), std::string::npos);
    }
  }
  replica.wait_until_empty();
}

TEST(LocalReplica, ReplicasOfOneProcessUseThePoolOneAtATime) {
  ThreadPool pool(2);
  FairMutex turn;
  std::atomic<int> users{0};
  const ReplicaSetup setup{.batched_tokens = 64, .pool = &pool, .turn = &turn, .in_forward = [&] {
                             EXPECT_EQ(users.fetch_add(1), 0) << "two models use the pool at once";
                             std::this_thread::yield();
                             users.fetch_sub(1);
                           }};
  Replica a(setup);
  Replica b(setup);
  std::mt19937_64 random(1);
  for (uint64_t id = 1; id <= 40; ++id) {
    GenerateRequest r = random_request(id, kVocab - 1, random);
    r.params.n = 1;
    ASSERT_TRUE(a.client->submit(r).ok());
    ASSERT_TRUE(b.client->submit(r).ok());
  }
  for (uint64_t id = 1; id <= 40; ++id)
    expect_same(a.collector.wait_for_end(id), b.collector.wait_for_end(id), id);
}

// While both have work, none gets two steps in a row.
TEST(LocalReplica, ReplicasOfOneProcessAlternateByStep) {
  constexpr int kSteps = 200;
  ThreadPool pool(2);
  FairMutex turn;
  std::vector<int> order;          // guarded by `turn`: which replica made each step
  int left[2] = {kSteps, kSteps};  // likewise
  const auto step_of = [&](int self) {
    return [&, self] {
      order.push_back(self);
      --left[self];
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
      while (left[1 - self] > 0 && turn.waiting() == 0 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
      }
    };
  };
  Replica a({.pool = &pool, .turn = &turn, .in_forward = step_of(0)});
  Replica b({.pool = &pool, .turn = &turn, .in_forward = step_of(1)});
  GenerateRequest request;
  request.id = RequestId{1};
  request.prompt = {1, 2, 3};
  request.params.max_tokens = kSteps;
  request.params.ignore_eos = true;
  ASSERT_TRUE(a.client->submit(request).ok());
  ASSERT_TRUE(b.client->submit(request).ok());
  a.collector.wait_for_end(1);
  b.collector.wait_for_end(1);
  std::unique_lock lock(turn);
  ASSERT_EQ(order.size(), size_t{2} * kSteps);
  for (size_t i = 1; i < order.size(); ++i) ASSERT_NE(order[i], order[i - 1]) << "step " << i;
}

TEST(LocalReplica, AThousandRequestsWithRandomCancelsLeaveNothing) {
  Replica replica;
  std::mt19937_64 random(5);
  for (uint64_t id = 1; id <= 1000; ++id) {
    ASSERT_TRUE(replica.client->submit(random_request(id, kVocab - 1, random)).ok());
    if (random() % 2 == 0) {
      replica.client->cancel(RequestId{1 + random() % id}, static_cast<int32_t>(random() % 4) - 1);
    }
  }
  replica.wait_until_empty();
}

TEST(LocalReplica, SaysWhatItIs) {
  Replica replica;
  EXPECT_EQ(replica.client->info().model_id, "hash");
  EXPECT_EQ(replica.client->info().vocab_size, kVocab);
  EXPECT_EQ(replica.client->info().max_model_len, 600);
  EXPECT_EQ(replica.client->stats().kv_blocks_total, 16 * 10);
}

TEST(LocalReplica, OptionsOutOfRangeAreNamed) {
  ThreadPool pool(1);
  ReplicaOptions options;
  options.backend = cpu_backend("reference").value();
  options.pool = &pool;
  options.max_num_seqs = 0;
  EXPECT_EQ(start_local_replica(std::make_unique<HashModel>(), options).status().param(), "max_num_seqs");
  options.max_num_seqs = 1;
  options.max_num_batched_tokens = 0;
  EXPECT_EQ(start_local_replica(std::make_unique<HashModel>(), options).status().param(),
            "max_num_batched_tokens");
  options.max_num_batched_tokens = 1;
  options.max_model_len = 601;
  EXPECT_EQ(start_local_replica(std::make_unique<HashModel>(), options).status().param(), "max_model_len");
}

}  // namespace
}  // namespace gantry
