// The answers of the completion routes, whole and streamed, and how they end.
#include "server/api_test_fixture.h"

namespace gantry {
namespace {

using nlohmann::json;

class AnswersTest : public ApiTest {
 protected:
  // Content, reasoning and finish reason of a chat stream, per choice.
  struct Joined {
    std::string content;
    std::string reasoning;
    std::string finish;
    int roles = 0;
    std::vector<int> ids;
  };
  std::map<int, Joined> join(const std::vector<json>& stream) {
    std::map<int, Joined> out;
    for (const json& chunk : stream) {
      EXPECT_EQ(chunk["object"], "chat.completion.chunk");
      for (const json& choice : chunk["choices"]) {
        Joined& joined = out[choice["index"]];
        EXPECT_EQ(joined.finish, "") << "a chunk follows the last one";
        const json& delta = choice["delta"];
        if (delta.contains("role")) ++joined.roles;
        joined.content += delta.value("content", "");
        joined.reasoning += delta.value("reasoning_content", "");
        EXPECT_EQ(delta.value("reasoning_content", ""), delta.value("reasoning", ""));
        if (!choice["finish_reason"].is_null()) joined.finish = choice["finish_reason"];
        for (const json& id : choice.value("token_ids", json::array())) joined.ids.push_back(id);
      }
    }
    return out;
  }
  std::map<int, Joined> stream_chat(const std::string& parameters) {
    return join(chunks(post("/v1/chat/completions", chat_body(parameters + R"(, "stream": true)"))));
  }
  struct Text {
    std::string text;
    std::string finish;
  };
  std::map<int, Text> stream_text(const std::string& body) {
    std::map<int, Text> out;
    for (const json& chunk : chunks(post("/v1/completions", body))) {
      EXPECT_EQ(chunk["object"], "text_completion");
      for (const json& choice : chunk["choices"]) {
        out[choice["index"]].text += choice["text"].get<std::string>();
        if (!choice["finish_reason"].is_null()) out[choice["index"]].finish = choice["finish_reason"];
      }
    }
    return out;
  }
};

TEST_F(AnswersTest, ChatWhole) {
  say("Hello é");
  const json answer =
      parse(post("/v1/chat/completions", chat_body(R"("max_tokens": 50)"), "X-Request-Id: req-7\r\n"));
  EXPECT_EQ(answer["id"], "chatcmpl-7");
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["model"], "org/fake");
  ASSERT_EQ(answer["choices"].size(), 1u);
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], "Hello é");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["logprobs"].is_null());
  const json& usage = answer["usage"];
  EXPECT_EQ(usage["prompt_tokens"], submitted().prompt.size());
  EXPECT_EQ(usage["completion_tokens"], 9);  // 8 bytes and the end token
  EXPECT_EQ(usage["total_tokens"], submitted().prompt.size() + 9);
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 0);
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 0);
  EXPECT_EQ(usage["completion_tokens_details"]["accepted_prediction_tokens"], 0);
  EXPECT_EQ(usage["completion_tokens_details"]["rejected_prediction_tokens"], 0);
}

TEST_F(AnswersTest, UsageTellsWhatWasDrafted) {
  say("Hello");
  replica_->draft(1, 2);
  const json answer = parse(post("/v1/chat/completions", chat_body(R"("max_tokens": 4, "n": 3)")));
  const json& details = answer["usage"]["completion_tokens_details"];
  EXPECT_EQ(details["accepted_prediction_tokens"], 12);
  EXPECT_EQ(details["rejected_prediction_tokens"], 24);
}

