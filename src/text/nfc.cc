#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "text/unicode.h"

namespace gantry {
namespace {

constexpr int kDecompositionMax = 8;  // code points; the longest canonical one has 4

// The common characters that are normalized as they are and never combine with what is before them.
bool starts_run(uint32_t c) {
  return c < 0x300 || (c >= 0x3041 && c <= 0x3096) || (c >= 0x30a1 && c <= 0x30fa) ||
         (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xac00 && c <= 0xd7a3);
}

int combining_class(int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Canonical ordering: a stable sort by combining class of each run of marks. (utf8proc_decompose does it by
// exchanges, which takes quadratic time on a long run.)
void order_marks(std::vector<int32_t>& code_points) {
  std::vector<uint64_t> keys;
  for (size_t begin = 0; begin < code_points.size();) {
    if (combining_class(code_points[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < code_points.size() && combining_class(code_points[end]) != 0) ++end;
    // Combining class, place, code point: sorting these numbers keeps the order within a class.
    keys.clear();
    for (size_t i = begin; i < end; ++i) {
      keys.push_back(static_cast<uint64_t>(combining_class(code_points[i])) << 56 | (i - begin) << 24 |
                     static_cast<uint64_t>(code_points[i]));
    }
    std::sort(keys.begin(), keys.end());
    for (size_t i = begin; i < end; ++i) code_points[i] = static_cast<int32_t>(keys[i - begin] & 0xffffff);
    begin = end;
  }
}

void append_composed(std::vector<int32_t>& run, std::string& out) {
  if (run.empty()) return;
  order_marks(run);
  const utf8proc_ssize_t length =
      utf8proc_normalize_utf32(run.data(), static_cast<utf8proc_ssize_t>(run.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  for (utf8proc_ssize_t i = 0; i < length; ++i) {
    append_utf8(static_cast<uint32_t>(run[static_cast<size_t>(i)]), out);
  }
  run.clear();
}

void decompose(uint32_t c, std::vector<int32_t>& run) {
  int32_t parts[kDecompositionMax];
  int boundary = 0;
  const utf8proc_ssize_t length = utf8proc_decompose_char(
      static_cast<int32_t>(c), parts, kDecompositionMax,
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE), &boundary);
  run.insert(run.end(), parts, parts + std::clamp<utf8proc_ssize_t>(length, 0, kDecompositionMax));
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<int32_t> run;
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    const auto [c, bytes] = decode_utf8(p);
    const char* const next = p + bytes;
    if (is_normalization_exception(c)) {
      append_composed(run, out);
      out.append(p, bytes);
    } else if (!starts_run(c)) {
      decompose(c, run);
    } else {
      append_composed(run, out);
      if (next == end || starts_run(decode_utf8(next).value)) {
        out.append(p, bytes);
      } else {
        decompose(c, run);
      }
    }
    p = next;
  }
  append_composed(run, out);
  return out;
}

}  // namespace gantry
