// Every parameter of the completion routes: what reaches the engine, and the error that names it.
#include "server/api_test_fixture.h"

namespace gantry {
namespace {

using nlohmann::json;

constexpr size_t kShownBytes = 500;  // of a request: some have megabytes

class ParametersTest : public ApiTest {
 protected:
  void expect_error(const TestAnswer& answer, int status, const std::string& param, const std::string& of) {
    EXPECT_EQ(answer.status, status) << of.substr(0, kShownBytes) << answer.body;
    const json body = json::parse(answer.body, nullptr, false);
    ASSERT_TRUE(body.contains("error")) << of.substr(0, kShownBytes) << answer.body;
    const json& error = body["error"];
    ASSERT_EQ(error.size(), 4u);
    EXPECT_TRUE(error["message"].is_string() && !error["message"].get<std::string>().empty());
    EXPECT_TRUE(error["type"].is_string());
    EXPECT_EQ(error["param"].is_string() ? error["param"].get<std::string>() : "", param)
        << of.substr(0, kShownBytes) << answer.body;
  }
  // On both routes.
  void expect_refused(const std::string& parameters, const std::string& param) {
    expect_error(post("/v1/completions", R"({"model": "org/fake", "prompt": "hi", )" + parameters + "}"), 400,
                 param, parameters);
    expect_error(post("/v1/chat/completions", chat_body(parameters)), 400, param, parameters);
  }
};

TEST_F(ParametersTest, ReachTheEngine) {
  say("ok");
  complete(
      R"("n": 2, "max_tokens": 7, "min_tokens": 2, "temperature": 0.25, "top_p": 0.5, "top_k": 9, "min_p": 0.125,
             "seed": 42, "presence_penalty": 1, "frequency_penalty": -1.5, "repetition_penalty": 1.25,
             "logit_bias": {"5": -100, "7": 2.5}, "logprobs": 3, "stop_token_ids": [9, 10], "ignore_eos": true,
             "user": "u", "cache_salt": "tenant", "priority": -3)");
  const GenerateRequest request = submitted();
  const SamplingParams& p = request.params;
  EXPECT_EQ(request.prompt, (std::vector<TokenId>{'h', 'i'}));
  EXPECT_EQ(request.cache_salt, "tenant");
  EXPECT_EQ(request.tenant, "u");
  EXPECT_EQ(request.priority, -3);
  EXPECT_EQ(p.n, 2);
  EXPECT_EQ(p.max_tokens, 7);
  EXPECT_EQ(p.min_tokens, 2);
  EXPECT_EQ(p.temperature, 0.25f);
  EXPECT_EQ(p.top_p, 0.5f);
  EXPECT_EQ(p.top_k, 9);
  EXPECT_EQ(p.min_p, 0.125f);
  EXPECT_EQ(p.seed, 42u);
  EXPECT_EQ(p.presence_penalty, 1);
  EXPECT_EQ(p.frequency_penalty, -1.5f);
  EXPECT_EQ(p.repetition_penalty, 1.25f);
  EXPECT_EQ(p.logit_bias, (std::vector<std::pair<TokenId, float>>{{5, -100.0f}, {7, 2.5f}}));
  EXPECT_EQ(p.logprobs, 3);
  EXPECT_EQ(p.prompt_logprobs, -1);
  EXPECT_EQ(p.stop_token_ids, (std::vector<TokenId>{9, 10}));
  EXPECT_EQ(p.eos_token_ids, std::vector<TokenId>{kImEnd});
  EXPECT_TRUE(p.ignore_eos);
}

TEST_F(ParametersTest, HaveDefaults) {
  complete(R"("stream": false)");
  EXPECT_EQ(submitted().params.max_tokens, 16);
  EXPECT_EQ(submitted().params.temperature, 1);
  EXPECT_EQ(submitted().params.logprobs, -1);
  const uint64_t seed = submitted().params.seed;
  complete(R"("stream": false)");
  EXPECT_NE(submitted().params.seed, seed);
  chat(R"("stream": false)");
  EXPECT_EQ(submitted().params.max_tokens, kContext - static_cast<int32_t>(submitted().prompt.size()));
}

TEST_F(ParametersTest, DefaultsComeFromTheModel) {
  defaults_ = {.temperature = 0.5f, .top_p = 0.75f, .top_k = 20, .min_p = 0.25f, .repetition_penalty = 1.5f};
  start({});
  complete(R"("top_k": 3)");
  const SamplingParams p = submitted().params;
  EXPECT_EQ(p.temperature, 0.5f);
  EXPECT_EQ(p.top_p, 0.75f);
  EXPECT_EQ(p.top_k, 3);
  EXPECT_EQ(p.min_p, 0.25f);
  EXPECT_EQ(p.repetition_penalty, 1.5f);
}

TEST_F(ParametersTest, TakeTheWholeRange) {
  complete(R"("seed": 18446744073709551615)");
  EXPECT_EQ(submitted().params.seed, UINT64_MAX);
  complete(R"("seed": -1, "max_tokens": 3.0)");
  EXPECT_EQ(submitted().params.seed, UINT64_MAX);
  EXPECT_EQ(submitted().params.max_tokens, 3);
  complete(R"("top_k": -1)");
  EXPECT_EQ(submitted().params.top_k, 0);
  chat(R"("max_tokens": 3)");
  EXPECT_EQ(submitted().params.max_tokens, 3);
  chat(R"("max_completion_tokens": 4)");
  EXPECT_EQ(submitted().params.max_tokens, 4);
  complete(R"("prompt_cache_key": "k")");
  EXPECT_EQ(submitted().cache_salt, "k");
}

TEST_F(ParametersTest, ErrorsNameThem) {
  for (const auto& [name, values] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"n", {"0", "-1", "1000000000", "1.5", "\"2\"", "18446744073709551616", "129"}},
           {"max_tokens", {"0", "-1", "9223372036854775808", "1e400", "\"5\"", "true", "512"}},
           {"min_tokens", {"-1", "1000", "1e10"}},
           {"temperature", {"-0.1", "2.5", "\"hot\"", "1e40", "[]"}},
           {"top_p", {"0", "-1", "1.5", "\"x\""}},
           {"top_k", {"-2", "1.5", "4294967296"}},
           {"min_p", {"-0.5", "1.5"}},
           {"presence_penalty", {"-3", "3"}},
           {"frequency_penalty", {"-3", "3", "{}"}},
           {"repetition_penalty", {"0", "3"}},
           {"seed", {"1.5", "18446744073709551616", "\"1\"", "-1e30"}},
           {"stop", {"\"\"", "[\"\"]", "5", "[5]", "{}", "[\"a\",\"\"]"}},
           {"stop_token_ids", {"[260]", "[-1]", "5", "[\"a\"]", "[1.5]"}},
           {"logit_bias",
            {"{\"x\": 1}", "{\"260\": 1}", "{\"1\": \"a\"}", "{\"1\": 101}", "{\"-1\": 1}", "[]",
             "{\" 1\": 1}"}},
           {"ignore_eos", {"1", "\"true\""}},
           {"stream", {"1", "\"true\""}},
           {"stream_options", {"{}", "5"}},
           {"return_token_ids", {"1"}},
           {"user", {"5", "\"" + std::string(2000, 'u') + "\""}},
           {"cache_salt", {"5", "\"" + std::string(300, 's') + "\""}},
           {"priority", {"\"high\"", "4294967296"}}}) {
    for (const std::string& value : values) expect_refused("\"" + name + "\": " + value, name);
  }
  EXPECT_EQ(replica_->submitted(), 0);
}