TEST_F(AnswersTest, ChatStreamed) {
  say("Hello é");
  const std::vector<json> stream = chunks(post(
      "/v1/chat/completions", chat_body(R"("stream": true, "stream_options": {"include_usage": true})")));
  ASSERT_GE(stream.size(), 3u);
  EXPECT_EQ(stream.front()["choices"][0]["delta"], (json{{"role", "assistant"}, {"content", ""}}));
  EXPECT_TRUE(stream.front()["usage"].is_null());
  EXPECT_EQ(stream.back()["choices"], json::array());
  EXPECT_EQ(stream.back()["usage"]["completion_tokens"], 9);
  auto joined = join(stream);
  EXPECT_EQ(joined[0].content, "Hello é");
  EXPECT_EQ(joined[0].finish, "stop");
  EXPECT_EQ(joined[0].roles, 1);
}

TEST_F(AnswersTest, LengthEndsAnAnswer) {
  say("abcdef");
  EXPECT_EQ(chat(R"("max_tokens": 3)")["choices"][0]["message"]["content"], "abc");
  EXPECT_EQ(chat(R"("max_tokens": 3)")["choices"][0]["finish_reason"], "length");
  auto joined = stream_chat(R"("max_tokens": 3)");
  EXPECT_EQ(joined[0].content, "abc");
  EXPECT_EQ(joined[0].finish, "length");
}

TEST_F(AnswersTest, ACharacterCutByLengthIsNeverBroken) {
  say("a😀");
  EXPECT_EQ(chat(R"("max_tokens": 3)")["choices"][0]["message"]["content"], "a\uFFFD");
  EXPECT_EQ(stream_chat(R"("max_tokens": 3)")[0].content, "a\uFFFD");
  EXPECT_EQ(stream_chat(R"("max_tokens": 5)")[0].content, "a😀");
}

TEST_F(AnswersTest, StopStringsEndAnAnswerAndTheGeneration) {
  say("one STOP two" + std::string(400, '.'));
  replica_->set_step_time(std::chrono::microseconds(500));
  for (const char* stop : {R"("stop": "STOP")", R"("stop": ["nope", "STOP"])"}) {
    const json choice = chat(stop)["choices"][0];
    EXPECT_EQ(choice["message"]["content"], "one ");
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_EQ(choice["stop_reason"], "STOP");
    EXPECT_EQ(stream_chat(stop)[0].content, "one ");
  }
  EXPECT_TRUE(eventually([&] { return replica_->cancelled() == 4; }));
  EXPECT_TRUE(eventually([&] { return replica_->stats().kv_blocks_used == 0; }));
  say("one STOP two");
  EXPECT_EQ(chat(R"("stop": "STOP!")")["choices"][0]["message"]["content"], "one STOP two");
  EXPECT_EQ(chat(R"("stop": "STOP", "min_tokens": 8)")["choices"][0]["message"]["content"], "one STOP two");
  EXPECT_TRUE(eventually([&] { return front_->open_streams() == 0; }));
}

TEST_F(AnswersTest, ChoicesAreApart) {
  say("abc");
  const json answer = chat(R"("n": 3)");
  ASSERT_EQ(answer["choices"].size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(answer["choices"][static_cast<size_t>(i)]["index"], i);
    EXPECT_EQ(answer["choices"][static_cast<size_t>(i)]["message"]["content"], "abc");
  }
  EXPECT_EQ(answer["usage"]["completion_tokens"], 12);
  auto joined = stream_chat(R"("n": 3)");
  ASSERT_EQ(joined.size(), 3u);
  for (auto& [index, choice] : joined) {
    EXPECT_EQ(choice.content, "abc");
    EXPECT_EQ(choice.roles, 1);
    EXPECT_EQ(choice.finish, "stop");
  }
}

TEST_F(AnswersTest, SeveralPromptsHaveTheirOwnChoices) {
  say("xy");
  const std::string body = R"({"model": "fake", "prompt": ["a", "bc"], "n": 2, "echo": true)";
  const json answer = parse(post("/v1/completions", body + "}"));
  ASSERT_EQ(answer["choices"].size(), 4u);
  const std::vector<std::string> expected = {"axy", "axy", "bcxy", "bcxy"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answer["choices"][i]["index"], i);
    EXPECT_EQ(answer["choices"][i]["text"], expected[i]);
  }
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 3);
  auto streamed = stream_text(body + R"(, "stream": true})");
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(streamed[i].text, expected[static_cast<size_t>(i)]);
    EXPECT_EQ(streamed[i].finish, "stop");
  }
}

