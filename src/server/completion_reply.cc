#include <fmt/format.h>

#include <map>

#include "server/reply.h"

namespace gantry {
namespace {

// Offsets count code points, as OpenAI's do.
int64_t code_points(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

bool well_formed(std::string_view text) {
  std::string json;
  append_json_string(json, text);
  return text.find("\xEF\xBF\xBD") != std::string_view::npos ||
         json.find("\xEF\xBF\xBD") == std::string::npos;
}

class CompletionReply : public Reply {
 public:
  CompletionReply(const GenerationSpec& spec, std::string id, int64_t created)
      : spec_(spec), tokenizer_(spec.model->served.tokenizer), prompt_items_(spec.prompts.size()) {
    JsonWriter json(head_);
    json.object().key("id").value(id).key("object").value("text_completion");
    json.key("created").value(created).key("model").value(spec.model_name);
    offsets_.resize(spec.prompts.size() * static_cast<size_t>(spec.params.n));
  }

  void prompt_logprobs(int32_t prompt, std::vector<LogprobItem> items) override {
    prompt_items_[static_cast<size_t>(prompt)] = std::move(items);
  }

  void start_choice(std::string& out, int32_t choice) override {
    if (!spec_.echo && !spec_.return_token_ids) return;
    ChoiceDelta none;
    none.choice = choice;
    begin_chunk(out);
    JsonWriter json(out);
    write_choice(json, none, true, true);
    end_chunk(out);
  }

  void delta(std::string& out, const ChoiceDelta& delta) override {
    begin_chunk(out);
    JsonWriter json(out);
    write_choice(json, delta, false, false);
    end_chunk(out);
  }

  void usage(std::string& out, const Usage& usage) override {
    out.append("data: ").append(head_).append(R"(,"choices":[],"usage":)");
    JsonWriter json(out);
    write_usage(json, usage);
    out += "}\n\n";
  }

  std::string whole(const std::vector<ChoiceDelta>& choices, const Usage& usage) override {
    std::string out = head_ + R"(,"choices":)";
    JsonWriter json(out);
    json.array();
    for (const ChoiceDelta& choice : choices) write_choice(json, choice, spec_.echo, spec_.return_token_ids);
    json.end_array().key("usage");
    write_usage(json, usage);
    return out += '}';
  }

 private:
  void begin_chunk(std::string& out) { out.append("data: ").append(head_).append(R"(,"choices":[)"); }
  void end_chunk(std::string& out) {
    out += ']';
    if (spec_.include_usage) out += R"(,"usage":null)";
    out += "}\n\n";
  }

  const PromptInput& prompt_of(int32_t choice) const {
    return spec_.prompts[static_cast<size_t>(choice / spec_.params.n)];
  }

  void write_choice(JsonWriter& json, const ChoiceDelta& delta, bool with_prompt, bool with_prompt_ids) {
    const bool echoed = with_prompt && spec_.echo;
    const PromptInput& prompt = prompt_of(delta.choice);
    json.object().key("index").value(delta.choice).key("text");
    json.value(echoed ? prompt.text + delta.content : delta.content).key("logprobs");
    write_logprobs(json, delta, echoed);
    json.key("finish_reason");
    write_finish_reason(json, delta.finish);
    if (delta.finish != FinishReason::kNone) {
      json.key("stop_reason");
      write_stop_reason(json, delta);
    }
    if (spec_.return_token_ids) {
      json.key("token_ids");
      write_token_ids(json, delta.ids);
      if (with_prompt_ids) {
        json.key("prompt_token_ids");
        write_token_ids(json, prompt.ids);
      }
    }
    json.end_object();
  }

  // Tokens that are no text by themselves are told apart by their bytes.
  std::string name_of(TokenId id) const {
    std::string text = token_text(tokenizer_, id);
    if (well_formed(text)) return text;
    std::string out = "bytes:";
    for (const char c : text) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return out;
  }

  void write_top(JsonWriter& json, const LogprobItem& item) const {
    if (!item.logprob) {
      json.null();
      return;
    }
    // The token itself is always there. By name, since two tokens must not share a key.
    std::map<std::string, float> seen;
    json.object();
    const auto add = [&](TokenId id, float logprob) {
      std::string name = name_of(id);
      if (!seen.emplace(name, logprob).second) return;
      json.key(name).value(shown_logprob(logprob));
    };
    for (const TokenLogprob& top : item.top) add(top.id, top.logprob);
    add(item.id, *item.logprob);
    json.end_object();
  }

  void write_offsets(JsonWriter& json, const ChoiceDelta& delta,
                     const std::vector<const LogprobItem*>& items) {
    int64_t& offset = offsets_[static_cast<size_t>(delta.choice)];
    std::string_view echoed = prompt_of(delta.choice).text;
    const size_t generated = items.size() - delta.logprobs.size();  // where the generated tokens start
    for (size_t i = 0; i < items.size(); ++i) {
      json.value(offset);
      if (tokenizer_ == nullptr) continue;
      const std::string_view bytes = tokenizer_->bytes(items[i]->id);
      // A control token is part of a prompt's text if the client wrote it, and never of generated text.
      const bool shown =
          i < generated ? echoed.substr(0, bytes.size()) == bytes : !tokenizer_->is_special(items[i]->id);
      if (shown) offset += code_points(bytes);
      if (shown && i < generated) echoed.remove_prefix(bytes.size());
    }
  }

  void write_logprobs(JsonWriter& json, const ChoiceDelta& delta, bool echoed) {
    std::vector<const LogprobItem*> items;
    if (echoed && spec_.params.logprobs >= 0) {
      for (const LogprobItem& item : prompt_items_[static_cast<size_t>(delta.choice / spec_.params.n)]) {
        items.push_back(&item);
      }
    }
    for (const LogprobItem& item : delta.logprobs) items.push_back(&item);
    if (spec_.params.logprobs < 0 || items.empty()) {
      json.null();
      return;
    }
    json.object().key("text_offset").array();
    write_offsets(json, delta, items);
    json.end_array().key("tokens").array();
    for (const LogprobItem* item : items) json.value(name_of(item->id));
    json.end_array().key("token_logprobs").array();
    for (const LogprobItem* item : items) {
      if (item->logprob) {
        json.value(shown_logprob(*item->logprob));
      } else {
        json.null();
      }
    }
    json.end_array().key("top_logprobs").array();
    for (const LogprobItem* item : items) write_top(json, *item);
    json.end_array().end_object();
  }

  const GenerationSpec& spec_;
  const Tokenizer* tokenizer_;
  std::vector<std::vector<LogprobItem>> prompt_items_;
  std::vector<int64_t> offsets_;  // of the next token, per choice
  std::string head_;
};

}  // namespace

std::unique_ptr<Reply> make_completion_reply(const GenerationSpec& spec, std::string id, int64_t created) {
  return std::make_unique<CompletionReply>(spec, std::move(id), created);
}

}  // namespace gantry
