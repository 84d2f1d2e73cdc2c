#include "server/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/limits.h"
#include "server/api_error.h"

namespace gantry {
namespace {

double seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

// "chatcmpl-" + the request's id, without what request_id() puts before it.
std::string answer_id(const std::string& prefix, const std::string& request_id) {
  return prefix + (request_id.starts_with("req-") ? request_id.substr(4) : request_id);
}

}  // namespace

class Generation::Sink : public StreamSink {
 public:
  Sink(std::shared_ptr<Generation> generation, int32_t prompt)
      : generation_(std::move(generation)), prompt_(prompt) {}

  void on_prompt_logprobs(PromptLogprobs&& logprobs) override {
    Event event;
    event.prompt = prompt_;
    event.is_prompt_logprobs = true;
    event.prompt_logprobs = std::move(logprobs);
    generation_->post_event(std::move(event));
  }
  void on_token(TokenEvent&& token) override {
    Event event;
    event.prompt = prompt_;
    event.token = std::move(token);
    event.at_ns = monotonic_ns();
    generation_->post_event(std::move(event));
  }
  void on_refused(const Status& status) override {
    Event event;
    event.prompt = prompt_;
    event.refused = status;
    generation_->post_event(std::move(event));
  }

 private:
  std::shared_ptr<Generation> generation_;
  int32_t prompt_;
};

void Generation::start(std::shared_ptr<HttpExchange> exchange, GenerationSpec spec, MakeReply make_reply,
                       std::string id_prefix) {
  std::make_shared<Generation>(std::move(exchange), std::move(spec), make_reply, std::move(id_prefix))
      ->open();
}

Generation::Generation(std::shared_ptr<HttpExchange> exchange, GenerationSpec spec, MakeReply make_reply,
                       std::string id_prefix)
    : exchange_(std::move(exchange)),
      spec_(std::move(spec)),
      reply_(make_reply(spec_, answer_id(id_prefix, exchange_->request().id), unix_seconds())),
      front_(*spec_.model->served.front),
      metrics_(*spec_.model->metrics) {
  open_choices_ = spec_.prompts.size() * static_cast<size_t>(spec_.params.n);
  choices_.reserve(open_choices_);
  for (size_t i = 0; i < open_choices_; ++i) {
    choices_.push_back({.decoder = ChoiceDecoder(spec_), .whole = {}});
    choices_.back().whole.choice = static_cast<int32_t>(i);
  }
}

void Generation::open() {
  exchange_->on_client_gone([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self || self->ended_) return;
    self->end_metrics(RequestEnd::kAbort);
    self->close_all();
  });
  for (size_t i = 0; i < spec_.prompts.size() && !ended_; ++i) {
    GenerateRequest request;
    request.id = front_.next_id();
    request.prompt = spec_.prompts[i].ids;
    request.params = spec_.params;
    request.cache_salt = spec_.cache_salt;
    request.tenant = spec_.tenant;
    request.priority = spec_.priority;
    request.deadline_ns = spec_.deadline_ns;
    requests_.push_back(request.id);
    const Status status =
        front_.open(std::move(request), std::make_shared<Sink>(shared_from_this(), static_cast<int32_t>(i)));
    if (!status.ok()) {
      requests_.pop_back();
      return fail(status);
    }
  }
  last_write_ns_ = monotonic_ns();
  if (!ended_) arm_timer();
}

void Generation::post_event(Event event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    if (std::exchange(posted_, true)) return;
  }
  exchange_->post([self = shared_from_this()] { self->drain(); });
}

void Generation::drain() {
  std::vector<Event> events;
  {
    const std::lock_guard lock(mutex_);
    events.swap(events_);
    posted_ = false;
  }
  std::string out;
  for (Event& event : events) {
    if (ended_) return;
    take(event, out);
  }
  if (ended_) return;
  if (!out.empty()) {
    start_stream();
    last_write_ns_ = monotonic_ns();
    if (!exchange_->write(out)) return;  // on_client_gone has closed everything
  }
  if (open_choices_ == 0) finish();
}

void Generation::take(Event& event, std::string& out) {
  if (!event.refused.ok()) return fail(event.refused);
  if (event.is_prompt_logprobs) return take_prompt_logprobs(event);
  const size_t index = static_cast<size_t>(event.prompt) * static_cast<size_t>(spec_.params.n) +
                       static_cast<size_t>(event.token.choice);
  Choice& choice = choices_[index];
  if (choice.finished) return;
  if (event.token.finish == FinishReason::kError || event.token.finish == FinishReason::kCancelled) {
    // What was generated so far is shown before the error.
    if (streaming_ && !out.empty()) exchange_->write(std::exchange(out, {}));
    if (spec_.deadline_ns != 0 && monotonic_ns() >= spec_.deadline_ns)
      return fail(408, "the request's deadline passed");
    const bool cancelled = event.token.finish == FinishReason::kCancelled;
    const std::string_view text = event.token.error;
    return fail(cancelled ? 503 : 500, text.empty() ? "the generation was cancelled" : text);
  }
  observe(event, choice);
  ChoiceDelta piece;
  piece.choice = static_cast<int32_t>(index);
  ChoiceDelta& delta = spec_.stream ? piece : choice.whole;
  const bool ended_by_event = event.token.finish != FinishReason::kNone;
  const int32_t choice_of_request = event.token.choice;
  choice.decoder.push(std::move(event.token), delta);
  if (spec_.stream) {
    if (!choice.started) reply_->start_choice(out, delta.choice);
    choice.started = true;
    if (!delta.empty()) reply_->delta(out, delta);
  }
  if (delta.finish == FinishReason::kNone) return;
  choice.finished = true;
  if (delta.finish == FinishReason::kLength) ended_by_length_ = true;
  --open_choices_;
  if (!ended_by_event) front_.close(requests_[static_cast<size_t>(event.prompt)], choice_of_request);
}