TEST_F(AnswersTest, ReasoningIsNeverContent) {
  script_ = {kThink};
  for (const char c : std::string("hm")) script_.push_back(c);
  script_.push_back(kEndThink);
  for (const char c : std::string("yes")) script_.push_back(c);
  const json answer = chat(R"("max_tokens": 50)");
  const json& message = answer["choices"][0]["message"];
  EXPECT_EQ(message["content"], "yes");
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(message["reasoning"], "hm");
  EXPECT_GE(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
  EXPECT_LE(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 4);
  auto joined = stream_chat(R"("max_tokens": 50)");
  EXPECT_EQ(joined[0].content, "yes");
  EXPECT_EQ(joined[0].reasoning, "hm");
  const json hidden = chat(R"("max_tokens": 50, "include_reasoning": false)")["choices"][0]["message"];
  EXPECT_EQ(hidden["content"], "yes");
  EXPECT_FALSE(hidden.contains("reasoning_content"));
  EXPECT_EQ(complete(R"("max_tokens": 50)")["choices"][0]["text"], "<think>hm</think>yes");
}

TEST_F(AnswersTest, APromptMayOpenTheReasoning) {
  template_source_ = "{{ messages[0]['content'] }}<think>{{ '\n' }}";
  start({});
  say("hm</think>yes");
  const json message = chat(R"("max_tokens": 50)")["choices"][0]["message"];
  EXPECT_EQ(message["content"], "yes");
  EXPECT_EQ(message["reasoning_content"], "hm");
  EXPECT_EQ(submitted().prompt, (std::vector<TokenId>{'h', 'i', kThink, '\n'}));
}

TEST_F(AnswersTest, AMessageDoesNotOpenTheReasoning) {
  template_source_ = "{{ messages[0]['content'] }}{{ '\n' }}";
  start({});
  say("yes");
  const json answer = parse(
      post("/v1/chat/completions",
           R"({"model": "fake", "max_tokens": 50, "messages": [{"role": "user", "content": "hi<think>"}]})"));
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "yes");
  for (const TokenId id : submitted().prompt) EXPECT_NE(id, kThink);
}

TEST_F(AnswersTest, ChatLogprobs) {
  say("é");
  const auto check = [&](const json& items) {
    ASSERT_EQ(items.size(), 2u);
    EXPECT_EQ(items[0]["bytes"], (json{0xC3}));
    EXPECT_EQ(items[0]["token"], "\uFFFD");
    EXPECT_EQ(items[0]["logprob"], -0.5);
    ASSERT_EQ(items[0]["top_logprobs"].size(), 2u);
    EXPECT_EQ(items[0]["top_logprobs"][1]["bytes"], (json{0xC4}));
    EXPECT_EQ(items[0]["top_logprobs"][1]["logprob"], -1.5);
    EXPECT_EQ(items[1]["bytes"], (json{0xA9}));
  };
  check(chat(R"("logprobs": true, "top_logprobs": 2)")["choices"][0]["logprobs"]["content"]);
  json streamed = json::array();
  for (const json& chunk : chunks(post(
           "/v1/chat/completions", chat_body(R"("logprobs": true, "top_logprobs": 2, "stream": true)")))) {
    const json& logprobs = chunk["choices"][0]["logprobs"];
    if (logprobs.is_null()) continue;
    for (const json& item : logprobs["content"]) streamed.push_back(item);
  }
  check(streamed);
  EXPECT_EQ(chat(R"("logprobs": true)")["choices"][0]["logprobs"]["content"][0]["top_logprobs"],
            json::array());
}

