// One generation on its way: submits the prompts to the front, takes their tokens, and answers over HTTP,
// streamed or whole. A client that goes away, a deadline, or an error ends it and frees what it holds.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "control/front.h"
#include "server/choice_decoder.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/reply.h"

namespace gantry {

// Makes the route's reply for a spec that stays where it is.
using MakeReply = std::unique_ptr<Reply> (*)(const GenerationSpec& spec, std::string id, int64_t created);

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Where the exchange's functions may be called; so is everything below but the sinks.
  static void start(std::shared_ptr<HttpExchange> exchange, GenerationSpec spec, MakeReply make_reply,
                    std::string id_prefix);

  Generation(std::shared_ptr<HttpExchange> exchange, GenerationSpec spec, MakeReply make_reply,
             std::string id_prefix);

 private:
  class Sink;
  struct Event {
    int32_t prompt = 0;
    bool is_prompt_logprobs = false;
    TokenEvent token;
    PromptLogprobs prompt_logprobs;
    Status refused;
    int64_t at_ns = 0;
  };
  struct Choice {
    ChoiceDecoder decoder;
    ChoiceDelta whole;  // of an answer that is not streamed
    int64_t first_token_ns = 0;
    int64_t last_token_ns = 0;
    bool started = false;
    bool finished = false;
  };

  void open();
  void post_event(Event event);  // any thread
  void drain();
  void take(Event& event, std::string& out);
  void take_prompt_logprobs(Event& event);
  void observe(const Event& event, Choice& choice);
  void start_stream();
  void finish();
  void fail(int status, std::string_view message);
  void fail(const Status& status);
  void close_all();
  void tick();
  void arm_timer();
  Usage usage() const;
  void end_metrics(RequestEnd end);

  const std::shared_ptr<HttpExchange> exchange_;
  const GenerationSpec spec_;
  const std::unique_ptr<Reply> reply_;
  Front& front_;
  ModelMetrics& metrics_;
  std::vector<RequestId> requests_;  // by prompt
  std::vector<Choice> choices_;      // prompt x n + choice
  size_t open_choices_ = 0;
  int64_t cached_tokens_ = 0;
  int64_t accepted_drafts_ = 0;
  int64_t rejected_drafts_ = 0;
  int64_t last_write_ns_ = 0;
  bool streaming_ = false;        // the head has been sent
  bool ended_by_length_ = false;  // of any choice
  bool ended_ = false;

  std::mutex mutex_;
  std::vector<Event> events_;  // under mutex_
  bool posted_ = false;        // under mutex_: drain() is on its way
};

}  // namespace gantry
