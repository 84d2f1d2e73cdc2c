// What a step's messages between ranks cost, and a request's: nanoseconds to write and to read each.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "protocol/replica_codec.h"
#include "runtime/step_codec.h"

namespace {

using namespace gantry;  // NOLINT(google-build-using-namespace): a program

constexpr int32_t kRows = 64;

StepPlan decodes() {
  StepPlan plan;
  plan.ticket = Ticket{77};
  for (int32_t i = 0; i < kRows; ++i) {
    PlanRows rows;
    rows.sequence = SeqId{static_cast<uint64_t>(i) + 1};
    rows.slot = rows.first_row = i;
    rows.rows = rows.sampled = 1;
    rows.first_position = 500 + i;
    rows.reserved = rows.first_position + 1;
    rows.table_index = 9;
    plan.sequences.push_back(rows);
    plan.ids.push_back(1000 + i);
  }
  plan.logit_rows = kRows;
  return plan;
}

StepResult results() {
  StepResult result;
  for (int32_t i = 0; i < kRows; ++i) {
    SequenceResult sequence;
    sequence.sequence = SeqId{static_cast<uint64_t>(i) + 1};
    sequence.first_token = i;
    sequence.accepted = 1;
    result.sequences.push_back(sequence);
    result.tokens.push_back({1000 + i, -1.0f, 0, 0});
  }
  return result;
}

// The same step's tokens as the front gets them.
FromReplica frame() {
  StepFrame frame;
  for (int32_t i = 0; i < kRows; ++i) {
    TokenEvent event;
    event.request = RequestId{static_cast<uint64_t>(i) + 1};
    event.index = 500;
    event.token = 1000 + i;
    frame.tokens.push_back(event);
  }
  return frame;
}

GenerateRequest request() {
  GenerateRequest request;
  request.id = RequestId{9};
  request.prompt.assign(512, 1234);
  request.params.max_tokens = 128;
  request.params.temperature = 0.8f;
  request.params.stop_token_ids = {1, 2};
  return request;
}

double best_ns(const std::function<void()>& work) {
  constexpr int kRounds = 20, kTimes = 500;
  double best = 1e18;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kTimes; ++i) work();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count() / kTimes);
  }
  return best;
}

void report(const char* what, size_t bytes, const std::function<void()>& write,
            const std::function<void()>& read) {
  fmt::print("{:<40} {:>6} bytes {:>8.0f} ns to write {:>8.0f} ns to read\n", what, bytes, best_ns(write),
             best_ns(read));
}

}  // namespace

int main() {
  const PlanLimits limits{.slots = 64,
                          .rows = 2048,
                          .logit_rows = 128,
                          .context = 4096,
                          .kv_blocks = 4096,
                          .vocab = 129280,
                          .drafts = 0};
  const StepPlan plan = decodes();
  const std::string plan_bytes = encode_plan(plan, false);
  report(
      "a plan of 64 decodes (byte_codec)", plan_bytes.size(), [&] { encode_plan(plan, false); },
      [&] { (void)decode_plan(plan_bytes, limits).value(); });
  const StepResult result = results();
  const std::string result_bytes = encode_result(result);
  report(
      "its result (byte_codec)", result_bytes.size(), [&] { encode_result(result); },
      [&] { (void)decode_result(result_bytes).value(); });
  const FromReplica tokens = frame();
  const std::string frame_bytes = encode(tokens);
  report(
      "64 tokens for the front (protobuf)", frame_bytes.size(), [&] { encode(tokens); },
      [&] { (void)decode_from_replica(frame_bytes, limits.vocab).value(); });
  const GenerateRequest start = request();
  const std::string start_bytes = encode_request(start);
  report(
      "a request of 512 tokens (protobuf)", start_bytes.size(), [&] { encode_request(start); },
      [&] { (void)decode_request(start_bytes).value(); });
}