void Generation::take_prompt_logprobs(Event& event) {
  std::vector<LogprobItem> items;
  const std::vector<TokenId>& ids = spec_.prompts[static_cast<size_t>(event.prompt)].ids;
  items.push_back({.id = ids.front(), .logprob = {}, .top = {}});
  PromptLogprobs& logprobs = event.prompt_logprobs;
  for (size_t i = 0; i < logprobs.tokens.size(); ++i) {
    LogprobItem item{.id = logprobs.tokens[i].id, .logprob = logprobs.tokens[i].logprob, .top = {}};
    if (i < logprobs.top.size()) item.top = std::move(logprobs.top[i]);
    items.push_back(std::move(item));
  }
  reply_->prompt_logprobs(event.prompt, std::move(items));
}

void Generation::observe(const Event& event, Choice& choice) {
  const TokenEvent& token = event.token;
  if (token.token >= 0) {
    metrics_.generation_tokens(1);
    if (choice.first_token_ns == 0) {
      choice.first_token_ns = event.at_ns;
      metrics_.time_to_first_token(seconds(event.at_ns - spec_.arrival_ns));
    } else {
      metrics_.inter_token_latency(seconds(event.at_ns - choice.last_token_ns));
    }
    choice.last_token_ns = event.at_ns;
  }
  if (token.index == 0) {
    metrics_.queue_time(seconds(token.queue_ns));
    metrics_.prefill_time(seconds(token.prefill_ns));
    if (token.choice == 0) {
      const size_t prompt = spec_.prompts[static_cast<size_t>(event.prompt)].ids.size();
      metrics_.prompt_tokens(static_cast<int64_t>(prompt));
      cached_tokens_ += token.cached_prompt_tokens;
    }
  }
  accepted_drafts_ += token.accepted_drafts;
  rejected_drafts_ += token.rejected_drafts;
  if (token.finish != FinishReason::kNone) metrics_.decode_time(seconds(token.decode_ns));
}

void Generation::start_stream() {
  if (std::exchange(streaming_, true)) return;
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  exchange_->start_stream(std::move(head));
}

Usage Generation::usage() const {
  Usage usage{.cached_tokens = cached_tokens_,
              .accepted_drafts = accepted_drafts_,
              .rejected_drafts = rejected_drafts_};
  for (const PromptInput& prompt : spec_.prompts)
    usage.prompt_tokens += static_cast<int64_t>(prompt.ids.size());
  for (const Choice& choice : choices_) {
    usage.completion_tokens += choice.decoder.tokens();
    usage.reasoning_tokens += choice.decoder.reasoning_tokens();
  }
  return usage;
}

void Generation::finish() {
  ended_ = true;
  const Usage total = usage();
  if (spec_.stream) {
    std::string out;
    if (spec_.include_usage) reply_->usage(out, total);
    out += "data: [DONE]\n\n";
    start_stream();
    exchange_->write(out);
    exchange_->end_stream();
  } else {
    std::vector<ChoiceDelta> choices;
    choices.reserve(choices_.size());
    for (Choice& choice : choices_) choices.push_back(std::move(choice.whole));
    HttpResponse response;
    response.body = reply_->whole(choices, total);
    exchange_->respond(std::move(response));
  }
  metrics_.request_size(total.prompt_tokens, total.completion_tokens);
  for (const Choice& choice : choices_) {
    const int64_t tokens = choice.decoder.tokens();
    if (tokens > 1) {
      metrics_.time_per_output_token(seconds(choice.last_token_ns - choice.first_token_ns) /
                                     static_cast<double>(tokens - 1));
    }
  }
  end_metrics(ended_by_length_ ? RequestEnd::kLength : RequestEnd::kStop);
}

void Generation::end_metrics(RequestEnd end) {
  metrics_.request_end(end, seconds(monotonic_ns() - spec_.arrival_ns));
}

void Generation::fail(int status, std::string_view message) {
  end_metrics(RequestEnd::kError);
  close_all();
  if (!streaming_) return exchange_->respond(error_response(status, message));
  // The SDKs read an error event; [DONE] would call the answer complete.
  exchange_->write(fmt::format("data: {}\n\n", error_body(status, message)));
  exchange_->end_stream();
}

void Generation::fail(const Status& status) {
  if (streaming_) return fail(http_status(status.code()), status.message());
  end_metrics(RequestEnd::kError);
  close_all();
  const int retry_after = retry_after_seconds(front_.stats().queue_wait_s);
  exchange_->respond(error_response(status, exchange_->request().id, retry_after));
}

void Generation::close_all() {
  ended_ = true;
  for (const RequestId id : requests_) front_.close(id);
  requests_.clear();
}

void Generation::arm_timer() {
  int64_t wait_ms = int64_t{limits::kStreamKeepAliveSeconds} * 1000;
  if (spec_.deadline_ns != 0) {
    wait_ms = std::clamp<int64_t>((spec_.deadline_ns - monotonic_ns()) / 1'000'000, 0, wait_ms);
  }
  exchange_->run_after(wait_ms, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->tick();
  });
}

void Generation::tick() {
  if (ended_) return;
  const int64_t now = monotonic_ns();
  if (spec_.deadline_ns != 0 && now >= spec_.deadline_ns) return fail(408, "the request's deadline passed");
  if (spec_.stream && now - last_write_ns_ >= int64_t{limits::kStreamKeepAliveSeconds} * 1'000'000'000) {
    start_stream();
    last_write_ns_ = now;
    if (!exchange_->write(": waiting\n\n")) return;
  }
  arm_timer();
}

}  // namespace gantry
