// The methods of Python's str. Each keeps the origin of the bytes that it passes on.
#include <algorithm>
#include <unordered_map>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_interpreter.h"
#include "chat/jinja_operators.h"
#include "chat/jinja_unicode.h"
#include "chat/python_format.h"

namespace gantry::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

struct Call {
  Interpreter& interpreter;
  const Value& self;
  const Arguments& arguments;

  const Text& text() const { return self.text(); }
  std::string_view view() const { return self.view(); }
  Value make(Text out) const { return interpreter.make_string(std::move(out), self.is_markup()); }
  Value make_slice(size_t begin, size_t end) const { return make(text().slice(begin, end)); }
  std::vector<Value> bind(const char* name, const std::vector<std::string_view>& names,
                          size_t required) const {
    return arguments.bind(name, names, required);
  }
};

std::string_view need_string(const Value& value, const char* what) {
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (!value.is_string()) fail(std::string(what) + " must be str, not " + std::string(value.type_name()));
  return value.view();
}

// `from` and `to` as byte offsets of the part that start and stop choose.
void choose_part(std::string_view text, const Value& start, const Value& stop, size_t& from, size_t& to) {
  from = 0;
  to = text.size();
  if (!is_given(start) && !is_given(stop)) return;
  const auto size = static_cast<int64_t>(unicode::length(text));
  const auto place = [&](const Value& value, int64_t fallback) {
    if (!is_given(value) || value.is_none()) return fallback;
    int64_t at = to_index(value);
    if (at < 0) at = std::max<int64_t>(at + size, 0);
    return at;
  };
  const int64_t begin = place(start, 0);
  const int64_t end = std::min(place(stop, size), size);
  from = begin > size ? kNone : unicode::byte_offset(text, static_cast<size_t>(begin));
  to = unicode::byte_offset(text, static_cast<size_t>(end));
}

// How much of the white space, or of the code points in `chars`, goes at both ends.
void strip_bounds(std::string_view text, const Value& chars, bool left, bool right, size_t& begin,
                  size_t& end) {
  begin = 0;
  end = text.size();
  const bool spaces = !is_given(chars) || chars.is_none();
  std::vector<char32_t> set;
  if (!spaces) {
    const std::string_view wanted = need_string(chars, "strip arg");
    for (size_t at = 0; at < wanted.size();) set.push_back(unicode::next(wanted, at));
    std::sort(set.begin(), set.end());
  }
  const auto goes = [&](size_t at) {
    const char32_t c = unicode::next(text, at);
    return spaces ? unicode::is_space(c) : std::binary_search(set.begin(), set.end(), c);
  };
  while (left && begin < end) {
    size_t next = begin;
    unicode::next(text, next);
    if (!goes(begin)) break;
    begin = next;
  }
  while (right && end > begin) {
    const size_t start = unicode::previous_start(text, end);
    if (!goes(start)) break;
    end = start;
  }
}

template <bool left, bool right>
Value strip(const Call& call) {
  const Value chars = call.bind("strip", {"chars"}, 0)[0];
  size_t begin = 0;
  size_t end = 0;
  if (is_given(chars) && chars.is_string()) call.interpreter.charge(8 * chars.weight());
  strip_bounds(call.view(), chars, left, right, begin, end);
  return call.make_slice(begin, end);
}

Int limit_of(const Value& value) {
  return is_given(value) && !value.is_none() ? Int{to_index(value)} : Int{-1};
}

void split_spaces(const Call& call, Int limit, std::vector<Value>& out) {
  const std::string_view text = call.view();
  size_t at = 0;
  const auto skip_spaces = [&] {
    while (at < text.size()) {
      size_t next = at;
      if (!unicode::is_space(unicode::next(text, next))) break;
      at = next;
    }
  };
  skip_spaces();
  while (at < text.size()) {
    const size_t begin = at;
    if (limit >= 0 && static_cast<Int>(out.size()) >= limit) {
      out.push_back(call.make_slice(begin, text.size()));
      return;
    }
    while (at < text.size()) {
      size_t next = at;
      if (unicode::is_space(unicode::next(text, next))) break;
      at = next;
    }
    out.push_back(call.make_slice(begin, at));
    skip_spaces();
  }
}

