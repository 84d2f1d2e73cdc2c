#include "protocol/replica_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "protocol/replica.pb.h"
#include "protocol/wire_limits.h"

namespace gantry {
namespace {

constexpr uint32_t kWireVersion = 2;

// What a peer sent that it must not have.
template <typename Value>
Status wrong(std::string_view field, const Value& value, std::string_view expected) {
  return data_loss(fmt::format("{} is {}, must be {}", field, value, expected));
}

template <typename Int>
Status check_range(std::string_view field, Int value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return wrong(field, value, fmt::format("{} to {}", low, high));
}

Status check_count(std::string_view field, size_t count, size_t max) {
  if (count <= max) return {};
  return data_loss(fmt::format("{} has {} entries, at most {} are allowed", field, count, max));
}

Status check_same(std::string_view field, int count, int expected) {
  if (count == expected) return {};
  return data_loss(fmt::format("{} has {} entries, must have {}", field, count, expected));
}

Status check_id(std::string_view field, int64_t id, int64_t vocab_size) {
  return check_range(field, id, 0, vocab_size - 1);
}

template <typename Field>
std::vector<TokenId> ids_of(const Field& field) {
  return {field.begin(), field.end()};
}

void to_wire(const SamplingParams& p, wire::SamplingParams& w) {
  w.set_n(p.n);
  w.set_max_tokens(p.max_tokens);
  w.set_min_tokens(p.min_tokens);
  w.set_temperature(p.temperature);
  w.set_top_p(p.top_p);
  w.set_top_k(p.top_k);
  w.set_min_p(p.min_p);
  w.set_seed(p.seed);
  w.set_presence_penalty(p.presence_penalty);
  w.set_frequency_penalty(p.frequency_penalty);
  w.set_repetition_penalty(p.repetition_penalty);
  for (const auto& [id, bias] : p.logit_bias) {
    wire::LogitBias& entry = *w.add_logit_bias();
    entry.set_id(id);
    entry.set_bias(bias);
  }
  w.set_logprobs(p.logprobs);
  w.set_prompt_logprobs(p.prompt_logprobs);
  w.mutable_stop_token_ids()->Add(p.stop_token_ids.begin(), p.stop_token_ids.end());
  w.mutable_eos_token_ids()->Add(p.eos_token_ids.begin(), p.eos_token_ids.end());
  w.set_ignore_eos(p.ignore_eos);
}

// Ranges are submit()'s business: only what sizes something is checked here.
Status from_wire(const wire::SamplingParams& w, SamplingParams& p) {
  GANTRY_RETURN_IF_ERROR(check_range("params.n", w.n(), 1, limits::kChoicesMax));
  GANTRY_RETURN_IF_ERROR(
      check_count("params.logit_bias", static_cast<size_t>(w.logit_bias_size()), limits::kLogitBiasMax));
  GANTRY_RETURN_IF_ERROR(check_count("params.stop_token_ids", static_cast<size_t>(w.stop_token_ids_size()),
                                     limits::kStopTokenIdsMax));
  GANTRY_RETURN_IF_ERROR(check_count("params.eos_token_ids", static_cast<size_t>(w.eos_token_ids_size()),
                                     limits::kModelEosIdsMax + limits::kStopTokenIdsMax));
  p.n = w.n();
  p.max_tokens = w.max_tokens();
  p.min_tokens = w.min_tokens();
  p.temperature = w.temperature();
  p.top_p = w.top_p();
  p.top_k = w.top_k();
  p.min_p = w.min_p();
  p.seed = w.seed();
  p.presence_penalty = w.presence_penalty();
  p.frequency_penalty = w.frequency_penalty();
  p.repetition_penalty = w.repetition_penalty();
  for (const wire::LogitBias& entry : w.logit_bias()) p.logit_bias.emplace_back(entry.id(), entry.bias());
  p.logprobs = w.logprobs();
  p.prompt_logprobs = w.prompt_logprobs();
  p.stop_token_ids = ids_of(w.stop_token_ids());
  p.eos_token_ids = ids_of(w.eos_token_ids());
  p.ignore_eos = w.ignore_eos();
  return {};
}

void to_wire(const GenerateRequest& r, wire::GenerateRequest& w) {
  w.set_id(r.id.value);
  w.set_epoch(r.epoch);
  w.mutable_prompt()->Add(r.prompt.begin(), r.prompt.end());
  for (const auto& emitted : r.emitted) w.add_emitted()->mutable_ids()->Add(emitted.begin(), emitted.end());
  for (const bool finished : r.finished) w.add_finished(finished);
  to_wire(r.params, *w.mutable_params());
  w.set_cache_salt(r.cache_salt);
  w.set_tenant(r.tenant);
  w.set_priority(r.priority);
  if (r.deadline_ns != 0) w.set_deadline_in_ns(std::max<int64_t>(1, r.deadline_ns - monotonic_ns()));
  w.set_admitted(r.admitted);
}

Result<GenerateRequest> from_wire(const wire::GenerateRequest& w) {
  GenerateRequest r;
  GANTRY_RETURN_IF_ERROR(from_wire(w.params(), r.params));
  const auto n = static_cast<size_t>(r.params.n);
  GANTRY_RETURN_IF_ERROR(check_count("emitted", static_cast<size_t>(w.emitted_size()), n));
  GANTRY_RETURN_IF_ERROR(check_count("finished", static_cast<size_t>(w.finished_size()), n));
  GANTRY_RETURN_IF_ERROR(check_count("cache_salt", w.cache_salt().size(), limits::kReplicaNameBytesMax));
  GANTRY_RETURN_IF_ERROR(check_count("tenant", w.tenant().size(), limits::kReplicaNameBytesMax));
  const int64_t now = monotonic_ns();
  GANTRY_RETURN_IF_ERROR(check_range("deadline_in_ns", w.deadline_in_ns(), 0, INT64_MAX - now));
  r.id = RequestId{w.id()};
  r.epoch = w.epoch();
  r.prompt = ids_of(w.prompt());
  for (const wire::TokenIds& emitted : w.emitted()) r.emitted.push_back(ids_of(emitted.ids()));
  for (const bool finished : w.finished()) r.finished.push_back(finished);
  r.cache_salt = w.cache_salt();
  r.tenant = w.tenant();
  r.priority = w.priority();
  if (w.deadline_in_ns() != 0) r.deadline_ns = now + w.deadline_in_ns();
  r.admitted = w.admitted();
  return r;
}

void to_wire(const Status& status, wire::Status& w) {
  w.set_code(static_cast<int>(status.code()));
  w.set_message(status.message().substr(0, limits::kReplicaErrorBytesMax));
  w.set_param(status.param().substr(0, limits::kReplicaErrorBytesMax));
}

// `status`: what the peer reports; the result: whether it may report that.
Status from_wire(const wire::Status& w, Status& status) {
  GANTRY_RETURN_IF_ERROR(check_range("status.code", w.code(), static_cast<int>(StatusCode::kOk) + 1,
                                     static_cast<int>(StatusCode::kInternal)));
  GANTRY_RETURN_IF_ERROR(check_count("status.message", w.message().size(), limits::kReplicaErrorBytesMax));
  GANTRY_RETURN_IF_ERROR(check_count("status.param", w.param().size(), limits::kReplicaErrorBytesMax));
  status = Status(static_cast<StatusCode>(w.code()), w.message(), w.param());
  return {};
}

void to_wire(const TokenEvent& e, wire::TokenEvent& w) {
  w.set_request(e.request.value);
  w.set_epoch(e.epoch);
  w.set_choice(e.choice);
  w.set_index(e.index);
  w.set_token(e.token);
  w.set_finish(static_cast<int>(e.finish));
  w.set_stop_token(e.stop_token);
  w.set_error(e.error.substr(0, limits::kReplicaErrorBytesMax));
  w.set_logprob(e.logprob);
  for (const TokenLogprob& top : e.top) {
    w.add_top_ids(top.id);
    w.add_top_logprobs(top.logprob);
  }
  w.set_accepted_drafts(e.accepted_drafts);
  w.set_rejected_drafts(e.rejected_drafts);
  w.set_cached_prompt_tokens(e.cached_prompt_tokens);
  w.set_queue_ns(e.queue_ns);
  w.set_prefill_ns(e.prefill_ns);
  w.set_decode_ns(e.decode_ns);
}

template <typename Ids, typename Logprobs>
Status read_top(const Ids& ids, const Logprobs& logprobs, int first, int count, int64_t vocab_size,
                std::vector<TokenLogprob>& top) {
  for (int i = first; i < first + count; ++i) {
    GANTRY_RETURN_IF_ERROR(check_id("top_ids", ids[i], vocab_size));
    if (std::isnan(logprobs[i])) return wrong("top_logprobs", "NaN", "a number");
    top.push_back({ids[i], logprobs[i]});
  }
  return {};
}

Status check_event(const wire::TokenEvent& w, int64_t vocab_size) {
  GANTRY_RETURN_IF_ERROR(check_range("choice", w.choice(), 0, limits::kChoicesMax - 1));
  GANTRY_RETURN_IF_ERROR(check_range("index", w.index(), 0, INT32_MAX));
  GANTRY_RETURN_IF_ERROR(check_range("token", w.token(), -1, vocab_size - 1));
  GANTRY_RETURN_IF_ERROR(check_range("finish", w.finish(), 0, static_cast<int>(FinishReason::kError)));
  if (w.token() < 0 && w.finish() == 0) return data_loss("token is -1 in an event that finishes nothing");
  GANTRY_RETURN_IF_ERROR(check_range("stop_token", w.stop_token(), -1, INT32_MAX));
  GANTRY_RETURN_IF_ERROR(check_count("error", w.error().size(), limits::kReplicaErrorBytesMax));
  if (std::isnan(w.logprob())) return wrong("logprob", "NaN", "a number");
  GANTRY_RETURN_IF_ERROR(check_range("top_ids' count", w.top_ids_size(), 0, limits::kTopLogprobsMax));
  GANTRY_RETURN_IF_ERROR(check_same("top_logprobs", w.top_logprobs_size(), w.top_ids_size()));
  GANTRY_RETURN_IF_ERROR(check_range("accepted_drafts", w.accepted_drafts(), 0, 1));
  GANTRY_RETURN_IF_ERROR(check_range("rejected_drafts", w.rejected_drafts(), 0, kDraftsMax));
  GANTRY_RETURN_IF_ERROR(check_range("cached_prompt_tokens", w.cached_prompt_tokens(), 0, INT32_MAX));
  GANTRY_RETURN_IF_ERROR(check_range("queue_ns", w.queue_ns(), 0, INT64_MAX));
  GANTRY_RETURN_IF_ERROR(check_range("prefill_ns", w.prefill_ns(), 0, INT64_MAX));
  return check_range("decode_ns", w.decode_ns(), 0, INT64_MAX);
}

Status from_wire(const wire::TokenEvent& w, int64_t vocab_size, TokenEvent& e) {
  GANTRY_RETURN_IF_ERROR(check_event(w, vocab_size));
  GANTRY_RETURN_IF_ERROR(read_top(w.top_ids(), w.top_logprobs(), 0, w.top_ids_size(), vocab_size, e.top));
  e.request = RequestId{w.request()};
  e.epoch = w.epoch();
  e.choice = w.choice();
  e.index = w.index();
  e.token = w.token();
  e.finish = static_cast<FinishReason>(w.finish());
  e.stop_token = w.stop_token();
  e.error = w.error();
  e.logprob = w.logprob();
  e.accepted_drafts = w.accepted_drafts();
  e.rejected_drafts = w.rejected_drafts();
  e.cached_prompt_tokens = w.cached_prompt_tokens();
  e.queue_ns = w.queue_ns();
  e.prefill_ns = w.prefill_ns();
  e.decode_ns = w.decode_ns();
  return {};
}

void to_wire(const PromptLogprobs& p, wire::PromptLogprobs& w) {
  w.set_request(p.request.value);
  w.set_epoch(p.epoch);
  for (const TokenLogprob& token : p.tokens) {
    w.add_ids(token.id);
    w.add_logprobs(token.logprob);
  }
  for (const auto& tops : p.top) {
    w.add_top_counts(static_cast<int32_t>(tops.size()));
    for (const TokenLogprob& top : tops) {
      w.add_top_ids(top.id);
      w.add_top_logprobs(top.logprob);
    }
  }
}

Status from_wire(const wire::PromptLogprobs& w, int64_t vocab_size, PromptLogprobs& p) {
  GANTRY_RETURN_IF_ERROR(check_same("logprobs", w.logprobs_size(), w.ids_size()));
  if (w.top_counts_size() != 0) {
    GANTRY_RETURN_IF_ERROR(check_same("top_counts", w.top_counts_size(), w.ids_size()));
  }
  GANTRY_RETURN_IF_ERROR(check_same("top_logprobs", w.top_logprobs_size(), w.top_ids_size()));
  p.request = RequestId{w.request()};
  p.epoch = w.epoch();
  GANTRY_RETURN_IF_ERROR(read_top(w.ids(), w.logprobs(), 0, w.ids_size(), vocab_size, p.tokens));
  int first = 0;
  for (const int32_t count : w.top_counts()) {
    GANTRY_RETURN_IF_ERROR(check_range("top_counts", count, 0, limits::kTopLogprobsMax));
    GANTRY_RETURN_IF_ERROR(check_range("top_counts", count, 0, w.top_ids_size() - first));
    GANTRY_RETURN_IF_ERROR(
        read_top(w.top_ids(), w.top_logprobs(), first, count, vocab_size, p.top.emplace_back()));
    first += count;
  }
  return check_same("top_ids", w.top_ids_size(), first);
}

Result<FromReplica> from_wire(const wire::StepFrame& w, int64_t vocab_size) {
  GANTRY_RETURN_IF_ERROR(check_range("tokens' count", w.tokens_size(), 0, limits::kReplicaStepEventsMax));
  GANTRY_RETURN_IF_ERROR(check_range("prompts' count", w.prompts_size(), 0, limits::kReplicaStepEventsMax));
  StepFrame frame;
  frame.tokens.resize(static_cast<size_t>(w.tokens_size()));
  frame.prompts.resize(static_cast<size_t>(w.prompts_size()));
  for (int i = 0; i < w.tokens_size(); ++i) {
    GANTRY_RETURN_IF_ERROR(from_wire(w.tokens(i), vocab_size, frame.tokens[static_cast<size_t>(i)]));
  }
  for (int i = 0; i < w.prompts_size(); ++i) {
    GANTRY_RETURN_IF_ERROR(from_wire(w.prompts(i), vocab_size, frame.prompts[static_cast<size_t>(i)]));
  }
  return FromReplica(std::move(frame));
}

void to_wire(const ReplicaStats& s, wire::Stats& w) {
  w.set_running(s.running);
  w.set_waiting(s.waiting);
  w.set_kv_blocks_used(s.kv_blocks_used);
  w.set_kv_blocks_total(s.kv_blocks_total);
  w.set_prompt_tokens(s.prompt_tokens);
  w.set_generated_tokens(s.generated_tokens);
  w.set_steps(s.steps);
  w.set_prefix_queries(s.prefix_queries);
  w.set_prefix_hits(s.prefix_hits);
  w.set_preemptions(s.preemptions);
  w.set_drafted_steps(s.drafted_steps);
  w.set_drafts(s.drafts);
  for (const int64_t accepted : s.accepted_drafts) w.add_accepted_drafts(accepted);
  w.set_waiting_tokens(s.waiting_tokens);
  w.set_queue_wait_s(s.queue_wait_s);
  w.set_last_token_age_ns(s.last_token_ns == 0 ? -1 : std::max<int64_t>(0, monotonic_ns() - s.last_token_ns));
  w.set_step_running_ns(s.step_running_ns);
}

Result<FromReplica> from_wire(const wire::Stats& w) {
  for (const auto& [field, value] :
       std::initializer_list<std::pair<const char*, int64_t>>{{"running", w.running()},
                                                              {"waiting", w.waiting()},
                                                              {"kv_blocks_used", w.kv_blocks_used()},
                                                              {"kv_blocks_total", w.kv_blocks_total()},
                                                              {"prompt_tokens", w.prompt_tokens()},
                                                              {"generated_tokens", w.generated_tokens()},
                                                              {"steps", w.steps()},
                                                              {"prefix_queries", w.prefix_queries()},
                                                              {"prefix_hits", w.prefix_hits()},
                                                              {"preemptions", w.preemptions()},
                                                              {"drafted_steps", w.drafted_steps()},
                                                              {"drafts", w.drafts()},
                                                              {"waiting_tokens", w.waiting_tokens()},
                                                              {"step_running_ns", w.step_running_ns()}}) {
    GANTRY_RETURN_IF_ERROR(check_range(field, value, 0, INT64_MAX));
  }
  if (!(w.queue_wait_s() >= 0 && std::isfinite(w.queue_wait_s()))) {
    return wrong("queue_wait_s", w.queue_wait_s(), "0 or more");
  }
  GANTRY_RETURN_IF_ERROR(check_same("accepted_drafts", w.accepted_drafts_size(), kDraftsMax));
  const int64_t now = monotonic_ns();
  GANTRY_RETURN_IF_ERROR(check_range("last_token_age_ns", w.last_token_age_ns(), -1, INT64_MAX));
  ReplicaStats s;
  s.running = w.running();
  s.waiting = w.waiting();
  s.kv_blocks_used = w.kv_blocks_used();
  s.kv_blocks_total = w.kv_blocks_total();
  s.prompt_tokens = w.prompt_tokens();
  s.generated_tokens = w.generated_tokens();
  s.steps = w.steps();
  s.prefix_queries = w.prefix_queries();
  s.prefix_hits = w.prefix_hits();
  s.preemptions = w.preemptions();
  s.drafted_steps = w.drafted_steps();
  s.drafts = w.drafts();
  for (size_t i = 0; i < s.accepted_drafts.size(); ++i) {
    s.accepted_drafts[i] = w.accepted_drafts(static_cast<int>(i));
    GANTRY_RETURN_IF_ERROR(check_range("accepted_drafts", s.accepted_drafts[i], 0, INT64_MAX));
  }
  s.waiting_tokens = w.waiting_tokens();
  s.queue_wait_s = w.queue_wait_s();
  if (w.last_token_age_ns() >= 0) s.last_token_ns = std::max<int64_t>(1, now - w.last_token_age_ns());
  s.step_running_ns = w.step_running_ns();
  return FromReplica(s);
}

Result<FromReplica> from_wire(const wire::Ready& w) {
  if (w.version() != kWireVersion) {
    return data_loss(
        fmt::format("the replica speaks version {} of the protocol, this is {}: both must be "
                    "the same build",
                    w.version(), kWireVersion));
  }
  GANTRY_RETURN_IF_ERROR(check_count("model_id", w.model_id().size(), limits::kReplicaNameBytesMax));
  GANTRY_RETURN_IF_ERROR(check_range("max_model_len", w.max_model_len(), 1, limits::kModelPositionsMax));
  GANTRY_RETURN_IF_ERROR(check_range("vocab_size", w.vocab_size(), 1, INT32_MAX));
  GANTRY_RETURN_IF_ERROR(check_count("ranks", static_cast<size_t>(w.ranks_size()), limits::kReplicaRanksMax));
  ReplicaInfo info{w.model_id(), w.max_model_len(), w.vocab_size()};
  for (const wire::Rank& rank : w.ranks()) {
    GANTRY_RETURN_IF_ERROR(check_count("host", rank.host().size(), limits::kReplicaNameBytesMax));
    GANTRY_RETURN_IF_ERROR(check_range("pid", rank.pid(), 1, INT32_MAX));
    info.ranks.push_back({static_cast<int32_t>(info.ranks.size()), rank.host(), rank.pid()});
  }
  return FromReplica(std::move(info));
}

template <typename... Fns>
struct Overloaded : Fns... {
  using Fns::operator()...;
};

std::string serialized(const google::protobuf::MessageLite& message) { return message.SerializeAsString(); }

}  // namespace

std::string encode(const ToReplica& message) {
  wire::ToReplica w;
  std::visit(Overloaded{[&](const GenerateRequest& request) { to_wire(request, *w.mutable_submit()); },
                        [&](const CancelChoice& cancel) {
                          w.mutable_cancel()->set_request(cancel.request.value);
                          w.mutable_cancel()->set_choice(cancel.choice);
                        }},
             message);
  return serialized(w);
}

std::string encode_request(const GenerateRequest& request) {
  wire::GenerateRequest w;
  to_wire(request, w);
  return serialized(w);
}

Result<GenerateRequest> decode_request(std::string_view bytes) {
  wire::GenerateRequest w;
  if (bytes.size() > limits::kReplicaFrameBytesMax ||
      !w.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return data_loss("a request is no GenerateRequest of replica.proto");
  }
  return from_wire(w);
}

std::string encode(const FromReplica& message) {
  wire::FromReplica w;
  std::visit(Overloaded{[&](const ReplicaLoading& loading) {
                          w.mutable_loading()->set_done(loading.done);
                          w.mutable_loading()->set_total(loading.total);
                        },
                        [&](const ReplicaInfo& info) {
                          w.mutable_ready()->set_version(kWireVersion);
                          w.mutable_ready()->set_model_id(info.model_id);
                          w.mutable_ready()->set_max_model_len(info.max_model_len);
                          w.mutable_ready()->set_vocab_size(info.vocab_size);
                          for (const ReplicaRank& rank : info.ranks) {
                            wire::Rank& entry = *w.mutable_ready()->add_ranks();
                            entry.set_host(rank.host);
                            entry.set_pid(rank.pid);
                          }
                        },
                        [&](const ReplicaFailed& failed) { to_wire(failed.status, *w.mutable_failed()); },
                        [&](const StepFrame& frame) {
                          wire::StepFrame& step = *w.mutable_step();
                          for (const PromptLogprobs& prompt : frame.prompts)
                            to_wire(prompt, *step.add_prompts());
                          for (const TokenEvent& event : frame.tokens) to_wire(event, *step.add_tokens());
                        },
                        [&](const RefusedRequest& refused) {
                          w.mutable_refusal()->set_request(refused.request.value);
                          w.mutable_refusal()->set_epoch(refused.epoch);
                          to_wire(refused.status, *w.mutable_refusal()->mutable_status());
                        },
                        [&](const StartedRequests& started) {
                          for (const RequestId id : started.requests)
                            w.mutable_started()->add_requests(id.value);
                        },
                        [&](const ReplicaStats& stats) { to_wire(stats, *w.mutable_stats()); }},
             message);
  return serialized(w);
}

Result<ToReplica> decode_to_replica(std::string_view payload) {
  wire::ToReplica w;
  if (payload.size() > limits::kReplicaFrameBytesMax ||
      !w.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return data_loss("a message to the replica is no ToReplica of replica.proto");
  }
  switch (w.kind_case()) {
    case wire::ToReplica::kSubmit: {
      GANTRY_ASSIGN_OR_RETURN(GenerateRequest request, from_wire(w.submit()));
      return ToReplica(std::move(request));
    }
    case wire::ToReplica::kCancel:
      GANTRY_RETURN_IF_ERROR(check_range("choice", w.cancel().choice(), -1, limits::kChoicesMax - 1));
      return ToReplica(CancelChoice{RequestId{w.cancel().request()}, w.cancel().choice()});
    case wire::ToReplica::KIND_NOT_SET:
      break;
  }
  return data_loss("kind is not set in a message to the replica");
}

Result<FromReplica> decode_from_replica(std::string_view payload, int64_t vocab_size) {
  wire::FromReplica w;
  if (payload.size() > limits::kReplicaFrameBytesMax ||
      !w.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return data_loss("a message of the replica is no FromReplica of replica.proto");
  }
  switch (w.kind_case()) {
    case wire::FromReplica::kLoading:
      if (w.loading().done() > w.loading().total()) return wrong("done", w.loading().done(), "at most total");
      return FromReplica(ReplicaLoading{w.loading().done(), w.loading().total()});
    case wire::FromReplica::kReady:
      return from_wire(w.ready());
    case wire::FromReplica::kFailed: {
      ReplicaFailed failed;
      GANTRY_RETURN_IF_ERROR(from_wire(w.failed(), failed.status));
      return FromReplica(std::move(failed));
    }
    case wire::FromReplica::kStep:
      return from_wire(w.step(), vocab_size);
    case wire::FromReplica::kRefusal: {
      RefusedRequest refused{RequestId{w.refusal().request()}, w.refusal().epoch(), {}};
      GANTRY_RETURN_IF_ERROR(from_wire(w.refusal().status(), refused.status));
      return FromReplica(std::move(refused));
    }
    case wire::FromReplica::kStarted: {
      StartedRequests started;
      for (const uint64_t id : w.started().requests()) started.requests.push_back(RequestId{id});
      return FromReplica(std::move(started));
    }
    case wire::FromReplica::kStats:
      return from_wire(w.stats());
    case wire::FromReplica::KIND_NOT_SET:
      break;
  }
  return data_loss("kind is not set in a message of the replica");
}

}  // namespace gantry