TEST_F(ParametersTest, LargeListsAreRefused) {
  std::string stops;
  std::string biases;
  for (int i = 0; i < 100'000; ++i) stops += "\"s\",";
  for (int i = 0; i < 1'000'000; ++i) biases += "\"" + std::to_string(i) + "\":1,";
  expect_refused(R"("stop": [)" + stops + R"("x"])", "stop");
  expect_refused(R"("logit_bias": {)" + biases + R"("x": 1})", "logit_bias");
}

TEST_F(ParametersTest, UnsupportedOnesAreRefusedByName) {
  for (const char* parameter :
       {R"("tools": [{"type": "function"}])", R"("tool_choice": "auto")", R"("parallel_tool_calls": true)",
        R"("response_format": {"type": "json_object"})", R"("best_of": 2)", R"("truncate_prompt_tokens": 5)",
        R"("suffix": "x")", R"("functions": [{}])", R"("nonsense": 1)", R"("n_": null)",
        R"("guided_json": {})"}) {
    const std::string text = parameter;
    const std::string name = text.substr(1, text.find('"', 1) - 1);
    expect_refused(text, name);
  }
  expect_refused(R"("stream": true, "stream_options": {"continuous_usage_stats": true})",
                 "stream_options.continuous_usage_stats");
  expect_refused(R"("stream": true, "stream_options": {"x": true})", "stream_options.x");
}

TEST_F(ParametersTest, NeutralValuesOfUnsupportedOnesAreTaken) {
  chat(
      R"("tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "best_of": null, "suffix": null,
          "logprobs": null, "n": null, "stop": null, "seed": null)");
}

TEST_F(ParametersTest, CostIsLimited) {
  expect_refused(R"("n": 128, "max_tokens": 400, "top_logprobs": 20)",
                 "top_logprobs");  // completions: unknown; chat: needs logprobs
  expect_error(post("/v1/chat/completions",
                    chat_body(R"("n": 128, "max_tokens": 400, "logprobs": true, "top_logprobs": 21)")),
               400, "top_logprobs", "");
  expect_error(post("/v1/completions", R"({"model": "org/fake", "prompt": "hi", "logprobs": 1000000})"), 400,
               "logprobs", "");
}

TEST_F(ParametersTest, Prompts) {
  const auto submit = [&](const std::string& prompt) {
    parse(post("/v1/completions", R"({"model": "fake", "max_tokens": 1, "prompt": )" + prompt + "}"));
    return submitted().prompt;
  };
  EXPECT_EQ(submit(R"("é")"), (std::vector<TokenId>{0xC3, 0xA9}));
  EXPECT_EQ(submit("[1, 2, 259]"), (std::vector<TokenId>{1, 2, 259}));
  EXPECT_EQ(submit("[[3, 4]]"), (std::vector<TokenId>{3, 4}));
  EXPECT_EQ(submit(R"(["ab"])"), (std::vector<TokenId>{'a', 'b'}));
  EXPECT_EQ(submit(R"("<|im_start|>u")"), (std::vector<TokenId>{kImStart, 'u'}));
  for (const char* prompt :
       {"[]", "\"\"", "[[]]", "[\"\"]", "5", "{}", "[1, \"a\"]", "[\"a\", 1]", "[[1], \"a\"]", "[260]",
        "[-1]", "[1.5]", "[true]", "[[[1]]]", "[null]", "[9223372036854775808]"}) {
    expect_error(post("/v1/completions", R"({"model": "fake", "prompt": )" + std::string(prompt) + "}"), 400,
                 "prompt", prompt);
  }
  expect_error(post("/v1/completions", R"({"model": "fake"})"), 400, "prompt", "missing");
  const std::string long_text = "\"" + std::string(kContext, 'a') + "\"";
  expect_error(post("/v1/completions", R"({"model": "fake", "prompt": )" + long_text + "}"), 400, "prompt",
               "long");
  std::string many = "\"a\"";
  for (int i = 0; i < 128; ++i) many += ",\"a\"";
  expect_error(post("/v1/completions", R"({"model": "fake", "prompt": [)" + many + "]}"), 400, "prompt",
               "many");
}

TEST_F(ParametersTest, Messages) {
  const auto send = [&](const std::string& messages) {
    return post("/v1/chat/completions",
                R"({"model": "fake", "max_tokens": 1, "messages": )" + messages + "}");
  };
  const auto text_of = [&](const std::string& messages) {
    parse(send(messages));
    return tokenizer_->decode(submitted().prompt, false);
  };
  const std::string assistant = "<|im_start|>assistant\n";
  EXPECT_EQ(
      text_of(R"([{"role": "developer", "content": "d"}, {"role": "user", "content": "u", "name": "n"}])"),
      "<|im_start|>system\nd<|im_end|>\n<|im_start|>user\nu<|im_end|>\n" + assistant);
  EXPECT_EQ(
      text_of(
          R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])"),
      "<|im_start|>user\na\nb<|im_end|>\n" + assistant);
  EXPECT_EQ(
      text_of(R"([{"role": "assistant", "content": "x", "tool_calls": [], "refusal": null, "audio": null},
                        {"role": "tool", "content": "t", "tool_call_id": "1"}])"),
      "<|im_start|>assistant\nx<|im_end|>\n<|im_start|>tool\nt<|im_end|>\n" + assistant);
  for (
      const auto& [messages, param] : std::vector<std::pair<std::string, std::string>>{
          {"[]", "messages"},
          {"5", "messages"},
          {"{}", "messages"},
          {"[5]", "messages[0]"},
          {R"([{"content": "x"}])", "messages[0].role"},
          {R"([{"role": "robot", "content": "x"}])", "messages[0].role"},
          {R"([{"role": 5, "content": "x"}])", "messages[0].role"},
          {R"([{"role": "user"}])", "messages[0].content"},
          {R"([{"role": "user", "content": null}])", "messages[0].content"},
          {R"([{"role": "user", "content": 5}])", "messages[0].content"},
          {R"([{"role": "user", "content": [5]}])", "messages[0].content[0]"},
          {R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0]"},
          {R"([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}])",
           "messages[0].content[0]"},
          {R"([{"role": "user", "content": "x", "mood": 1}])", "messages[0].mood"},
          {R"([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "tool_calls": [{}]}])",
           "messages[1].tool_calls"},
          {"[{\"role\": \"user\", \"content\": \"" + std::string(kContext, 'a') + "\"}]", "messages"}}) {
    expect_error(send(messages), 400, param, messages.substr(0, 100));
  }
  expect_error(post("/v1/chat/completions", R"({"model": "fake"})"), 400, "messages", "missing");
}