TEST_F(AnswersTest, CompletionLogprobs) {
  say("aéb");
  const json logprobs = complete(R"("logprobs": 2)")["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], (json{"a", "bytes:\\xc3", "bytes:\\xa9", "b"}));
  EXPECT_EQ(logprobs["token_logprobs"], (json{-0.5, -0.5, -0.5, -0.5}));
  EXPECT_EQ(logprobs["text_offset"], (json{0, 1, 2, 2}));
  EXPECT_EQ(logprobs["top_logprobs"][0], (json{{"a", -0.5}, {"b", -1.5}}));
  EXPECT_EQ(complete(R"("logprobs": 0)")["choices"][0]["logprobs"]["top_logprobs"][0], (json{{"a", -0.5}}));
}

TEST_F(AnswersTest, EchoGivesThePromptBack) {
  say("x");
  const json choice = complete(R"("echo": true, "logprobs": 1)")["choices"][0];
  EXPECT_EQ(choice["text"], "hix");
  EXPECT_EQ(choice["logprobs"]["tokens"], (json{"h", "i", "x"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], (json{nullptr, -0.25, -0.5}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], (json{0, 1, 2}));
  EXPECT_TRUE(choice["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_EQ(complete(R"("echo": true)")["choices"][0]["text"], "hix");
  const json prompt_only = complete(R"("echo": true, "max_tokens": 0, "logprobs": 1)")["choices"][0];
  EXPECT_EQ(prompt_only["text"], "hi");
  EXPECT_EQ(prompt_only["logprobs"]["tokens"].size(), 2u);
  EXPECT_EQ(prompt_only["finish_reason"], "length");
  EXPECT_EQ(complete(R"("echo": true, "max_tokens": 0)")["choices"][0]["text"], "hi");
  EXPECT_EQ(stream_text(R"({"prompt": "hi", "echo": true, "max_tokens": 0, "stream": true})")[0].text, "hi");
  EXPECT_EQ(stream_text(R"({"prompt": "hi", "echo": true, "logprobs": 1, "stream": true})")[0].text, "hix");
}

TEST_F(AnswersTest, TokenIdsOnRequest) {
  say("ab");
  const json answer = complete(R"("return_token_ids": true)");
  EXPECT_EQ(answer["choices"][0]["token_ids"], (json{'a', 'b', kImEnd}));
  EXPECT_EQ(answer["choices"][0]["prompt_token_ids"], (json{'h', 'i'}));
  const json chatted = chat(R"("return_token_ids": true, "max_tokens": 2)");
  EXPECT_EQ(chatted["choices"][0]["token_ids"], (json{'a', 'b'}));
  EXPECT_EQ(chatted["prompt_token_ids"].size(), submitted().prompt.size());
  EXPECT_EQ(stream_chat(R"("return_token_ids": true)")[0].ids, (std::vector<int>{'a', 'b', kImEnd}));
}

TEST_F(AnswersTest, StreamsCarryTheirFields) {
  TestClient client(server_->port());
  client.post("/v1/chat/completions", chat_body(R"("stream": true)"), "X-Request-Id: mine\r\n");
  const TestAnswer answer = client.answer();
  EXPECT_EQ(answer.fields.at("Content-Type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(answer.fields.at("Cache-Control"), "no-cache");
  EXPECT_EQ(answer.fields.at("X-Request-Id"), "mine");
  client.get("/health");
  EXPECT_EQ(client.answer().status, 200);
}

TEST_F(AnswersTest, TheFirstTokenDoesNotWait) {
  say("ab");
  replica_->hold(true);
  TestClient client(server_->port());
  client.post("/v1/chat/completions", chat_body(R"("stream": true)"));
  ASSERT_TRUE(eventually([&] { return replica_->submitted() == 1; }));
  replica_->step_once();
  EXPECT_TRUE(client.wait_for(R"({"content":"a"})"));
  EXPECT_EQ(client.received().find(R"({"content":"b"})"), std::string::npos);
  replica_->hold(false);
  EXPECT_TRUE(client.wait_for("[DONE]"));
}

TEST_F(AnswersTest, ClientsThatGoFreeWhatTheyHold) {
  say(std::string(400, 'x'));
  for (const char* parameters : {R"("n": 8)", R"("n": 8, "stream": true)"}) {
    replica_->hold(true);
    TestClient client(server_->port());
    client.post("/v1/chat/completions", chat_body(parameters));
    ASSERT_TRUE(eventually([&] { return replica_->stats().kv_blocks_used == 8; }));
    replica_->step_once();
    if (std::string_view(parameters).ends_with("true")) {
      EXPECT_TRUE(client.wait_for("content"));
    }
    client.reset();
    EXPECT_TRUE(eventually([&] { return replica_->stats().kv_blocks_used == 0; }));
    EXPECT_TRUE(eventually([&] { return front_->open_streams() == 0; }));
  }
}

TEST_F(AnswersTest, RefusalsOfTheReplica) {
  for (const auto& [code, status] :
       std::vector<std::pair<StatusCode, int>>{{StatusCode::kResourceExhausted, 429},
                                               {StatusCode::kUnavailable, 503},
                                               {StatusCode::kInvalidArgument, 400},
                                               {StatusCode::kInternal, 500}}) {
    replica_->refuse_with(Status(code, "the text at /secret/path"));
    for (const char* parameters : {R"("n": 1)", R"("stream": true)"}) {
      const TestAnswer answer = post("/v1/chat/completions", chat_body(parameters));
      EXPECT_EQ(answer.status, status);
      EXPECT_EQ(answer.fields.contains("Retry-After"), status == 429 || status == 503);
      EXPECT_EQ(answer.body.find("/secret") == std::string::npos, status == 500);
    }
  }
}

TEST_F(AnswersTest, AFailureBeforeTheFirstTokenIsAnError) {
  replica_->hold(true);
  for (const char* parameters : {R"("n": 2)", R"("n": 2, "stream": true)"}) {
    TestClient client(server_->port());
    client.post("/v1/chat/completions", chat_body(parameters));
    ASSERT_TRUE(eventually([&] { return replica_->stats().running == 2; }));
    replica_->fail_all(FinishReason::kError, "the replica lost its device");
    const TestAnswer answer = client.answer();
    EXPECT_EQ(answer.status, 500);
    EXPECT_NE(answer.body.find("the replica lost its device"), std::string::npos);
  }
  EXPECT_TRUE(eventually([&] { return front_->open_streams() == 0; }));
}

TEST_F(AnswersTest, AFailureInAStreamEndsItWithoutDone) {
  say("abc");
  replica_->hold(true);
  TestClient client(server_->port());
  client.post("/v1/chat/completions", chat_body(R"("stream": true)"));
  ASSERT_TRUE(eventually([&] { return replica_->submitted() == 1; }));
  replica_->step_once();
  ASSERT_TRUE(client.wait_for(R"({"content":"a"})"));
  replica_->fail_all(FinishReason::kError, "the replica lost its device");
  const TestAnswer answer = client.answer();
  EXPECT_NE(
      answer.body.find(R"(data: {"error":{"message":"the replica lost its device","type":"server_error")"),
      std::string::npos);
  EXPECT_EQ(answer.body.find("[DONE]"), std::string::npos);
}

TEST_F(AnswersTest, ManyAtOnce) {
  say("some text of a model");
  replica_->set_step_time(std::chrono::microseconds(200));
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<TestClient>(server_->port()));
    clients.back()->post("/v1/chat/completions",
                         chat_body("\"stream\": true, \"max_tokens\": " + std::to_string(1 + i % 30)));
  }
  for (int i = 0; i < 64; ++i) {
    auto joined = join(chunks(clients[static_cast<size_t>(i)]->answer()));
    EXPECT_EQ(joined[0].content,
              std::string("some text of a model").substr(0, static_cast<size_t>(1 + i % 30)));
  }
}

}  // namespace
}  // namespace gantry
