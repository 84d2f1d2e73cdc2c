// Routes, methods, keys, and the routes that generate nothing.
#include "server/api_handler.h"
#include "server/api_test_fixture.h"

namespace gantry {
namespace {

using nlohmann::json;

class RoutesTest : public ApiTest {};

TEST_F(RoutesTest, UnknownPathsAndMethods) {
  EXPECT_EQ(get("/").status, 404);
  EXPECT_EQ(get("/v1/models/").status, 404);
  EXPECT_EQ(get("/v1/nothing").status, 404);
  const TestAnswer wrong = get("/v1/chat/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.fields.at("Allow"), "POST");
  const TestAnswer posted = post("/health", "{}");
  EXPECT_EQ(posted.status, 405);
  EXPECT_EQ(posted.fields.at("Allow"), "GET, HEAD");
}

TEST_F(RoutesTest, BodiesAreJson) {
  const auto send = [&](const std::string& fields) {
    TestClient client(server_->port());
    client.send("POST /tokenize HTTP/1.1\r\nHost: t\r\n" + fields +
                "Content-Length: 15\r\n\r\n{\"prompt\": \"a\"}");
    return client.answer().status;
  };
  EXPECT_EQ(send(""), 200);
  EXPECT_EQ(send("Content-Type: Application/JSON; charset=utf-8\r\n"), 200);
  EXPECT_EQ(send("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(send("Content-Type: application/jsonx\r\n"), 415);
  EXPECT_EQ(send("Content-Encoding: gzip\r\n"), 415);
}

TEST_F(RoutesTest, KeysGuardAllButTheOpenRoutes) {
  start({.api_keys = {"first-key", "second"}});
  const std::vector<std::string_view> open = {"/health", "/ready", "/metrics", "/version"};
  for (const Route& route : routes()) {
    std::string path(route.path);
    if (path.ends_with("/*")) path.replace(path.size() - 1, 1, "org%2Ffake");
    const bool expect_open = std::find(open.begin(), open.end(), route.path) != open.end();
    const auto send = [&](const std::string& fields) {
      return route.method == "GET" ? get(path, fields).status : post(path, "{}", fields).status;
    };
    EXPECT_EQ(send("") == 401, !expect_open) << path;
    for (const char* wrong : {"Bearer ", "Bearer first", "Bearer first-kex", "Bearer first-key2",
                              "Basic first-key", "first-key"}) {
      EXPECT_EQ(send("Authorization: " + std::string(wrong) + "\r\n") == 401, !expect_open) << path << wrong;
    }
    EXPECT_NE(send("Authorization: Bearer first-key\r\n"), 401) << path;
    EXPECT_NE(send("Authorization: bearer second\r\n"), 401) << path;
  }
}

TEST_F(RoutesTest, ListsModels) {
  const json list = parse(get("/v1/models"));
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 1u);
  EXPECT_EQ(list["data"][0]["id"], "org/fake");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["max_model_len"], kContext);
  EXPECT_EQ(parse(get("/v1/models/org/fake")), list["data"][0]);
  EXPECT_EQ(parse(get("/v1/models/org%2Ffake")), list["data"][0]);
  const TestAnswer unknown = get("/v1/models/other");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(json::parse(unknown.body)["error"]["code"], "model_not_found");
  EXPECT_EQ(get("/v1/models/a%00").status, 400);
}

TEST_F(RoutesTest, TokenizesAndBack) {
  EXPECT_EQ(parse(post("/tokenize", R"({"prompt": "hé<|im_end|>", "return_token_strs": true})")),
            (json{{"count", 4},
                  {"max_model_len", kContext},
                  {"tokens", {'h', 0xC3, 0xA9, kImEnd}},
                  {"token_strs", {"h", "\uFFFD", "\uFFFD", "<|im_end|>"}}}));
  const json chat = parse(post(
      "/tokenize", R"({"messages": [{"role": "user", "content": "x"}], "add_generation_prompt": false})"));
  EXPECT_EQ(chat["tokens"].front(), kImStart);
  EXPECT_EQ(parse(post("/detokenize", R"({"tokens": [104, 195, 169, 257]})"))["prompt"], "hé<|im_end|>");
  EXPECT_EQ(post("/detokenize", R"({"tokens": [260]})").status, 400);
  EXPECT_EQ(post("/detokenize", R"({"tokens": "x"})").status, 400);
  EXPECT_EQ(post("/tokenize", R"({"prompt": 5})").status, 400);
  EXPECT_EQ(post("/tokenize", R"({"prompt": "x", "extra": 1})").status, 400);
}

TEST_F(RoutesTest, HealthSaysWhatRuns) {
  json health = parse(get("/health"));
  EXPECT_EQ(health["status"], "ok");
  ASSERT_EQ(health["models"].size(), 1u);
  EXPECT_EQ(health["models"][0]["id"], "org/fake");
  EXPECT_EQ(health["models"][0]["state"], "ready");
  const json& rank = health["models"][0]["replicas"][0]["ranks"][0];
  EXPECT_EQ(rank["rank"], 0);
  EXPECT_EQ(rank["pid"], getpid());
  ASSERT_TRUE(server_->models().add("second").ok());
  server_->models().set_progress(
      "second", {.phase = "weights", .done = 3, .total = 10, .per_second = 2, .seconds_left = 3.5});
  health = parse(get("/health"));
  EXPECT_EQ(health["status"], "loading");
  EXPECT_EQ(health["models"][1]["state"], "loading");
  EXPECT_EQ(
      health["models"][1]["progress"],
      (json{{"phase", "weights"}, {"done", 3}, {"total", 10}, {"per_second", 2}, {"seconds_left", 3.5}}));
  const TestAnswer early = post("/v1/completions", R"({"model": "second", "prompt": "x"})");
  EXPECT_EQ(early.status, 503);
  EXPECT_TRUE(early.fields.contains("Retry-After"));
  server_->models().fail("second", "the file is truncated");
  EXPECT_EQ(parse(get("/health"))["status"], "degraded");
  EXPECT_EQ(post("/v1/completions", R"({"prompt": "x"})").status, 400);  // which of the two?
}

TEST_F(RoutesTest, NamesAreUnique) {
  EXPECT_FALSE(server_->models().add("org/fake").ok());
  EXPECT_FALSE(server_->models().add("fake").ok());
  EXPECT_FALSE(server_->models().add("").ok());
}

TEST_F(RoutesTest, ReadyMeansATokenJustNow) {
  EXPECT_EQ(get("/ready").status, 200);  // asks for one itself
  EXPECT_EQ(submitted().params.max_tokens, 1);
  EXPECT_TRUE(eventually([&] { return front_->open_streams() == 0; }));
  const int asked = replica_->submitted();
  EXPECT_EQ(get("/ready").status, 200);
  EXPECT_EQ(replica_->submitted(), asked);
  EXPECT_TRUE(server_->wait_until_ready(std::chrono::milliseconds(1000)));
  ASSERT_TRUE(server_->models().add("second").ok());
  EXPECT_EQ(get("/ready").status, 503);
}

TEST_F(RoutesTest, ReadyWaitsForTheSlowerOfTwoModels) {
  FakeReplica slow({.model_id = "slow", .max_model_len = kContext, .vocab_size = kVocab},
                   [](const GenerateRequest&, int32_t, int32_t) { return 'x'; });
  slow.hold(true);
  Front slow_front(slow);
  ASSERT_TRUE(server_->models().add("org/slow").ok());
  ASSERT_TRUE(server_->models().publish({.id = "org/slow", .front = &slow_front}).ok());
  TestClient client(server_->port());
  client.get("/ready");
  ASSERT_TRUE(eventually([&] { return slow.submitted() == 1 && replica_->stats().generated_tokens == 1; }));
  ASSERT_TRUE(eventually([&] { return front_->open_streams() == 0; }));  // the faster one has answered
  ASSERT_TRUE(slow.step_once());
  EXPECT_EQ(client.answer().status, 200);
  server_.reset();  // before the second front
}

TEST_F(RoutesTest, NotReadyWhileNothingIsGenerated) {
  replica_->hold(true);
  const TestAnswer answer = get("/ready");
  EXPECT_EQ(answer.status, 503);
  EXPECT_TRUE(answer.fields.contains("Retry-After"));
  EXPECT_FALSE(server_->wait_until_ready(std::chrono::milliseconds(10)));
}

TEST_F(RoutesTest, MetricsCount) {
  say("abc");
  chat(R"("max_tokens": 50)");
  chat(R"("max_tokens": 2)");
  post("/v1/completions", "{");
  const std::string text = get("/metrics").body;
  for (const char* line :
       {"gantry_kv_blocks_used{model_name=\"org/fake\"} 0",
        "gantry_kv_blocks_total{model_name=\"org/fake\"} 1024",
        "gantry_num_requests_running{model_name=\"org/fake\"} 0",
        "gantry_generation_tokens_total{model_name=\"org/fake\"} 5",
        "gantry_time_to_first_token_seconds_count{model_name=\"org/fake\"} 2",
        "gantry_inter_token_latency_seconds_count{model_name=\"org/fake\"} 3",
        "gantry_request_success_total{finished_reason=\"stop\",model_name=\"org/fake\"} 1",
        "gantry_request_success_total{finished_reason=\"length\",model_name=\"org/fake\"} 1",
        "gantry_http_responses_total{status=\"400\"} 1"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  EXPECT_EQ(text.find("vllm:"), std::string::npos);
  start({.vllm_metric_names = true});
  const std::string both = get("/metrics").body;
  for (const char* name : {"vllm:num_requests_running",
                           "vllm:num_requests_waiting",
                           "vllm:kv_cache_usage_perc",
                           "vllm:prefix_cache_queries_total",
                           "vllm:prefix_cache_hits_total",
                           "vllm:prompt_tokens_total",
                           "vllm:generation_tokens_total",
                           "vllm:time_to_first_token_seconds",
                           "vllm:inter_token_latency_seconds",
                           "vllm:request_time_per_output_token_seconds",
                           "vllm:e2e_request_latency_seconds",
                           "vllm:request_queue_time_seconds",
                           "vllm:request_prefill_time_seconds",
                           "vllm:request_decode_time_seconds",
                           "vllm:request_success_total",
                           "vllm:num_preemptions_total",
                           "vllm:spec_decode_num_drafts_total",
                           "vllm:spec_decode_num_draft_tokens_total",
                           "vllm:spec_decode_num_accepted_tokens_total",
                           "vllm:spec_decode_num_accepted_tokens_per_pos_total",
                           "gantry_kv_blocks_used"}) {
    EXPECT_NE(both.find("# TYPE " + std::string(name)), std::string::npos) << name;
  }
}

TEST_F(RoutesTest, MetricsCountDraftsByPlace) {
  ReplicaStats stats;
  stats.drafted_steps = 10;
  stats.drafts = 20;
  stats.accepted_drafts = {8, 3, 0};
  Metrics metrics(true);
  metrics.model("m").replica(stats);
  stats.accepted_drafts = {9, 4, 0};
  metrics.model("m").replica(stats);
  const std::string text = metrics.text();
  for (const char* line :
       {"gantry_spec_drafted_steps_total{model_name=\"m\"} 10",
        "gantry_spec_draft_tokens_total{model_name=\"m\"} 20",
        "gantry_spec_accepted_tokens_total{model_name=\"m\"} 13",
        "gantry_spec_accepted_total{model_name=\"m\",position=\"0\"} 9",
        "vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name=\"m\",position=\"1\"} 4"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST_F(RoutesTest, MetricsTellOfReplicas) {
  Metrics metrics(false);
  ReplicaHealth replica{.id = "m-1",
                        .epoch = 3,
                        .state = "ready",
                        .age_seconds = 1.5,
                        .restarts = 2,
                        .cause = "killed",
                        .ranks = {{.rank = 0, .host = "h", .pid = 7, .state = "ready"},
                                  {.rank = 1, .host = "h", .pid = 0, .state = "starting"}}};
  metrics.model("m").health({&replica, 1});
  replica.restarts = 3;
  metrics.model("m").health({&replica, 1});
  const std::string text = metrics.text();
  for (const char* line : {"gantry_replica_ready{model_name=\"m\",replica=\"m-1\"} 1",
                           "gantry_replica_restarts_total{model_name=\"m\",replica=\"m-1\"} 3",
                           "gantry_replica_age_seconds{model_name=\"m\",replica=\"m-1\"} 1.5",
                           "gantry_rank_ready{model_name=\"m\",rank=\"0\",replica=\"m-1\"} 1",
                           "gantry_rank_ready{model_name=\"m\",rank=\"1\",replica=\"m-1\"} 0"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST_F(RoutesTest, Version) { EXPECT_EQ(parse(get("/version")), (json{{"version", "1.2.3"}})); }

TEST_F(RoutesTest, HeadIsGetWithoutABody) {
  TestClient client(server_->port());
  client.send("HEAD /v1/models HTTP/1.1\r\nHost: t\r\n\r\n");
  const TestAnswer head = client.answer(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_GT(std::stoi(head.fields.at("Content-Length")), 10);
  client.get("/version");
  EXPECT_EQ(client.answer().status, 200);
}

TEST_F(RoutesTest, StopDrainsAndCutsOff) {
  say(std::string(400, 'x'));
  replica_->hold(true);
  TestClient client(server_->port());
  client.post("/v1/chat/completions", chat_body(R"("stream": true)"));
  ASSERT_TRUE(eventually([&] { return replica_->submitted() == 1; }));
  EXPECT_FALSE(server_->stop(std::chrono::milliseconds(20)));
  EXPECT_TRUE(client.wait_for_end());
  EXPECT_TRUE(eventually([&] { return replica_->stats().kv_blocks_used == 0; }));
}

}  // namespace
}  // namespace gantry