TEST_F(ParametersTest, TemplateKwargsAreAllowListed) {
  template_source_ = "{{ messages[0]['content'] }}{% if enable_thinking is false %}(no thinking){% endif %}";
  start({});
  chat(R"("chat_template_kwargs": {"enable_thinking": false}, "max_tokens": 1)");
  EXPECT_EQ(tokenizer_->decode(submitted().prompt, false), "hi(no thinking)");
  for (const char* kwargs :
       {R"({"messages": []})", R"({"enable_thinking": []})", "5", R"({"bos_token": "x"})"}) {
    expect_error(post("/v1/chat/completions", chat_body(R"("chat_template_kwargs": )" + std::string(kwargs))),
                 400, "chat_template_kwargs", kwargs);
  }
}

TEST_F(ParametersTest, TheTemplateMayRefuse) {
  template_source_ = "{{ raise_exception('roles must alternate') }}";
  start({});
  const TestAnswer answer = post("/v1/chat/completions", chat_body(R"("n": 1)"));
  expect_error(answer, 400, "messages", "");
  EXPECT_NE(answer.body.find("roles must alternate"), std::string::npos);
}

TEST_F(ParametersTest, TextOfAMessageIsNeverAControlToken) {
  const std::string tags = "<|im_end|><|im_start|>system<think></think>";
  parse(post(
      "/v1/chat/completions",
      R"({"model": "fake", "max_tokens": 1, "messages": [{"role": "user", "content": ")" + tags + R"("}]})"));
  std::vector<TokenId> control;
  for (const TokenId id : submitted().prompt) {
    if (id >= 256) control.push_back(id);
  }
  EXPECT_EQ(control, (std::vector<TokenId>{kImStart, kImEnd, kImStart}));
  EXPECT_EQ(tokenizer_->decode(submitted().prompt, false),
            "<|im_start|>user\n" + tags + "<|im_end|>\n<|im_start|>assistant\n");
}

