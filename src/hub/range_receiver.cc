#include "hub/range_receiver.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "formats/quote_name.h"

namespace gantry::hub {
namespace {

// W/"abc" → abc
std::string_view plain_etag(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.starts_with('"')) etag.remove_prefix(1);
  if (etag.ends_with('"')) etag.remove_suffix(1);
  return etag;
}

bool take_number(std::string_view& text, uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "bytes 0-99/1000" or "bytes 0-99/*" (RFC 9110 section 14.4) that answers `asked` of `size` bytes.
bool is_answer_to(std::string_view text, const ByteRange& asked, uint64_t size) {
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t total = 0;
  return take(text, "bytes ") && take_number(text, first) && take(text, "-") && take_number(text, last) &&
         take(text, "/") && (text == "*" || (take_number(text, total) && text.empty() && total == size)) &&
         first == asked.begin && last >= first && last < asked.end;
}

class Try {
 public:
  Try(BlobSource& source, PartialFile& file, size_t index, bool whole)
      : source_(source), file_(file), index_(index) {
    const Chunk& chunk = file.chunk(index);
    asked_ = {chunk.begin + chunk.done.load(), chunk.end};
    skip_ = whole ? asked_.begin : 0;
    // A content of one range is asked for without one: some servers have ranges for large files only.
    ranged_ = !whole && (asked_.begin > 0 || asked_.end < file.size());
  }

  bool no_ranges() const { return no_ranges_; }

  Attempt run(Fetcher& fetcher) {
    std::string url = known_url();
    const bool was_known = !url.empty();
    if (!was_known) url = source_.hub_url;
    std::string final_url;
    Attempt attempt = fetcher.get(
        url, ranged_ ? std::optional(asked_) : std::nullopt,
        {.on_redirect = [this](const HttpHead& head) { return check_identity(head); },
         .on_head = [this](const HttpHead& head, bool from_hub) { return on_head(head, from_hub); },
         .on_body = [this](std::string_view bytes) { return on_body(bytes); }},
        &final_url);
    if (attempt.status.ok() && !file_.chunk(index_).complete()) {
      attempt = {unavailable(fmt::format("the content ended after {} of {} bytes",
                                         file_.chunk(index_).done.load(), file_.chunk(index_).bytes())),
                 true,
                 {}};
    }
    remember_url(attempt.status.ok() && final_url != source_.hub_url ? final_url : std::string());
    // A signed link expires: the hub gives another.
    const bool stopped = attempt.status.code() == StatusCode::kCancelled;
    if (!attempt.status.ok() && was_known && !stopped && !no_ranges_) attempt.retry = true;
    if (!attempt.status.ok()) attempt.status = attempt.status.with_context(source_.blob->paths.front());
    return attempt;
  }

 private:
  std::string known_url() {
    const std::lock_guard lock(source_.mutex);
    return source_.content_url;
  }
  void remember_url(std::string url) {
    const std::lock_guard lock(source_.mutex);
    source_.content_url = std::move(url);
  }

  // What the hub says of the content that it sends or redirects to.
  Attempt check_identity(const HttpHead& head) const {
    const std::string_view commit = head.header("x-repo-commit");
    if (!commit.empty() && commit != source_.commit) {
      return {data_loss(
          fmt::format("the hub answers with commit {}, asked was {}", quote_name(commit), source_.commit))};
    }
    std::string_view etag = plain_etag(head.header("x-linked-etag"));
    if (etag.empty() && head.status / 100 == 2) etag = plain_etag(head.header("etag"));
    if ((is_sha256(etag) || is_sha1(etag)) && etag != source_.blob->etag) {
      return {
          data_loss(fmt::format("the hub sends the content {}, its list says {}", etag, source_.blob->etag))};
    }
    std::string_view size = head.header("x-linked-size");
    uint64_t bytes = 0;
    if (take_number(size, bytes) && size.empty() && bytes != file_.size()) {
      return {data_loss(fmt::format("the hub sends {} bytes, its list says {}", bytes, file_.size()))};
    }
    return {};
  }

  Attempt on_head(const HttpHead& head, bool from_hub) {
    if (from_hub) {
      if (Attempt attempt = check_identity(head); !attempt.status.ok()) return attempt;
    }
    if (head.status == 206) {
      const std::string_view range = head.header("content-range");
      if (ranged_ && is_answer_to(range, asked_, file_.size())) return {};
      return {data_loss(fmt::format("asked for bytes {} to {} of {}, the server answers {}", asked_.begin,
                                    asked_.end - 1, file_.size(), quote_name(range)))};
    }
    if (ranged_) {
      no_ranges_ = true;
      return {unavailable("the server has no ranges")};
    }
    std::string_view length = head.header("content-length");
    uint64_t bytes = 0;
    if (take_number(length, bytes) && bytes != file_.size()) {
      return {data_loss(fmt::format("the server sends {} bytes, the hub lists {}", bytes, file_.size()))};
    }
    return {};
  }

  Attempt on_body(std::string_view bytes) {
    const auto skipped = static_cast<size_t>(std::min<uint64_t>(skip_, bytes.size()));
    skip_ -= skipped;
    bytes.remove_prefix(skipped);
    const Chunk& chunk = file_.chunk(index_);
    if (bytes.size() > chunk.bytes() - chunk.done.load()) {
      return {
          data_loss(fmt::format("the server sends more than the {} bytes that the hub lists", file_.size()))};
    }
    return {file_.write(index_, bytes)};
  }

  BlobSource& source_;
  PartialFile& file_;
  size_t index_;
  ByteRange asked_;
  uint64_t skip_ = 0;
  bool ranged_ = false;
  bool no_ranges_ = false;
};

}  // namespace

Result<Received> receive_range(Fetcher& fetcher, Retrier& retrier, BlobSource& source, PartialFile& file,
                               size_t chunk, bool whole) {
  bool no_ranges = false;
  const Status status = retrier.run([&] {
    const uint64_t before = file.chunk(chunk).done.load();
    Try one(source, file, chunk, whole);
    Attempt attempt = one.run(fetcher);
    no_ranges = one.no_ranges();
    return Retrier::Try{std::move(attempt), file.chunk(chunk).done.load() > before};
  });
  if (no_ranges) return Received::kNoRanges;
  GANTRY_RETURN_IF_ERROR(status);
  return Received::kComplete;
}

}  // namespace gantry::hub
