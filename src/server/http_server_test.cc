#include "server/http_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "server/test_client.h"

namespace gantry {
namespace {

using std::chrono::milliseconds;

// /echo answers with the body, /stream with three pieces, /hang never, /flood until the client is given up,
// /refused refuses before the body.
class TestHandler : public HttpHandler {
 public:
  std::optional<HttpResponse> check(const RequestHead& head) override {
    if (head.path != "/refused") return std::nullopt;
    HttpResponse response;
    response.status = 401;
    return response;
  }
  void handle(std::shared_ptr<HttpExchange> exchange) override {
    const std::string path = exchange->request().head.path;
    exchange->on_client_gone([this] { ++gone; });
    if (path == "/echo") {
      HttpResponse response;
      response.body = exchange->request().body;
      exchange->respond(std::move(response));
    } else if (path == "/stream") {
      exchange->start_stream({});
      for (const char* piece : {"one", "two", "three"})
        exchange->post([exchange, piece] { exchange->write(piece); });
      exchange->post([exchange] { exchange->end_stream(); });
    } else if (path == "/flood") {
      exchange->start_stream({});
      flood(exchange);
    } else if (path == "/hang") {
      const std::lock_guard lock(mutex_);
      hanging_ = exchange;
    } else if (path == "/later") {
      exchange->run_after(1, [exchange] {
        HttpResponse response;
        response.body = "later";
        exchange->respond(std::move(response));
      });
    }
  }

  std::atomic<int> gone{0};
  std::atomic<int64_t> written{0};

  // The request that hangs, once it is there; it is the caller's then.
  std::shared_ptr<HttpExchange> wait_for_hanging() {
    std::shared_ptr<HttpExchange> taken;
    eventually([&] {
      const std::lock_guard lock(mutex_);
      taken = std::exchange(hanging_, nullptr);
      return taken != nullptr;
    });
    return taken;
  }

 private:
  void flood(const std::shared_ptr<HttpExchange>& exchange) {
    if (!exchange->write(std::string(1024, 'x'))) return;
    written += 1024;
    exchange->post([this, exchange] { flood(exchange); });
  }

  std::mutex mutex_;
  std::shared_ptr<HttpExchange> hanging_;
};

class HttpServerTest : public testing::Test {
 protected:
  void start(HttpServerOptions options = {}) {
    options.port = 0;
    Result<std::unique_ptr<HttpServer>> server = HttpServer::start(options, handler_);
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(server).value();
  }
  void TearDown() override { server_.reset(); }  // before the handler goes
  TestAnswer once(const std::string& bytes) {
    TestClient client(server_->port());
    client.send(bytes);
    return client.answer();
  }

