#include "protocol/replica_codec.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/clock.h"
#include "base/limits.h"
#include "protocol/replica.pb.h"
#include "protocol/wire_limits.h"

namespace gantry {
namespace {

constexpr int64_t kVocab = 1000;

GenerateRequest request() {
  GenerateRequest r;
  r.id = RequestId{UINT64_MAX - 1};
  r.epoch = 7;
  r.prompt = {0, 999, 5};
  r.emitted = {{1, 2}, {}};
  r.finished = {false, true};
  r.params.n = 2;
  r.params.max_tokens = 40;
  r.params.min_tokens = 3;
  r.params.temperature = 0.7f;
  r.params.top_p = 0.9f;
  r.params.top_k = 20;
  r.params.min_p = 0.05f;
  r.params.seed = 0x123456789abcdef0ull;
  r.params.presence_penalty = -0.5f;
  r.params.frequency_penalty = 1.5f;
  r.params.repetition_penalty = 1.1f;
  r.params.logit_bias = {{3, -100.0f}, {4, 2.5f}};
  r.params.logprobs = 5;
  r.params.prompt_logprobs = 0;
  r.params.stop_token_ids = {8, 9};
  r.params.eos_token_ids = {7, 5000};
  r.params.ignore_eos = true;
  r.cache_salt = std::string("salt\0\xff", 6);
  r.tenant = "tenant";
  r.priority = -3;
  r.deadline_ns = monotonic_ns() + 5'000'000'000;
  r.admitted = true;
  return r;
}

StepFrame frame() {
  StepFrame f;
  TokenEvent e;
  e.request = RequestId{11};
  e.epoch = 2;
  e.choice = 1;
  e.index = 4;
  e.token = 999;
  e.finish = FinishReason::kLength;
  e.logprob = -0.125f;
  e.top = {{999, -0.125f}, {0, -std::numeric_limits<float>::infinity()}};
  e.accepted_drafts = 1;
  e.rejected_drafts = 2;
  e.cached_prompt_tokens = 64;
  e.queue_ns = 10;
  e.prefill_ns = 20;
  e.decode_ns = 30;
  f.tokens.push_back(e);
  TokenEvent end;
  end.request = RequestId{12};
  end.finish = FinishReason::kError;
  end.error = "why";
  end.stop_token = 3;
  f.tokens.push_back(end);
  PromptLogprobs p;
  p.request = RequestId{11};
  p.epoch = 2;
  p.tokens = {{4, -1.0f}, {5, -2.0f}};
  p.top = {{{4, -1.0f}, {6, -3.0f}}, {}};
  f.prompts.push_back(p);
  return f;
}

ReplicaStats stats() {
  ReplicaStats s;
  s.running = 1;
  s.waiting = 2;
  s.kv_blocks_used = 3;
  s.kv_blocks_total = 4;
  s.prompt_tokens = 5;
  s.generated_tokens = 6;
  s.steps = 7;
  s.prefix_queries = 8;
  s.prefix_hits = 9;
  s.preemptions = 10;
  s.drafted_steps = 11;
  s.drafts = 12;
  s.accepted_drafts = {13, 14, 15};
  s.waiting_tokens = 16;
  s.queue_wait_s = 1.5;
  s.last_token_ns = monotonic_ns() - 1'000'000'000;
  s.step_running_ns = 17;
  return s;
}

template <typename T>
T through(const FromReplica& message) {
  Result<FromReplica> decoded = decode_from_replica(encode(message), kVocab);
  EXPECT_TRUE(decoded.ok()) << decoded.status().message();
  return std::get<T>(std::move(decoded).value());
}

TEST(ReplicaCodec, RequestsGoThroughWhole) {
  const GenerateRequest sent = request();
  auto decoded = decode_to_replica(encode(ToReplica(sent)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().message();
  const auto& got = std::get<GenerateRequest>(*decoded);
  EXPECT_EQ(got.id, sent.id);
  EXPECT_EQ(got.epoch, sent.epoch);
  EXPECT_EQ(got.prompt, sent.prompt);
  EXPECT_EQ(got.emitted, sent.emitted);
  EXPECT_EQ(got.finished, sent.finished);
  EXPECT_EQ(got.cache_salt, sent.cache_salt);
  EXPECT_EQ(got.tenant, sent.tenant);
  EXPECT_EQ(got.priority, sent.priority);
  EXPECT_NEAR(static_cast<double>(got.deadline_ns), static_cast<double>(sent.deadline_ns), 120e9);
  EXPECT_GE(got.deadline_ns, sent.deadline_ns);
  EXPECT_TRUE(got.admitted);
  const SamplingParams& p = got.params;
  const SamplingParams& q = sent.params;
  EXPECT_EQ(p.n, q.n);
  EXPECT_EQ(p.max_tokens, q.max_tokens);
  EXPECT_EQ(p.min_tokens, q.min_tokens);
  EXPECT_EQ(p.temperature, q.temperature);
  EXPECT_EQ(p.top_p, q.top_p);
  EXPECT_EQ(p.top_k, q.top_k);
  EXPECT_EQ(p.min_p, q.min_p);
  EXPECT_EQ(p.seed, q.seed);
  EXPECT_EQ(p.presence_penalty, q.presence_penalty);
  EXPECT_EQ(p.frequency_penalty, q.frequency_penalty);
  EXPECT_EQ(p.repetition_penalty, q.repetition_penalty);
  EXPECT_EQ(p.logit_bias, q.logit_bias);
  EXPECT_EQ(p.logprobs, q.logprobs);
  EXPECT_EQ(p.prompt_logprobs, q.prompt_logprobs);
  EXPECT_EQ(p.stop_token_ids, q.stop_token_ids);
  EXPECT_EQ(p.eos_token_ids, q.eos_token_ids);
  EXPECT_EQ(p.ignore_eos, q.ignore_eos);
}

TEST(ReplicaCodec, ADeadlineThatHasPassedStaysOne) {
  GenerateRequest r = request();
  r.deadline_ns = 1;
  const auto decoded = decode_to_replica(encode(ToReplica(r)));
  ASSERT_TRUE(decoded.ok());
  const int64_t deadline = std::get<GenerateRequest>(*decoded).deadline_ns;
  EXPECT_GT(deadline, 0);
  EXPECT_LE(deadline, monotonic_ns());
}

TEST(ReplicaCodec, CancelGoesThrough) {
  const auto cancel = decode_to_replica(encode(ToReplica(CancelChoice{RequestId{5}, -1})));
  ASSERT_TRUE(cancel.ok());
  EXPECT_EQ(std::get<CancelChoice>(*cancel).request, RequestId{5});
  EXPECT_EQ(std::get<CancelChoice>(*cancel).choice, -1);
}

TEST(ReplicaCodec, FramesGoThroughWhole) {
  const StepFrame sent = frame();
  const auto got = through<StepFrame>(FromReplica(sent));
  ASSERT_EQ(got.tokens.size(), 2u);
  const TokenEvent& e = got.tokens[0];
  EXPECT_EQ(e.request, RequestId{11});
  EXPECT_EQ(e.epoch, 2u);
  EXPECT_EQ(e.choice, 1);
  EXPECT_EQ(e.index, 4);
  EXPECT_EQ(e.token, 999);
  EXPECT_EQ(e.finish, FinishReason::kLength);
  EXPECT_EQ(e.stop_token, -1);
  EXPECT_EQ(e.logprob, -0.125f);
  ASSERT_EQ(e.top.size(), 2u);
  EXPECT_EQ(e.top[1].id, 0);
  EXPECT_EQ(e.top[1].logprob, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(e.accepted_drafts, 1);
  EXPECT_EQ(e.rejected_drafts, 2);
  EXPECT_EQ(e.cached_prompt_tokens, 64);
  EXPECT_EQ(e.queue_ns, 10);
  EXPECT_EQ(e.prefill_ns, 20);
  EXPECT_EQ(e.decode_ns, 30);
  EXPECT_EQ(got.tokens[1].token, -1);
  EXPECT_EQ(got.tokens[1].error, "why");
  EXPECT_EQ(got.tokens[1].stop_token, 3);
  ASSERT_EQ(got.prompts.size(), 1u);
  ASSERT_EQ(got.prompts[0].top.size(), 2u);
  EXPECT_EQ(got.prompts[0].tokens[1].logprob, -2.0f);
  EXPECT_EQ(got.prompts[0].top[0][1].id, 6);
  EXPECT_TRUE(got.prompts[0].top[1].empty());
}

TEST(ReplicaCodec, TheOtherMessagesGoThroughWhole) {
  const ReplicaStats sent = stats();
  const auto s = through<ReplicaStats>(FromReplica(sent));
  EXPECT_EQ(s.running, 1);
  EXPECT_EQ(s.waiting, 2);
  EXPECT_EQ(s.kv_blocks_total, 4);
  EXPECT_EQ(s.generated_tokens, 6);
  EXPECT_EQ(s.preemptions, 10);
  EXPECT_EQ(s.accepted_drafts, sent.accepted_drafts);
  EXPECT_EQ(s.queue_wait_s, 1.5);
  EXPECT_GE(s.last_token_ns, sent.last_token_ns);
  EXPECT_LE(s.last_token_ns, monotonic_ns() - 1'000'000'000 + 1);
  EXPECT_EQ(s.step_running_ns, 17);
  EXPECT_EQ(through<ReplicaStats>(FromReplica(ReplicaStats{})).last_token_ns, 0);
  EXPECT_EQ(through<ReplicaLoading>(FromReplica(ReplicaLoading{3, 9})).total, 9u);
  const auto info =
      through<ReplicaInfo>(FromReplica(ReplicaInfo{"m", 512, 1000, {{0, "here", 7}, {1, "there", 8}}}));
  EXPECT_EQ(info.model_id, "m");
  EXPECT_EQ(info.max_model_len, 512);
  EXPECT_EQ(info.vocab_size, 1000);
  ASSERT_EQ(info.ranks.size(), 2u);
  EXPECT_EQ(info.ranks[1].rank, 1);
  EXPECT_EQ(info.ranks[1].host, "there");
  EXPECT_EQ(info.ranks[1].pid, 8);
  const auto failed = through<ReplicaFailed>(FromReplica(ReplicaFailed{not_found("no file")}));
  EXPECT_EQ(failed.status.code(), StatusCode::kNotFound);
  EXPECT_EQ(failed.status.message(), "no file");
  const auto refused =
      through<RefusedRequest>(FromReplica(RefusedRequest{RequestId{4}, 3, invalid_argument("x", "n")}));
  EXPECT_EQ(refused.request, RequestId{4});
  EXPECT_EQ(refused.epoch, 3u);
  EXPECT_EQ(refused.status.param(), "n");
  const auto started = through<StartedRequests>(FromReplica(StartedRequests{{RequestId{1}, RequestId{2}}}));
  EXPECT_EQ(started.requests, (std::vector<RequestId>{{1}, {2}}));
}

TEST(ReplicaCodec, LongErrorTextsAreCut) {
  const auto failed =
      through<ReplicaFailed>(FromReplica(ReplicaFailed{internal_error(std::string(1 << 20, 'x'))}));
  EXPECT_EQ(failed.status.message().size(), limits::kReplicaErrorBytesMax);
}

// Changes a well-formed message and gives the error that the change must cause.
template <typename Change>
std::string refused_frame(Change change) {
  wire::FromReplica w;
  EXPECT_TRUE(w.ParseFromString(encode(FromReplica(frame()))));
  change(*w.mutable_step());
  const auto decoded = decode_from_replica(w.SerializeAsString(), kVocab);
  EXPECT_EQ(decoded.status().code(), StatusCode::kDataLoss);
  return decoded.status().message();
}

TEST(ReplicaCodec, NamesTheFieldOfAFrameThatIsWrong) {
  const auto token = [](auto change) {
    return refused_frame([&](wire::StepFrame& step) { change(*step.mutable_tokens(0)); });
  };
  const auto prompt = [](auto change) {
    return refused_frame([&](wire::StepFrame& step) { change(*step.mutable_prompts(0)); });
  };
  EXPECT_EQ(token([](auto& e) { e.set_choice(128); }), "choice is 128, must be 0 to 127");
  EXPECT_EQ(token([](auto& e) { e.set_choice(-1); }), "choice is -1, must be 0 to 127");
  EXPECT_EQ(token([](auto& e) { e.set_index(-1); }), "index is -1, must be 0 to 2147483647");
  EXPECT_EQ(token([](auto& e) { e.set_token(1000); }), "token is 1000, must be -1 to 999");
  EXPECT_EQ(token([](auto& e) { e.set_token(-2); }), "token is -2, must be -1 to 999");
  EXPECT_EQ(token([](auto& e) { e.set_finish(5); }), "finish is 5, must be 0 to 4");
  EXPECT_EQ(token([](auto& e) {
              e.set_token(-1);
              e.set_finish(0);
            }),
            "token is -1 in an event that finishes nothing");
  EXPECT_EQ(token([](auto& e) { e.set_logprob(NAN); }), "logprob is NaN, must be a number");
  EXPECT_EQ(token([](auto& e) { e.set_top_ids(0, 1000); }), "top_ids is 1000, must be 0 to 999");
  EXPECT_EQ(token([](auto& e) { e.add_top_ids(1); }), "top_logprobs has 2 entries, must have 3");
  EXPECT_EQ(token([](auto& e) { e.set_top_logprobs(0, NAN); }), "top_logprobs is NaN, must be a number");
  EXPECT_EQ(token([](auto& e) { e.set_accepted_drafts(2); }), "accepted_drafts is 2, must be 0 to 1");
  EXPECT_EQ(token([](auto& e) { e.set_rejected_drafts(4); }), "rejected_drafts is 4, must be 0 to 3");
  EXPECT_EQ(token([](auto& e) { e.set_cached_prompt_tokens(-1); }),
            "cached_prompt_tokens is -1, must be 0 to 2147483647");
  EXPECT_EQ(token([](auto& e) { e.set_queue_ns(-1); }), "queue_ns is -1, must be 0 to 9223372036854775807");
  EXPECT_EQ(token([](auto& e) { e.set_error(std::string(4097, 'x')); }),
            "error has 4097 entries, at most 4096 are allowed");
  EXPECT_EQ(prompt([](auto& p) { p.add_logprobs(0); }), "logprobs has 3 entries, must have 2");
  EXPECT_EQ(prompt([](auto& p) { p.add_top_counts(0); }), "top_counts has 3 entries, must have 2");
  EXPECT_EQ(prompt([](auto& p) { p.set_top_counts(0, 21); }), "top_counts is 21, must be 0 to 20");
  EXPECT_EQ(prompt([](auto& p) { p.set_top_counts(0, 3); }), "top_counts is 3, must be 0 to 2");
  EXPECT_EQ(prompt([](auto& p) { p.set_top_counts(0, 1); }), "top_ids has 2 entries, must have 1");
}

TEST(ReplicaCodec, NamesTheFieldOfARequestThatIsWrong) {
  const auto refused = [](auto change) {
    wire::ToReplica w;
    EXPECT_TRUE(w.ParseFromString(encode(ToReplica(request()))));
    change(*w.mutable_submit());
    const auto decoded = decode_to_replica(w.SerializeAsString());
    EXPECT_EQ(decoded.status().code(), StatusCode::kDataLoss);
    return decoded.status().message();
  };
  EXPECT_EQ(refused([](auto& r) { r.mutable_params()->set_n(1 << 30); }),
            "params.n is 1073741824, must be 1 to 128");
  EXPECT_EQ(refused([](auto& r) { r.mutable_params()->set_n(0); }), "params.n is 0, must be 1 to 128");
  EXPECT_EQ(refused([](auto& r) { r.add_emitted(); }), "emitted has 3 entries, at most 2 are allowed");
  EXPECT_EQ(refused([](auto& r) { r.add_finished(true); }), "finished has 3 entries, at most 2 are allowed");
  EXPECT_EQ(refused([](auto& r) { r.set_tenant(std::string(5000, 'x')); }),
            "tenant has 5000 entries, at most 4096 are allowed");
  EXPECT_NE(refused([](auto& r) { r.set_deadline_in_ns(INT64_MAX); }).find("deadline_in_ns is 92233720"),
            std::string::npos);
}

TEST(ReplicaCodec, RefusesAnotherBuildAndNonsense) {
  wire::FromReplica w;
  ASSERT_TRUE(w.ParseFromString(encode(FromReplica(ReplicaInfo{"m", 512, 1000}))));
  w.mutable_ready()->set_version(w.ready().version() + 1);
  EXPECT_NE(decode_from_replica(w.SerializeAsString(), 0).status().message().find("same build"),
            std::string::npos);
  EXPECT_EQ(decode_from_replica("", 0).status().message(), "kind is not set in a message of the replica");
  EXPECT_EQ(decode_to_replica("\xff").status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(decode_from_replica(encode(FromReplica(frame())), 0).status().message(),
            "token is 999, must be -1 to -1");
}

// Whatever comes, it is a message within its ranges or an error.
TEST(ReplicaCodec, DamagedBytesAreErrorsOrMessages) {
  const std::string messages[] = {encode(FromReplica(frame())), encode(FromReplica(stats())),
                                  encode(FromReplica(ReplicaInfo{"m", 512, 1000})),
                                  encode(ToReplica(request()))};
  std::mt19937_64 random(2);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = messages[random() % 4];
    const size_t changes = 1 + random() % 4;
    for (size_t i = 0; i < changes; ++i) {
      const size_t at = random() % bytes.size();
      if (random() % 4 == 0) {
        bytes.resize(std::max<size_t>(1, at));
      } else {
        bytes[at] = static_cast<char>(random());
      }
    }
    if (const auto message = decode_from_replica(bytes, kVocab); message.ok()) {
      ++accepted;
      if (const auto* step = std::get_if<StepFrame>(&*message)) {
        for (const TokenEvent& event : step->tokens) {
          ASSERT_LT(event.token, kVocab);
          ASSERT_LT(event.choice, limits::kChoicesMax);
        }
      }
    }
    if (const auto message = decode_to_replica(bytes); message.ok()) ++accepted;
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace gantry
