// Strict HTTP/1.1 framing (RFC 9112), with no I/O: the end of a request's head, its fields, and chunked
// bodies. Every call is linear in the bytes that are new, and all that is kept is bounded by base/limits.h.
// Where the RFC lets a recipient be lenient (bare LF, obs-fold, repeated Content-Length, chunk extensions),
// this refuses: leniency is what request smuggling lives on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry {

// What to answer before closing the connection; status 0 is no error.
struct HttpError {
  int status = 0;
  std::string_view text;  // one line, safe to show
  explicit operator bool() const { return status != 0; }
};

struct HttpHeader {
  std::string name;  // lower case
  std::string value;
};

struct RequestHead {
  std::string method;
  std::string path;  // of the target, as sent (percent-encoded), without the query
  std::string query;
  int version_minor = 1;  // of HTTP/1.x
  std::vector<HttpHeader> headers;
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expect_continue = false;

  // The first field of that (lower case) name, or null.
  const std::string* find(std::string_view name) const;
  bool has_body() const { return chunked || content_length.value_or(0) > 0; }
};

// Finds the end of a head in a buffer that grows. 400 for NUL, a bare CR or a bare LF, 431 over the size
// limit: at the first byte that shows it, so that a peer that waits is answered.
class HeadScanner {
 public:
  // `buffer` starts with what earlier calls were given.
  HttpError scan(std::string_view buffer);
  bool done() const { return done_; }
  // Once done: bytes of the head in the buffer, the blank line included.
  size_t size() const { return pos_; }

 private:
  size_t pos_ = 0;
  size_t line_ = 0;  // bytes of the current line
  bool cr_ = false;
  bool started_ = false;  // a byte of the request line was seen
  bool done_ = false;
};

// `block` is a whole head as the scanner found it.
HttpError parse_head(std::string_view block, RequestHead& head);

// Decodes a chunked body. Trailer fields are checked and dropped.
class ChunkedDecoder {
 public:
  explicit ChunkedDecoder(size_t body_bytes_max) : body_bytes_max_(body_bytes_max) {}
  // Appends decoded bytes to `body` and adds what it took of `in` to `used`; all of `in` unless done.
  HttpError push(std::string_view in, size_t& used, std::string& body);
  bool done() const { return state_ == State::kDone; }

 private:
  enum class State { kSize, kSizeLf, kData, kDataCr, kDataLf, kTrailer, kDone };
  HttpError trailer_line();

  size_t body_bytes_max_;
  State state_ = State::kSize;
  uint64_t size_ = 0;  // of the current chunk, then what is left of it
  int digits_ = 0;
  size_t chunks_ = 0;
  std::string line_;  // of the trailer
  size_t trailer_bytes_ = 0;
  size_t trailer_fields_ = 0;
};

// "%2F" to "/"; empty for a malformed escape or a NUL.
std::optional<std::string> percent_decode(std::string_view text);

}  // namespace gantry