void rsplit_spaces(const Call& call, Int limit, std::vector<Value>& out) {
  const std::string_view text = call.view();
  size_t end = text.size();
  const auto space_before = [&](size_t at) {
    size_t start = unicode::previous_start(text, at);
    return unicode::is_space(unicode::next(text, start));
  };
  while (end > 0 && space_before(end)) end = unicode::previous_start(text, end);
  while (end > 0) {
    size_t begin = end;
    if (limit >= 0 && static_cast<Int>(out.size()) >= limit) {
      out.push_back(call.make_slice(0, end));
      break;
    }
    while (begin > 0 && !space_before(begin)) begin = unicode::previous_start(text, begin);
    out.push_back(call.make_slice(begin, end));
    end = begin;
    while (end > 0 && space_before(end)) end = unicode::previous_start(text, end);
  }
  std::reverse(out.begin(), out.end());
}

template <bool from_right>
Value split(const Call& call) {
  const auto bound = call.bind(from_right ? "rsplit" : "split", {"sep", "maxsplit"}, 0);
  const Int limit = limit_of(bound[1]);
  std::vector<Value> out;
  call.interpreter.charge(call.self.weight());
  if (!is_given(bound[0]) || bound[0].is_none()) {
    from_right ? rsplit_spaces(call, limit, out) : split_spaces(call, limit, out);
    return Value::list(std::move(out));
  }
  const std::string_view separator = need_string(bound[0], "separator");
  if (separator.empty()) fail("empty separator");
  // Where the separators are. From the right they are found from the right: "aaa".rsplit("aa") is ["a", ""].
  std::vector<size_t> cuts;
  const std::string_view text = call.view();
  if (from_right) {
    const std::string reversed_text(text.rbegin(), text.rend());
    const std::string reversed_separator(separator.rbegin(), separator.rend());
    size_t from = 0;
    while (limit < 0 || static_cast<Int>(cuts.size()) < limit) {
      const size_t at = find_bytes(reversed_text, reversed_separator, from);
      if (at == kNone) break;
      from = at + separator.size();
      cuts.push_back(text.size() - from);
    }
    std::reverse(cuts.begin(), cuts.end());
  } else {
    size_t from = 0;
    while (limit < 0 || static_cast<Int>(cuts.size()) < limit) {
      const size_t at = find_bytes(text, separator, from);
      if (at == kNone) break;
      cuts.push_back(at);
      from = at + separator.size();
    }
  }
  size_t begin = 0;
  for (const size_t cut : cuts) {
    out.push_back(call.make_slice(begin, cut));
    begin = cut + separator.size();
  }
  out.push_back(call.make_slice(begin, text.size()));
  return Value::list(std::move(out));
}

template <bool from_right>
Value partition(const Call& call) {
  const Value separator = call.bind("partition", {"sep"}, 1)[0];
  const std::string_view wanted = need_string(separator, "separator");
  if (wanted.empty()) fail("empty separator");
  call.interpreter.charge(call.self.weight());
  const size_t at = from_right ? find_last_bytes(call.view(), wanted) : find_bytes(call.view(), wanted, 0);
  const Value empty = Value::literal("");
  if (at == kNone) {
    return from_right ? Value::tuple({empty, empty, call.self}) : Value::tuple({call.self, empty, empty});
  }
  const size_t end = at + wanted.size();
  return Value::tuple(
      {call.make_slice(0, at), call.make_slice(at, end), call.make_slice(end, call.text().size())});
}

