#include "server/http_parser.h"

#include <algorithm>
#include <array>

#include "base/limits.h"

namespace gantry {
namespace {

constexpr HttpError bad(std::string_view text) { return {400, text}; }
constexpr HttpError kHeadTooLarge{431, "the request's header fields are too large"};

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> kTokenChar = make_token_table();  // RFC 9110, 5.6.2

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return kTokenChar[static_cast<unsigned char>(c)]; });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// One field line without its CRLF (RFC 9112, section 5).
HttpError parse_field(std::string_view line, HttpHeader& field) {
  if (line.front() == ' ' || line.front() == '\t') return bad("a header field is folded over lines");
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return bad("a header field has no valid name");
  }
  const std::string_view value = trim(line.substr(colon + 1));
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return bad("a header field holds a control character");
  }
  field.name = lowered(line.substr(0, colon));
  field.value = value;
  return {};
}

HttpError parse_target(std::string_view target, RequestHead& head) {
  for (const char c : target) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f) return bad("the request target holds an invalid character");
  }
  if (head.method == "OPTIONS" && target == "*") {
    head.path = "*";
    return {};
  }
  // The absolute form, which a server must accept (RFC 9112, 3.2.2).
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (lowered(target.substr(0, scheme.size())) != scheme) continue;
    target.remove_prefix(scheme.size());
    const size_t slash = target.find_first_of("/?");
    if (slash == 0 || target.empty()) return bad("the request target has no authority");
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
    break;
  }
  if (target.empty() || (target.front() != '/' && target.front() != '?')) {
    return bad("the request target is not a path");
  }
  if (target.find('#') != std::string_view::npos) return bad("the request target holds a fragment");
  const size_t query = target.find('?');
  head.path = target.substr(0, query);
  if (head.path.empty()) head.path = "/";
  if (query != std::string_view::npos) head.query = target.substr(query + 1);
  return {};
}

HttpError parse_request_line(std::string_view line, RequestHead& head) {
  const size_t first = line.find(' ');
  const size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos || line.find(' ', second + 1) != std::string_view::npos) {
    return bad("the request line is not METHOD TARGET VERSION");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view version = line.substr(second + 1);
  if (!is_token(method) || method.size() > 32) return bad("the request method is invalid");
  head.method = method;
  if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || version[6] != '.' || version[5] < '0' ||
      version[5] > '9' || version[7] < '0' || version[7] > '9') {
    return bad("the HTTP version is invalid");
  }
  if (version[5] != '1') return {505, "the HTTP version is not supported: use HTTP/1.1"};
  head.version_minor = version[7] == '0' ? 0 : 1;
  head.keep_alive = head.version_minor == 1;
  return parse_target(line.substr(first + 1, second - first - 1), head);
}

HttpError parse_content_length(std::string_view value, RequestHead& head) {
  if (head.content_length) return bad("Content-Length is repeated");
  uint64_t length = 0;
  if (value.empty()) return bad("Content-Length is not a number");
  for (const char c : value) {
    if (c < '0' || c > '9') return bad("Content-Length is not a number");
    const auto digit = static_cast<uint64_t>(c - '0');
    if (length > (UINT64_MAX - digit) / 10) return bad("Content-Length is out of range");
    length = length * 10 + digit;
  }
  head.content_length = length;
  return {};
}

bool valid_host(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return kTokenChar[static_cast<unsigned char>(c)] ||
           std::string_view(":[]();,=").find(c) != std::string_view::npos;
  });
}

// True if the comma-separated list names the (lower case) option.
bool lists_option(std::string_view list, std::string_view option) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (lowered(trim(list.substr(0, comma))) == option) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

