// A whole server before a scripted replica, for the tests of the routes. Its vocabulary is the 256 bytes and
// a few added tokens, so that a text's ids are its bytes.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "chat/chat_template.h"
#include "control/front.h"
#include "server/fake_replica.h"
#include "server/server.h"
#include "server/test_client.h"
#include "text/tokenizer.h"

namespace gantry {

class ApiTest : public testing::Test {
 protected:
  static constexpr TokenId kImStart = 256;
  static constexpr TokenId kImEnd = 257;
  static constexpr TokenId kThink = 258;
  static constexpr TokenId kEndThink = 259;
  static constexpr int32_t kContext = 512;
  static constexpr int32_t kVocab = 260;

  void SetUp() override { start({}); }
  void TearDown() override { server_.reset(); }

  static VocabSpec vocabulary() {
    VocabSpec spec;
    for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
    spec.added = {{.id = kImStart, .content = "<|im_start|>", .special = true},
                  {.id = kImEnd, .content = "<|im_end|>", .special = true},
                  {.id = kThink, .content = "<think>"},
                  {.id = kEndThink, .content = "</think>"}};
    spec.bos = kImStart;
    spec.eos = {kImEnd};
    return spec;
  }

  void start(ServerOptions options, bool with_tokenizer = true) {
    server_.reset();
    front_.reset();
    replica_ = std::make_unique<FakeReplica>(
        ReplicaInfo{.model_id = "fake", .max_model_len = kContext, .vocab_size = kVocab},
        [this](const GenerateRequest&, int32_t, int32_t index) {
          return static_cast<size_t>(index) < script_.size() ? script_[static_cast<size_t>(index)] : -1;
        });
    front_ = std::make_unique<Front>(*replica_);
    options.http.port = 0;
    options.version = "1.2.3";
    Result<std::unique_ptr<Server>> server = Server::start(options);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(server).value();
    ASSERT_TRUE(server_->models().add("org/fake").ok());
    if (with_tokenizer) {
      Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(vocabulary());
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
      tokenizer_ = std::move(tokenizer).value();
      Result<std::unique_ptr<ChatTemplate>> chat = ChatTemplate::parse(template_source_);
      ASSERT_TRUE(chat.ok()) << chat.status().message();
      template_ = std::move(chat).value();
    }
    ServedModel model{.id = "org/fake", .aliases = {"fake"}, .front = front_.get()};
    model.tokenizer = with_tokenizer ? tokenizer_.get() : nullptr;
    model.chat_template = with_tokenizer ? template_.get() : nullptr;
    model.defaults = defaults_;
    ASSERT_TRUE(server_->models().publish(std::move(model)).ok());
  }

  // What the model says from now on, before its end token.
  void say(std::string_view text) {
    script_.clear();
    for (const char c : text) script_.push_back(static_cast<unsigned char>(c));
  }

  TestAnswer post(const std::string& path, const std::string& body, const std::string& fields = {}) {
    TestClient client(server_->port());
    client.post(path, body, fields);
    return client.answer();
  }
  TestAnswer get(const std::string& path, const std::string& fields = {}) {
    TestClient client(server_->port());
    client.get(path, fields);
    return client.answer();
  }
  // A request that must succeed; `parameters` is what follows the prompt, e.g. R"("n": 2)".
  nlohmann::json complete(const std::string& parameters) {
    return parse(post("/v1/completions", R"({"model": "org/fake", "prompt": "hi", )" + parameters + "}"));
  }
  nlohmann::json chat(const std::string& parameters) {
    return parse(post("/v1/chat/completions", chat_body(parameters)));
  }
  static std::string chat_body(const std::string& parameters) {
    return R"({"model": "org/fake", "messages": [{"role": "user", "content": "hi"}], )" + parameters + "}";
  }
  static nlohmann::json parse(const TestAnswer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    return nlohmann::json::parse(answer.body, nullptr, false);
  }
  // The chunks of a stream; the last must be [DONE].
  static std::vector<nlohmann::json> chunks(const TestAnswer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    std::vector<nlohmann::json> out;
    bool done = false;
    for (size_t pos = 0; pos < answer.body.size();) {
      const size_t end = answer.body.find("\n\n", pos);
      if (end == std::string::npos) break;
      const std::string event = answer.body.substr(pos, end - pos);
      pos = end + 2;
      if (event.starts_with(":")) continue;
      EXPECT_TRUE(event.starts_with("data: ")) << event;
      EXPECT_FALSE(done) << "an event follows [DONE]";
      done = event == "data: [DONE]";
      if (!done) out.push_back(nlohmann::json::parse(event.substr(6), nullptr, false));
    }
    EXPECT_TRUE(done) << answer.body;
    return out;
  }
  GenerateRequest submitted() const { return replica_->last_request(); }

  std::vector<TokenId> script_;
  SamplingDefaults defaults_;
  std::string template_source_ =
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% "
      "endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> template_;
  std::unique_ptr<FakeReplica> replica_;
  std::unique_ptr<Front> front_;
  std::unique_ptr<Server> server_;
};

}  // namespace gantry