Value split_lines(const Call& call) {
  const Value keep = call.bind("splitlines", {"keepends"}, 0)[0];
  const bool keep_ends = is_given(keep) && keep.truthy();
  const std::string_view text = call.view();
  std::vector<Value> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t c = unicode::next(text, at);
    if (!unicode::is_line_break(c)) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.push_back(call.make_slice(begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < text.size()) out.push_back(call.make_slice(begin, text.size()));
  return Value::list(std::move(out));
}

Value replace(const Call& call) {
  const auto bound = call.bind("replace", {"old", "new", "count"}, 2);
  const std::string_view from = need_string(bound[0], "replace() argument 1");
  need_string(bound[1], "replace() argument 2");
  const Text to = call.self.is_markup() ? escape_html(bound[1]) : bound[1].text();
  const Int limit = limit_of(bound[2]);
  const Text& text = call.text();
  Text out;
  Int done = 0;
  call.interpreter.charge(call.self.weight());
  const auto more = [&] { return limit < 0 || done < limit; };
  const auto put = [&] {
    call.interpreter.charge(1 + to.cost());
    out.append(to);
    ++done;
  };
  if (from.empty()) {
    size_t at = 0;
    while (more()) {
      put();
      if (at >= text.size()) break;
      const size_t begin = at;
      unicode::next(text.view(), at);
      out.append_slice(text, begin, at);
    }
    out.append_slice(text, at, text.size());
    return call.make(std::move(out));
  }
  size_t begin = 0;
  while (more()) {
    const size_t at = find_bytes(text.view(), from, begin);
    if (at == kNone) break;
    out.append_slice(text, begin, at);
    put();
    begin = at + from.size();
  }
  out.append_slice(text, begin, text.size());
  return call.make(std::move(out));
}

template <bool at_start>
Value has_affix(const Call& call) {
  const char* name = at_start ? "startswith" : "endswith";
  const auto bound = call.bind(name, {"affix", "start", "end"}, 1);
  size_t from = 0;
  size_t to = 0;
  if (is_given(bound[1])) call.interpreter.charge(call.self.weight());
  choose_part(call.view(), bound[1], bound[2], from, to);
  const auto matches = [&](std::string_view affix) {
    if (from == kNone || to < from || to - from < affix.size()) return false;
    return call.view().substr(at_start ? from : to - affix.size(), affix.size()) == affix;
  };
  const Value& affix = bound[0];
  if (affix.is_undefined()) fail(affix.as_undefined().message);
  if (affix.is_sequence() && affix.sequence()->type == SequenceType::kTuple) {
    for (const Value& item : affix.sequence()->items) {
      call.interpreter.charge(item.weight());
      if (!item.is_string()) {
        fail("tuple for " + std::string(name) + " must only contain str, not " +
             std::string(item.type_name()));
      }
      if (matches(item.view())) return Value::boolean(true);
    }
    return Value::boolean(false);
  }
  if (!affix.is_string()) {
    fail(std::string(name) + " first arg must be str or a tuple of str, not " +
         std::string(affix.type_name()));
  }
  return Value::boolean(matches(affix.view()));
}

template <bool from_right, bool must_exist>
Value find(const Call& call) {
  const auto bound = call.bind("find", {"sub", "start", "end"}, 1);
  const std::string_view wanted = need_string(bound[0], "find() argument 1");
  call.interpreter.charge(call.self.weight());
  size_t from = 0;
  size_t to = 0;
  choose_part(call.view(), bound[1], bound[2], from, to);
  size_t at = kNone;
  if (from != kNone && from <= to) {
    const std::string_view part = call.view().substr(from, to - from);
    at = from_right ? find_last_bytes(part, wanted) : find_bytes(part, wanted, 0);
  }
  if (at == kNone) {
    if (must_exist) fail("substring not found");
    return Value::integer(-1);
  }
  return Value::integer(static_cast<Int>(unicode::length(call.view().substr(0, from + at))));
}

Value count(const Call& call) {
  const auto bound = call.bind("count", {"sub", "start", "end"}, 1);
  const std::string_view wanted = need_string(bound[0], "count() argument 1");
  call.interpreter.charge(call.self.weight());
  size_t from = 0;
  size_t to = 0;
  choose_part(call.view(), bound[1], bound[2], from, to);
  if (from == kNone || from > to) return Value::integer(0);
  const std::string_view part = call.view().substr(from, to - from);
  if (wanted.empty()) return Value::integer(static_cast<Int>(unicode::length(part)) + 1);
  Int n = 0;
  for (size_t at = find_bytes(part, wanted, 0); at != kNone;
       at = find_bytes(part, wanted, at + wanted.size()))
    ++n;
  return Value::integer(n);
}

Value join(const Call& call) {
  const Value items = call.bind("join", {"iterable"}, 1)[0];
  Text out;
  size_t index = 0;
  const auto visited = iterate(call.interpreter, items);
  for (const Value& item : visited->items) {
    if (!item.is_string()) {
      fail("sequence item " + std::to_string(index) + ": expected str instance, " +
           std::string(item.type_name()) + " found");
    }
    call.interpreter.charge(4 + item.text().cost() + call.text().cost());
    if (index++ > 0) out.append(call.text());
    out.append(call.self.is_markup() ? escape_html(item) : item.text());
  }
  return call.make(std::move(out));
}

// Each run mapped on its own, so that the origins stay.
Value map_runs(const Call& call, std::string (*map)(std::string_view)) {
  Text out;
  size_t begin = 0;
  for (const Text::Run& run : call.text().runs()) {
    out.append(map(call.view().substr(begin, run.end - begin)), run.from_template);
    begin = run.end;
  }
  return call.make(std::move(out));
}

template <std::string (*map)(std::string_view)>
Value map_case(const Call& call) {
  call.bind("str method", {}, 0);
  return map_runs(call, map);
}

// The case of a code point follows from the one before it.
template <bool every_word>
Value title_case(const Call& call) {
  call.bind(every_word ? "title" : "capitalize", {}, 0);
  Text out;
  bool start = true;
  size_t at = 0;
  for (const Text::Run& run : call.text().runs()) {
    std::string part;
    while (at < run.end) {
      const size_t begin = at;
      const char32_t c = unicode::next(call.view(), at);
      if (start) {
        unicode::append_title(part, c);
      } else if (c == 0x3A3) {
        // A final sigma looks at its neighbours: the text as a whole says which form it has.
        part += unicode::lower_at(call.view(), begin, at);
      } else {
        unicode::append_lower(part, c);
      }
      start = every_word && !unicode::is_cased(c);
    }
    out.append(part, run.from_template);
  }
  return call.make(std::move(out));
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = unicode::next(text, at);
    unicode::is_upper(c) ? unicode::append_lower(out, c) : unicode::append_upper(out, c);
  }
  return out;
}