// The fields that frame the message.
HttpError apply_fields(RequestHead& head) {
  int hosts = 0;
  int transfer_encodings = 0;
  for (const HttpHeader& field : head.headers) {
    if (field.name == "host") {
      if (++hosts > 1) return bad("Host is repeated");
      if (!valid_host(field.value)) return bad("Host is invalid");
    } else if (field.name == "content-length") {
      if (const HttpError error = parse_content_length(field.value, head)) return error;
    } else if (field.name == "transfer-encoding") {
      if (++transfer_encodings > 1) return bad("Transfer-Encoding is repeated");
      if (head.version_minor == 0) return bad("Transfer-Encoding needs HTTP/1.1");
      if (lowered(field.value) != "chunked") return bad("Transfer-Encoding must be chunked");
      head.chunked = true;
    } else if (field.name == "connection") {
      if (lists_option(field.value, "close")) head.keep_alive = false;
    } else if (field.name == "expect") {
      if (lowered(field.value) != "100-continue") return {417, "the expectation is not supported"};
      head.expect_continue = head.version_minor == 1;
    }
  }
  if (hosts == 0 && head.version_minor == 1) return bad("Host is missing");
  if (head.chunked && head.content_length)
    return bad("Content-Length and Transfer-Encoding exclude each other");
  return {};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

const std::string* RequestHead::find(std::string_view name) const {
  for (const HttpHeader& field : headers) {
    if (field.name == name) return &field.value;
  }
  return nullptr;
}

HttpError HeadScanner::scan(std::string_view buffer) {
  for (; pos_ < buffer.size() && !done_; ++pos_) {
    if (pos_ >= limits::kHttpHeaderBytesMax) return kHeadTooLarge;
    const char c = buffer[pos_];
    if (c == '\n') {
      if (!cr_) return bad("a line ends with a bare LF");
      cr_ = false;
      if (line_ == 0 && started_) done_ = true;
      // One empty line before the request line is skipped (RFC 9112, 2.2), not more.
      if (line_ == 0 && !started_ && pos_ > 1) return bad("the request line is missing");
      line_ = 0;
    } else if (cr_) {
      return bad("a CR is not followed by LF");
    } else if (c == '\r') {
      cr_ = true;
    } else if (c == '\0') {
      return bad("the request's head holds a NUL");
    } else {
      if (!started_ && !kTokenChar[static_cast<unsigned char>(c)])
        return bad("the request method is invalid");
      started_ = true;
      ++line_;
    }
  }
  if (!done_ && buffer.size() >= limits::kHttpHeaderBytesMax) return kHeadTooLarge;
  return {};
}

HttpError parse_head(std::string_view block, RequestHead& head) {
  head = {};
  if (block.substr(0, 2) == "\r\n") block.remove_prefix(2);
  bool first = true;
  while (true) {
    const size_t end = block.find("\r\n");
    if (end == std::string_view::npos) return bad("the request's head is cut off");
    const std::string_view line = block.substr(0, end);
    block.remove_prefix(end + 2);
    if (line.empty()) break;
    if (first) {
      first = false;
      if (const HttpError error = parse_request_line(line, head)) return error;
      continue;
    }
    if (head.headers.size() >= limits::kHttpHeadersMax)
      return {431, "the request has too many header fields"};
    if (const HttpError error = parse_field(line, head.headers.emplace_back())) return error;
  }
  if (first) return bad("the request line is missing");
  return apply_fields(head);
}

HttpError ChunkedDecoder::trailer_line() {
  if (line_.empty()) {
    state_ = State::kDone;
    return {};
  }
  if (++trailer_fields_ > limits::kHttpHeadersMax) return {431, "the trailer has too many fields"};
  HttpHeader field;
  if (const HttpError error = parse_field(line_, field)) return error;
  line_.clear();
  return {};
}

HttpError ChunkedDecoder::push(std::string_view in, size_t& used, std::string& body) {
  size_t i = 0;
  while (i < in.size() && state_ != State::kDone) {
    const char c = in[i];
    switch (state_) {
      case State::kSize: {
        ++i;
        if (c == '\r') {
          if (digits_ == 0) return bad("a chunk has no size");
          state_ = State::kSizeLf;
          break;
        }
        const int digit = hex_digit(c);
        if (digit < 0)
          return bad("a chunk's size is not a hexadecimal number (extensions are not supported)");
        if (++digits_ > 16) return bad("a chunk's size has more than 16 digits");
        size_ = size_ << 4 | static_cast<uint64_t>(digit);
        break;
      }
      case State::kSizeLf:
        ++i;
        if (c != '\n') return bad("a chunk's size is not followed by CRLF");
        digits_ = 0;
        if (size_ == 0) {
          state_ = State::kTrailer;
          break;
        }
        if (++chunks_ > limits::kHttpChunksMax) return {413, "the request body has too many chunks"};
        if (size_ > body_bytes_max_ - std::min(body_bytes_max_, body.size())) {
          return {413, "the request body is too large"};
        }
        state_ = State::kData;
        break;
      case State::kData: {
        const size_t take = std::min<uint64_t>(size_, in.size() - i);
        body.append(in.substr(i, take));
        i += take;
        size_ -= take;
        if (size_ == 0) state_ = State::kDataCr;
        break;
      }
      case State::kDataCr:
        ++i;
        if (c != '\r') return bad("a chunk is longer than its size");
        state_ = State::kDataLf;
        break;
      case State::kDataLf:
        ++i;
        if (c != '\n') return bad("a chunk is not followed by CRLF");
        state_ = State::kSize;
        break;
      case State::kTrailer: {
        ++i;
        if (++trailer_bytes_ > limits::kHttpHeaderBytesMax) return {431, "the trailer is too large"};
        if (c == '\n') {
          if (line_.empty() || line_.back() != '\r') return bad("a line ends with a bare LF");
          line_.pop_back();
          if (const HttpError error = trailer_line()) return error;
        } else {
          if (!line_.empty() && line_.back() == '\r') return bad("a CR is not followed by LF");
          line_.push_back(c);
        }
        break;
      }
      case State::kDone:
        break;
    }
  }
  used += i;
  return {};
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out.push_back(static_cast<char>(high << 4 | low));
    i += 2;
  }
  return out;
}

}  // namespace gantry
