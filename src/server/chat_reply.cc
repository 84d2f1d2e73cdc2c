#include "server/reply.h"

namespace gantry {
namespace {

class ChatReply : public Reply {
 public:
  ChatReply(const GenerationSpec& spec, std::string id, int64_t created) : spec_(spec) {
    JsonWriter chunk(chunk_head_);
    write_head(chunk, id, "chat.completion.chunk", created);
    JsonWriter body(body_head_);
    write_head(body, id, "chat.completion", created);
  }

  void start_choice(std::string& out, int32_t choice) override {
    begin_chunk(out);
    JsonWriter json(out);
    json.object().key("index").value(choice).key("delta").object();
    json.key("role").value("assistant").key("content").value("").end_object();
    json.key("logprobs").null().key("finish_reason").null().end_object();
    const bool first = choice == 0 && spec_.return_token_ids;
    end_chunk(out, first ? &spec_.prompts.front().ids : nullptr);
  }

  void delta(std::string& out, const ChoiceDelta& delta) override {
    begin_chunk(out);
    JsonWriter json(out);
    json.object().key("index").value(delta.choice).key("delta").object();
    if (!delta.content.empty()) json.key("content").value(delta.content);
    write_reasoning(json, delta);
    json.end_object().key("logprobs");
    write_logprobs(json, delta);
    json.key("finish_reason");
    write_finish_reason(json, delta.finish);
    write_tail(json, delta);
    json.end_object();
    end_chunk(out, nullptr);
  }

  void usage(std::string& out, const Usage& usage) override {
    out.append("data: ").append(chunk_head_).append(R"(,"choices":[],"usage":)");
    JsonWriter json(out);
    write_usage(json, usage);
    out += "}\n\n";
  }

  std::string whole(const std::vector<ChoiceDelta>& choices, const Usage& usage) override {
    std::string out = body_head_ + R"(,"choices":)";
    JsonWriter json(out);
    json.array();
    for (const ChoiceDelta& choice : choices) {
      json.object().key("index").value(choice.choice).key("message").object();
      json.key("role").value("assistant").key("content").value(choice.content).key("refusal").null();
      write_reasoning(json, choice);
      json.end_object().key("logprobs");
      write_logprobs(json, choice);
      json.key("finish_reason");
      write_finish_reason(json, choice.finish);
      write_tail(json, choice);
      json.end_object();
    }
    json.end_array();
    if (spec_.return_token_ids) {
      json.key("prompt_token_ids");
      write_token_ids(json, spec_.prompts.front().ids);
    }
    json.key("usage");
    write_usage(json, usage);
    return out += '}';
  }

 private:
  // Up to the choices, without the closing brace.
  void write_head(JsonWriter& json, const std::string& id, const char* object, int64_t created) {
    json.object().key("id").value(id).key("object").value(object);
    json.key("created").value(created).key("model").value(spec_.model_name);
  }

  void begin_chunk(std::string& out) { out.append("data: ").append(chunk_head_).append(R"(,"choices":[)"); }

  void end_chunk(std::string& out, const std::vector<TokenId>* prompt_ids) {
    out += ']';
    if (prompt_ids != nullptr) {
      out += R"(,"prompt_token_ids":)";
      JsonWriter json(out);
      write_token_ids(json, *prompt_ids);
    }
    if (spec_.include_usage) out += R"(,"usage":null)";
    out += "}\n\n";
  }

  // Under DeepSeek's name and vllm's.
  void write_reasoning(JsonWriter& json, const ChoiceDelta& delta) {
    if (delta.reasoning.empty()) return;
    json.key("reasoning_content").value(delta.reasoning).key("reasoning").value(delta.reasoning);
  }

  void write_tail(JsonWriter& json, const ChoiceDelta& delta) {
    if (delta.finish != FinishReason::kNone) {
      json.key("stop_reason");
      write_stop_reason(json, delta);
    }
    if (spec_.return_token_ids) {
      json.key("token_ids");
      write_token_ids(json, delta.ids);
    }
  }

  void write_token(JsonWriter& json, TokenId id, float logprob) {
    const Tokenizer* tokenizer = spec_.model->served.tokenizer;
    json.object().key("token").value(token_text(tokenizer, id)).key("logprob").value(shown_logprob(logprob));
    json.key("bytes");
    if (tokenizer == nullptr) {
      json.null();
      return;
    }
    json.array();
    for (const char byte : tokenizer->bytes(id))
      json.value(static_cast<int>(static_cast<unsigned char>(byte)));
    json.end_array();
  }

  void write_logprobs(JsonWriter& json, const ChoiceDelta& delta) {
    if (spec_.params.logprobs < 0 || delta.logprobs.empty()) {
      json.null();
      return;
    }
    json.object().key("content").array();
    for (const LogprobItem& item : delta.logprobs) {
      write_token(json, item.id, item.logprob.value_or(0));
      json.key("top_logprobs").array();
      for (const TokenLogprob& top : item.top) {
        write_token(json, top.id, top.logprob);
        json.end_object();
      }
      json.end_array().end_object();
    }
    json.end_array().key("refusal").null().end_object();
  }

  const GenerationSpec& spec_;
  std::string chunk_head_;
  std::string body_head_;
};

}  // namespace

std::unique_ptr<Reply> make_chat_reply(const GenerationSpec& spec, std::string id, int64_t created) {
  return std::make_unique<ChatReply>(spec, std::move(id), created);
}

}  // namespace gantry