bool is_alnum(char32_t c) { return unicode::is_alpha(c) || unicode::is_numeric(c); }
bool is_ascii(char32_t c) { return c < 0x80; }

template <bool (*predicate)(char32_t), bool of_empty>
Value all_are(const Call& call) {
  call.bind("str method", {}, 0);
  call.interpreter.charge(call.self.weight());
  for (size_t at = 0; at < call.view().size();) {
    if (!predicate(unicode::next(call.view(), at))) return Value::boolean(false);
  }
  return Value::boolean(of_empty || !call.view().empty());
}

template <bool (*wanted)(char32_t)>
Value has_only_case(const Call& call) {
  call.bind("str method", {}, 0);
  call.interpreter.charge(call.self.weight());
  bool any = false;
  for (size_t at = 0; at < call.view().size();) {
    const char32_t c = unicode::next(call.view(), at);
    if (!unicode::is_cased(c)) continue;
    if (!wanted(c)) return Value::boolean(false);
    any = true;
  }
  return Value::boolean(any);
}

Value is_title(const Call& call) {
  call.bind("istitle", {}, 0);
  bool any = false;
  bool after_cased = false;
  for (size_t at = 0; at < call.view().size();) {
    const char32_t c = unicode::next(call.view(), at);
    const bool lower = unicode::is_lower(c);
    const bool upper = unicode::is_cased(c) && !lower;
    if ((upper && after_cased) || (lower && !after_cased)) return Value::boolean(false);
    after_cased = upper || lower;
    any = any || after_cased;
  }
  return Value::boolean(any);
}

// -1: text left, 0: centre, 1: text right.
template <int side>
Value justify(const Call& call) {
  constexpr int64_t kWidthMax = 1'000'000;
  const auto bound = call.bind(side < 0 ? "ljust" : side > 0 ? "rjust" : "center", {"width", "fillchar"}, 1);
  const int64_t width = to_index(bound[0]);
  if (width > kWidthMax) fail("a width larger than 1000000");
  const Text fill =
      is_given(bound[1]) ? (need_string(bound[1], "fillchar"), bound[1].text()) : Text(" ", true);
  if (unicode::length(fill.view()) != 1) fail("The fill character must be exactly one character long");
  const auto size = static_cast<int64_t>(unicode::length(call.view()));
  const int64_t missing = std::max<int64_t>(width - size, 0);
  // CPython's rounding of the odd one.
  const int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
  call.interpreter.charge_string(static_cast<size_t>(missing) * fill.size());
  Text out;
  for (int64_t i = 0; i < left; ++i) out.append(fill);
  out.append(call.text());
  for (int64_t i = left; i < missing; ++i) out.append(fill);
  return call.make(std::move(out));
}