  TestHandler handler_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, EchoesBodiesAndKeepsTheConnection) {
  start();
  TestClient client(server_->port());
  for (const size_t size : {0u, 5u, 70'000u, 3'000'000u}) {
    const std::string body(size, 'b');
    std::thread sender([&] { client.post("/echo", body, "X-Request-Id: abc-1\r\n"); });
    const TestAnswer answer = client.answer();
    sender.join();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, body);
    EXPECT_EQ(answer.fields.at("X-Request-Id"), "abc-1");
    EXPECT_FALSE(answer.fields.contains("Connection"));
  }
}

TEST_F(HttpServerTest, DecodesChunkedBodies) {
  start();
  TestClient client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.send("4\r\ndefg\r\n0\r\n\r\nGET /stream HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_EQ(client.answer().body, "abcdefg");
  EXPECT_EQ(client.answer().body, "onetwothree");
}

TEST_F(HttpServerTest, StreamsToOldClientsUntilTheEnd) {
  start();
  const TestAnswer answer = once("GET /stream HTTP/1.0\r\n\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "onetwothree");
  EXPECT_EQ(answer.fields.at("Connection"), "close");
}

TEST_F(HttpServerTest, InventsAnIdInPlaceOfABadOne) {
  start();
  for (const std::string& id :
       {std::string("a b"), std::string(200, 'x'), std::string("<x>"), std::string()}) {
    TestClient client(server_->port());
    client.get("/echo", "X-Request-Id: " + id + "\r\n");
    EXPECT_TRUE(client.answer().fields.at("X-Request-Id").starts_with("req-")) << id;
  }
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  start();
  TestClient client(server_->port());
  client.send(
      "HEAD /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabcGET /stream HTTP/1.1\r\nHost: "
      "t\r\n\r\n");
  const TestAnswer head = client.answer(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.fields.at("Content-Length"), "3");
  EXPECT_EQ(client.answer().body, "onetwothree");
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  TestClient client(server_->port());
  constexpr int kRequests = 1000;
  std::string all;
  for (int i = 0; i < kRequests; ++i) {
    const std::string body = std::to_string(i);
    all += "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           body;
  }
  std::thread sender([&] { client.send(all); });
  for (int i = 0; i < kRequests; ++i) ASSERT_EQ(client.answer().body, std::to_string(i));
  sender.join();
}

TEST_F(HttpServerTest, ClosesAfterBadFraming) {
  start();
  for (const char* bytes : {"GET / HTTP/1.1\n\n", "GET / HTTP/1.1\r\n\r\n",
                            "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: +5\r\n\r\n",
                            "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n"}) {
    TestClient client(server_->port());
    client.send(bytes);
    const TestAnswer answer = client.answer();
    EXPECT_EQ(answer.status, 400) << bytes;
    EXPECT_EQ(answer.fields.at("Connection"), "close");
    EXPECT_NE(answer.body.find("\"error\""), std::string::npos);
    EXPECT_TRUE(client.wait_for_end());
  }
}

TEST_F(HttpServerTest, RefusesLargeHeadsWhileTheyCome) {
  start();
  TestClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: t\r\nX: " + std::string(1 << 20, 'a'));
  EXPECT_EQ(client.answer().status, 431);
  EXPECT_TRUE(client.wait_for_end());
}

TEST_F(HttpServerTest, RefusesLargeBodiesBeforeTheyCome) {
  start({.body_bytes_max = 1000});
  EXPECT_EQ(once("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n").status, 413);
  EXPECT_EQ(
      once("POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n").status,
      413);
  EXPECT_EQ(once("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n").status, 413);
  EXPECT_EQ(
      once("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'a')).status,
      200);
}

TEST_F(HttpServerTest, TheClientSeesAnEarlyAnswerWhileItStillSends) {
  start({.body_bytes_max = 1000});
  TestClient client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4000000\r\n\r\n");
  client.send(std::string(4'000'000, 'a'));
  EXPECT_EQ(client.answer().status, 413);
}

TEST_F(HttpServerTest, RefusesBeforeTheBody) {
  start();
  TestClient client(server_->port());
  client.send("POST /refused HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n");
  EXPECT_EQ(client.answer().status, 401);
  EXPECT_TRUE(client.wait_for_end());
  TestClient without_body(server_->port());
  without_body.get("/refused");
  EXPECT_EQ(without_body.answer().status, 401);
  without_body.get("/echo");
  EXPECT_EQ(without_body.answer().status, 200);
}

TEST_F(HttpServerTest, ContinuesWhenAsked) {
  start();
  TestClient client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  ASSERT_TRUE(client.wait_for("100 Continue\r\n\r\n"));
  client.send("abc");
  EXPECT_EQ(client.answer().body, "abc");
}

TEST_F(HttpServerTest, TimesOutSlowHeadsAndBodies) {
  start({.header_seconds_max = 1, .body_seconds_max = 3, .body_idle_seconds_max = 1, .idle_seconds_max = 1});
  TestClient head(server_->port());
  TestClient body(server_->port());
  TestClient expects(server_->port());
  TestClient idle(server_->port());
  head.send("GET / HTTP/1.1\r\nHost:");
  body.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\na");
  expects.send("POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(head.answer().status, 408);
  EXPECT_EQ(body.answer().status, 408);
  EXPECT_EQ(expects.answer().status, 408);
  EXPECT_TRUE(idle.wait_for_end());
  EXPECT_EQ(idle.received(), "");
}

TEST_F(HttpServerTest, NoticesClientsThatGoAway) {
  start();
  for (const bool hard : {false, true}) {
    const int before = handler_.gone;
    TestClient client(server_->port());
    client.get("/hang");
    const auto hanging = handler_.wait_for_hanging();
    ASSERT_NE(hanging, nullptr);
    if (hard) {
      client.reset();
    } else {
      client.close();
    }
    EXPECT_TRUE(eventually([&] { return handler_.gone == before + 1; }));
  }
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, GivesUpAReaderThatStops) {
  start();
  TestClient client(server_->port());
  client.get("/flood");
  EXPECT_TRUE(eventually([&] { return handler_.gone == 1; }));
  EXPECT_TRUE(eventually([&] { return server_->connections() == 0; }));
}

TEST_F(HttpServerTest, AnswersAfterATime) {
  start();
  EXPECT_EQ(once("GET /later HTTP/1.1\r\nHost: t\r\n\r\n").body, "later");
}

TEST_F(HttpServerTest, AnswersForAHandlerThatDropsTheRequest) {
  start();
  EXPECT_EQ(once("GET /dropped HTTP/1.1\r\nHost: t\r\n\r\n").status, 500);
}

TEST_F(HttpServerTest, LimitsConnections) {
  start({.connections_max = 2});
  TestClient a(server_->port());
  TestClient b(server_->port());
  ASSERT_TRUE(eventually([&] { return server_->connections() == 2; }));
  TestClient c(server_->port());
  EXPECT_EQ(c.answer().status, 503);
  a.close();
  ASSERT_TRUE(eventually([&] { return server_->connections() == 1; }));
  EXPECT_EQ(once("GET /echo HTTP/1.1\r\nHost: t\r\n\r\n").status, 200);
}

TEST_F(HttpServerTest, DrainsThenCutsOff) {
  start();
  TestClient idle(server_->port());
  TestClient busy(server_->port());
  busy.get("/hang");
  ASSERT_TRUE(eventually([&] { return server_->connections() == 2; }));
  const auto hanging = handler_.wait_for_hanging();
  ASSERT_NE(hanging, nullptr);
  EXPECT_FALSE(server_->stop(milliseconds(50)));
  EXPECT_TRUE(idle.wait_for_end());
  EXPECT_TRUE(busy.wait_for_end());
  EXPECT_EQ(handler_.gone, 1);
  EXPECT_FALSE(TestClient(server_->port()).connected());
}

TEST_F(HttpServerTest, DrainLetsAnAnswerEnd) {
  start();
  TestClient busy(server_->port());
  busy.get("/hang");
  const auto exchange = handler_.wait_for_hanging();
  ASSERT_NE(exchange, nullptr);
  std::thread stopper([&] { EXPECT_TRUE(server_->stop(milliseconds(10'000))); });
  exchange->post([exchange] { exchange->respond({}); });
  const TestAnswer answer = busy.answer();
  stopper.join();
  EXPECT_EQ(answer.status, 200);
}

TEST(HttpServerStart, NamesWhatIsWrong) {
  TestHandler handler;
  EXPECT_EQ(HttpServer::start({.host = "no such host!"}, handler).status().code(),
            StatusCode::kInvalidArgument);
  Result<std::unique_ptr<HttpServer>> first = HttpServer::start({.port = 0}, handler);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(HttpServer::start({.port = (*first)->port()}, handler).status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace gantry
