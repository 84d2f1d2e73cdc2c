#include "server/http_parser.h"

#include <gtest/gtest.h>

#include <string>

#include "base/limits.h"

namespace gantry {
namespace {

const std::string kHost = "Host: localhost\r\n";

// The error of a head as a connection would find it, whether it comes whole or byte by byte.
HttpError read_head(const std::string& bytes, RequestHead& head) {
  HeadScanner whole;
  HttpError error = whole.scan(bytes);
  HeadScanner slow;
  HttpError slow_error;
  for (size_t n = 1; n <= bytes.size() && !slow_error && !slow.done(); ++n) {
    slow_error = slow.scan(std::string_view(bytes).substr(0, n));
  }
  EXPECT_EQ(error.status, slow_error.status) << bytes;
  EXPECT_EQ(whole.done(), slow.done()) << bytes;
  if (error) return error;
  if (!whole.done()) return {408, "the head does not end"};
  EXPECT_EQ(whole.size(), slow.size());
  return parse_head(std::string_view(bytes).substr(0, whole.size()), head);
}

int status_of(const std::string& bytes) {
  RequestHead head;
  return read_head(bytes, head).status;
}

std::string request(const std::string& fields) { return "POST /v1/x HTTP/1.1\r\n" + kHost + fields + "\r\n"; }

TEST(HttpHead, ReadsARequest) {
  RequestHead head;
  ASSERT_FALSE(read_head(
      "POST /a/b?x=1&y HTTP/1.1\r\nHost: h:80\r\nX-One:  two\t\r\nContent-Length: 12\r\n\r\nrest", head));
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/a/b");
  EXPECT_EQ(head.query, "x=1&y");
  EXPECT_EQ(head.version_minor, 1);
  EXPECT_EQ(*head.find("x-one"), "two");
  EXPECT_EQ(head.find("x-two"), nullptr);
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_TRUE(head.has_body());
}

TEST(HttpHead, TakesOneEmptyLineBeforeTheRequest) {
  EXPECT_EQ(status_of("\r\nGET / HTTP/1.1\r\n" + kHost + "\r\n"), 0);
  EXPECT_EQ(status_of("\r\n\r\nGET / HTTP/1.1\r\n" + kHost + "\r\n"), 400);
}

TEST(HttpHead, TakesAbsoluteTargets) {
  RequestHead head;
  ASSERT_FALSE(read_head("GET http://example.org/v1/models HTTP/1.1\r\n" + kHost + "\r\n", head));
  EXPECT_EQ(head.path, "/v1/models");
  ASSERT_FALSE(read_head("GET http://example.org HTTP/1.1\r\n" + kHost + "\r\n", head));
  EXPECT_EQ(head.path, "/");
  EXPECT_EQ(status_of("GET http:///x HTTP/1.1\r\n" + kHost + "\r\n"), 400);
}

TEST(HttpHead, RefusesTargetsThatAreNoPaths) {
  for (const char* target : {"x", "", "/a b", "/a#b", "/\x80", "ftp://x/", "*"}) {
    EXPECT_EQ(status_of("GET " + std::string(target) + " HTTP/1.1\r\n" + kHost + "\r\n"), 400) << target;
  }
}

TEST(HttpHead, RefusesRequestLines) {
  for (const char* line :
       {"GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "G@T / HTTP/1.1", "GET / http/1.1",
        "GET / HTTP/11", "GET / HTTP/1.10", "GET / HTTP/x.1", "GET\t/ HTTP/1.1"}) {
    EXPECT_EQ(status_of(std::string(line) + "\r\n" + kHost + "\r\n"), 400) << line;
  }
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\n" + kHost + "\r\n"), 505);
}

TEST(HttpHead, RefusesContentLengths) {
  for (const char* value : {"+5", "0x5", "-1", "", "5 5", "5,5", "5;", "1e3", "99999999999999999999"}) {
    EXPECT_EQ(status_of(request("Content-Length: " + std::string(value) + "\r\n")), 400) << value;
  }
  EXPECT_EQ(status_of(request("Content-Length: 5\r\nContent-Length: 5\r\n")), 400);
  EXPECT_EQ(status_of(request("Content-Length: 5\r\nContent-Length: 6\r\n")), 400);
  EXPECT_EQ(status_of(request("Content-Length: 18446744073709551615\r\n")), 0);
  EXPECT_EQ(status_of(request("Content-Length: 18446744073709551616\r\n")), 400);
}

TEST(HttpHead, RefusesTransferEncodings) {
  EXPECT_EQ(status_of(request("Transfer-Encoding: chunked\r\n")), 0);
  EXPECT_EQ(status_of(request("Transfer-Encoding: Chunked\r\n")), 0);
  for (const char* value :
       {"gzip", "chunked, gzip", "gzip, chunked", "identity", "", "chunked,", "xchunked", "\"chunked\""}) {
    EXPECT_EQ(status_of(request("Transfer-Encoding: " + std::string(value) + "\r\n")), 400) << value;
  }
  EXPECT_EQ(status_of(request("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")), 400);
  EXPECT_EQ(status_of(request("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")), 400);
  EXPECT_EQ(status_of(request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

TEST(HttpHead, RefusesLineEndsThatAreNotCrLf) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\nHost: x\n\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: x\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"), 400);
}

TEST(HttpHead, RefusesFields) {
  for (const char* field :
       {"X : y", " X: y", "\tfolded", ": y", "X", "X\x01: y", "X: a\x01", "X: a\x7f", "X(: y", "X\x80: y"}) {
    EXPECT_EQ(status_of(request(std::string(field) + "\r\n")), 400) << field;
  }
  EXPECT_EQ(status_of(request(std::string("X: a\0b\r\n", 8))), 400);
  EXPECT_EQ(status_of(request("X: one\r\n two\r\n")), 400);
  EXPECT_EQ(status_of(request("X: caf\xc3\xa9\r\n")), 0);
}

TEST(HttpHead, NeedsOneValidHost) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
  for (const char* host : {"", "a b", "a/b", "user@a", "a?", "a\\b"}) {
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n"), 400) << host;
  }
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n"), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 0);
}

TEST(HttpHead, KnowsWhenToClose) {
  RequestHead head;
  ASSERT_FALSE(read_head(request("Connection: keep-alive, Close\r\n"), head));
  EXPECT_FALSE(head.keep_alive);
  ASSERT_FALSE(read_head(request("Connection: keep-alive\r\n"), head));
  EXPECT_TRUE(head.keep_alive);
  ASSERT_FALSE(read_head("GET / HTTP/1.0\r\n\r\n", head));
  EXPECT_FALSE(head.keep_alive);
}

TEST(HttpHead, KnowsExpectations) {
  RequestHead head;
  ASSERT_FALSE(read_head(request("Expect: 100-Continue\r\nContent-Length: 1\r\n"), head));
  EXPECT_TRUE(head.expect_continue);
  EXPECT_EQ(status_of(request("Expect: 200-ok\r\n")), 417);
}

TEST(HttpHead, LimitsSizeAndCount) {
  EXPECT_EQ(status_of(request("X: " + std::string(1 << 20, 'a') + "\r\n")), 431);
  EXPECT_EQ(status_of("GET /" + std::string(1 << 20, 'a')), 431);
  std::string fields;
  for (size_t i = 1; i < limits::kHttpHeadersMax; ++i) fields += "X: y\r\n";
  EXPECT_EQ(status_of(request(fields)), 0);
  EXPECT_EQ(status_of(request(fields + "X: y\r\n")), 431);
  const std::string fixed = request("X: \r\n");
  EXPECT_EQ(status_of(request("X: " + std::string(limits::kHttpHeaderBytesMax - fixed.size(), 'a') + "\r\n")),
            0);
  EXPECT_EQ(
      status_of(request("X: " + std::string(limits::kHttpHeaderBytesMax - fixed.size() + 1, 'a') + "\r\n")),
      431);
}

TEST(HttpHead, RefusesOtherProtocolsAtTheFirstBytes) {
  EXPECT_EQ(status_of(std::string("\x16\x03\x01\x02", 4)), 400);  // TLS
  EXPECT_EQ(status_of("{\"model\""), 400);
}

struct Decoded {
  int status = 0;
  bool done = false;
  std::string body;
  size_t used = 0;
};

Decoded decode(const std::string& bytes, size_t step, size_t max = 1000) {
  ChunkedDecoder decoder(max);
  Decoded out;
  for (size_t i = 0; i < bytes.size() && out.status == 0 && !decoder.done(); i += step) {
    out.status = decoder.push(std::string_view(bytes).substr(i, step), out.used, out.body).status;
  }
  out.done = decoder.done();
  return out;
}

int chunk_status(const std::string& bytes, size_t max = 1000) {
  const Decoded whole = decode(bytes, bytes.size(), max);
  const Decoded slow = decode(bytes, 1, max);
  EXPECT_EQ(whole.status, slow.status) << bytes.substr(0, 80);
  EXPECT_EQ(whole.done, slow.done) << bytes.substr(0, 80);
  EXPECT_EQ(whole.body, slow.body) << bytes.substr(0, 80);
  return whole.status != 0 ? whole.status : whole.done ? 0 : -1;
}

TEST(ChunkedBody, Decodes) {
  const std::string bytes = "5\r\nhello\r\n00A\r\n, chunked!\r\n0\r\nX-Trailer: 1\r\n\r\nGET /";
  for (const size_t step : {1u, 2u, 3u, 7u, 100u}) {
    const Decoded out = decode(bytes, step);
    EXPECT_EQ(out.status, 0);
    EXPECT_TRUE(out.done);
    EXPECT_EQ(out.body, "hello, chunked!");
    EXPECT_EQ(bytes.substr(out.used), "GET /");
  }
  EXPECT_EQ(chunk_status("0\r\n\r\n"), 0);
}

TEST(ChunkedBody, WaitsForTheEnd) {
  for (const char* bytes : {"5", "5\r\nhel", "5\r\nhello\r\n", "0\r\n", "0\r\nX: y\r\n", "0\r\n\r"}) {
    EXPECT_EQ(chunk_status(bytes), -1) << bytes;
  }
}

TEST(ChunkedBody, RefusesBadFraming) {
  for (const char* bytes :
       {"\r\n", "g\r\n", "+5\r\nhello\r\n", "0x5\r\nhello\r\n", " 5\r\nhello\r\n", "5 \r\nhello\r\n",
        "5;a=b\r\nhello\r\n", "5\nhello\r\n", "5\rhello\r\n", "5\r\nhelloX\r\n", "5\r\nhello\n",
        "5\r\nhello\rX", "00000000000000005\r\nhello\r\n", "-1\r\n", "0\r\nX\r\n\r\n", "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX: \ry\r\n\r\n"}) {
    EXPECT_EQ(chunk_status(bytes), 400) << bytes;
  }
}

TEST(ChunkedBody, LimitsTheBody) {
  EXPECT_EQ(chunk_status("5\r\nhello\r\n0\r\n\r\n", 5), 0);
  EXPECT_EQ(chunk_status("5\r\nhello\r\n1\r\n", 5), 413);
  EXPECT_EQ(chunk_status("6\r\n", 5), 413);
  EXPECT_EQ(chunk_status("ffffffffffffffff\r\n", 5), 413);
}

TEST(ChunkedBody, LimitsChunks) {
  std::string bytes;
  for (size_t i = 0; i < limits::kHttpChunksMax; ++i) bytes += "1\r\na\r\n";
  EXPECT_EQ(chunk_status(bytes + "0\r\n\r\n", 1 << 20), 0);
  EXPECT_EQ(chunk_status(bytes + "1\r\na\r\n0\r\n\r\n", 1 << 20), 413);
}

TEST(ChunkedBody, LimitsTrailers) {
  EXPECT_EQ(chunk_status("0\r\nX: " + std::string(1 << 20, 'a') + "\r\n\r\n"), 431);
  std::string fields;
  for (size_t i = 0; i <= limits::kHttpHeadersMax; ++i) fields += "X: y\r\n";
  EXPECT_EQ(chunk_status("0\r\n" + fields + "\r\n"), 431);
}

TEST(PercentDecode, DecodesAndRefuses) {
  EXPECT_EQ(percent_decode("org%2Fname-1.2"), "org/name-1.2");
  EXPECT_EQ(percent_decode(""), "");
  for (const char* text : {"%", "%2", "a%2", "%zz", "%00"})
    EXPECT_EQ(percent_decode(text), std::nullopt) << text;
}

}  // namespace
}  // namespace gantry