Value zero_fill(const Call& call) {
  constexpr int64_t kWidthMax = 1'000'000;
  const int64_t width = to_index(call.bind("zfill", {"width"}, 1)[0]);
  if (width > kWidthMax) fail("a width larger than 1000000");
  const auto missing = std::max<int64_t>(width - static_cast<int64_t>(unicode::length(call.view())), 0);
  const size_t sign = !call.view().empty() && (call.view()[0] == '-' || call.view()[0] == '+') ? 1 : 0;
  Text out = call.text().slice(0, sign);
  out.append(std::string(static_cast<size_t>(missing), '0'), true);
  out.append_slice(call.text(), sign, call.text().size());
  return call.make(std::move(out));
}

template <bool at_start>
Value remove_affix(const Call& call) {
  const Value affix = call.bind(at_start ? "removeprefix" : "removesuffix", {"affix"}, 1)[0];
  const std::string_view wanted =
      need_string(affix, at_start ? "removeprefix() argument" : "removesuffix() argument");
  const std::string_view text = call.view();
  if (wanted.size() > text.size()) return call.self;
  const size_t at = at_start ? 0 : text.size() - wanted.size();
  if (text.substr(at, wanted.size()) != wanted) return call.self;
  return at_start ? call.make_slice(wanted.size(), text.size()) : call.make_slice(0, at);
}

Value format(const Call& call) {
  return call.make(format_braces(call.interpreter, call.self, call.arguments));
}

using StringMethod = Value (*)(const Call&);

const std::unordered_map<std::string_view, StringMethod>& methods() {
  static const std::unordered_map<std::string_view, StringMethod> table = {
      {"capitalize", title_case<false>},
      {"casefold", map_case<unicode::lower>},
      {"center", justify<0>},
      {"count", count},
      {"endswith", has_affix<false>},
      {"find", find<false, false>},
      {"format", format},
      {"index", find<false, true>},
      {"isalnum", all_are<is_alnum, false>},
      {"isalpha", all_are<unicode::is_alpha, false>},
      {"isascii", all_are<is_ascii, true>},
      {"isdecimal", all_are<unicode::is_decimal, false>},
      {"isdigit", all_are<unicode::is_digit, false>},
      {"islower", has_only_case<unicode::is_lower>},
      {"isnumeric", all_are<unicode::is_numeric, false>},
      {"isprintable", all_are<unicode::is_printable, true>},
      {"isspace", all_are<unicode::is_space, false>},
      {"istitle", is_title},
      {"isupper", has_only_case<unicode::is_upper>},
      {"join", join},
      {"ljust", justify<-1>},
      {"lower", map_case<unicode::lower>},
      {"lstrip", strip<true, false>},
      {"partition", partition<false>},
      {"removeprefix", remove_affix<true>},
      {"removesuffix", remove_affix<false>},
      {"replace", replace},
      {"rfind", find<true, false>},
      {"rindex", find<true, true>},
      {"rjust", justify<1>},
      {"rpartition", partition<true>},
      {"rsplit", split<true>},
      {"rstrip", strip<false, true>},
      {"split", split<false>},
      {"splitlines", split_lines},
      {"startswith", has_affix<true>},
      {"strip", strip<true, true>},
      {"swapcase", map_case<swap_case>},
      {"title", title_case<true>},
      {"upper", map_case<unicode::upper>},
      {"zfill", zero_fill},
  };
  return table;
}

}  // namespace

Value call_string_method(Interpreter& interpreter, const Value& receiver, const std::string& name,
                         const Arguments& arguments) {
  const auto it = methods().find(name);
  if (it == methods().end()) refuse("method '" + name + "' of a str");
  return it->second(Call{interpreter, receiver, arguments});
}

}  // namespace gantry::jinja