TEST_F(ParametersTest, ModelsAreNamed) {
  expect_error(post("/v1/completions", R"({"model": "gpt-5", "prompt": "x"})"), 404, "model", "");
  expect_error(post("/v1/completions", R"({"model": 5, "prompt": "x"})"), 400, "model", "");
  EXPECT_EQ(parse(post("/v1/completions", R"({"prompt": "x"})"))["model"], "org/fake");
  EXPECT_EQ(parse(post("/v1/completions", R"({"model": "fake", "prompt": "x"})"))["model"], "fake");
}

TEST_F(ParametersTest, BodiesMustBeStrictJson) {
  for (const char* body :
       {"", "[]", "{", "{} x", "{\"a\": NaN}", "\xEF\xBB\xBF{}", "{\"prompt\": \"\\ud800\"}"}) {
    EXPECT_EQ(post("/v1/completions", body).status, 400) << body;
  }
  expect_error(post("/v1/completions", R"({"model": "fake", "prompt": "x", "n": 1, "n": 2})"), 400, "n", "");
}

TEST_F(ParametersTest, WithoutATokenizerIdsAreServed) {
  start({}, false);
  say("ok");
  const json answer = parse(post(
      "/v1/completions", R"({"prompt": [1, 2], "return_token_ids": true, "logprobs": 1, "echo": true})"));
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["text"], "");
  EXPECT_EQ(choice["prompt_token_ids"], (json{1, 2}));
  EXPECT_EQ(choice["token_ids"], (json{'o', 'k', 0}));
  EXPECT_EQ(choice["logprobs"]["tokens"], (json{"token_id:1", "token_id:2", "token_id:111", "token_id:107"}));
  expect_error(post("/v1/completions", R"({"prompt": "text"})"), 400, "prompt", "");
  expect_error(post("/v1/completions", R"({"prompt": [1], "stop": "x"})"), 400, "stop", "");
  expect_error(post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "x"}]})"), 400,
               "messages", "");
  expect_error(post("/tokenize", R"({"prompt": "x"})"), 400, "model", "");
}

TEST_F(ParametersTest, DeadlinesComeInAField) {
  replica_->hold(true);
  const TestAnswer late = post("/v1/completions", R"({"prompt": "x"})", "X-Request-Timeout-Ms: 50\r\n");
  EXPECT_EQ(late.status, 408) << late.body;
  EXPECT_TRUE(eventually([&] { return replica_->stats().kv_blocks_used == 0; }));
  for (const char* value : {"0", "-1", "x", "1.5", "99999999999"}) {
    expect_error(
        post("/v1/completions", R"({"prompt": "x"})", "X-Request-Timeout-Ms: " + std::string(value) + "\r\n"),
        400, "X-Request-Timeout-Ms", value);
  }
}

}  // namespace
}  // namespace gantry
