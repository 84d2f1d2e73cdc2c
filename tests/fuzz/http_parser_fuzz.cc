// Any bytes as a connection sends them: the head and a chunked body, taken whole and byte by byte, give the same
// answer, and all that is kept stays within limits.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/limits.h"
#include "server/http_parser.h"

namespace {

constexpr size_t kBodyMax = 64;

struct Body {
  int status = 0;
  bool done = false;
  size_t used = 0;
  std::string bytes;
};

Body decode(std::string_view in, size_t step) {
  Body out;
  gantry::ChunkedDecoder decoder(kBodyMax);
  for (size_t i = 0; i < in.size() && out.status == 0 && !decoder.done(); i += step) {
    out.status = decoder.push(in.substr(i, step), out.used, out.bytes).status;
  }
  out.done = decoder.done();
  return out;
}

void check_body(std::string_view in) {
  const Body whole = decode(in, std::max<size_t>(in.size(), 1));
  const Body slow = decode(in, 1);
  GANTRY_CHECK(whole.status == slow.status);
  GANTRY_CHECK(whole.done == slow.done);
  GANTRY_CHECK(whole.bytes == slow.bytes);
  GANTRY_CHECK(whole.bytes.size() <= kBodyMax);
  GANTRY_CHECK(whole.status != 0 || whole.used == slow.used);
}

void check_fields(const gantry::RequestHead& head) {
  GANTRY_CHECK(head.headers.size() <= gantry::limits::kHttpHeadersMax);
  GANTRY_CHECK(!(head.chunked && head.content_length));
  GANTRY_CHECK(head.path == "*" || head.path.front() == '/');
  for (const gantry::HttpHeader& field : head.headers) {
    GANTRY_CHECK(!field.name.empty());
    GANTRY_CHECK(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  gantry::HeadScanner whole;
  gantry::HeadScanner slow;
  const gantry::HttpError error = whole.scan(bytes);
  gantry::HttpError slow_error;
  for (size_t n = 1; n <= size && !slow_error && !slow.done(); ++n)
    slow_error = slow.scan(bytes.substr(0, n));
  GANTRY_CHECK(error.status == slow_error.status);
  GANTRY_CHECK(whole.done() == slow.done());
  if (!whole.done()) {
    check_body(bytes);
    return 0;
  }
  GANTRY_CHECK(whole.size() <= gantry::limits::kHttpHeaderBytesMax && whole.size() == slow.size());
  gantry::RequestHead head;
  if (gantry::parse_head(bytes.substr(0, whole.size()), head)) return 0;
  check_fields(head);
  (void)gantry::percent_decode(head.path);
  check_body(bytes.substr(whole.size()));
  return 0;
}
