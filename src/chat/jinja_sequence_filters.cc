// Filters on lists and mappings, jinja2/filters.py.
#include <algorithm>
#include <unordered_set>

#include "chat/jinja_access.h"
#include "chat/jinja_error.h"
#include "chat/jinja_filters.h"
#include "chat/jinja_operators.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

Value fallback(Interpreter&, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_default", {"default_value", "boolean"}, 0);
  const bool boolean = is_given(bound[1]) && bound[1].truthy();
  if (!value.is_undefined() && !(boolean && !value.truthy())) return value;
  return is_given(bound[0]) ? bound[0] : Value::literal("");
}

Value first(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_first", {}, 0);
  if (value.is_sequence() && value.sequence()->type == SequenceType::kGenerator) {
    Sequence& generator = *value.sequence();
    if (generator.next < generator.items.size()) return generator.items[generator.next++];
    return Value::undefined("No first item, sequence was empty.");
  }
  if (value.is_string() && !value.text().empty()) return get_item(interpreter, value, Value::integer(0));
  const auto sequence = iterate(interpreter, value);
  if (sequence->items.empty()) return Value::undefined("No first item, sequence was empty.");
  return sequence->items.front();
}

void need_reversible(const Value& value) {
  if (!has_length(value) || value.kind() == Value::Kind::kLoop) {
    fail("'" + std::string(value.type_name()) + "' object is not reversible");
  }
}

Value last(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_last", {}, 0);
  need_reversible(value);
  if (value.is_string() && !value.text().empty()) return get_item(interpreter, value, Value::integer(-1));
  const auto sequence = iterate(interpreter, value);
  if (sequence->items.empty()) return Value::undefined("No last item, sequence was empty.");
  return sequence->items.back();
}

Value list(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_list", {}, 0);
  std::vector<Value> items = iterate(interpreter, value)->items;
  interpreter.charge(items.size());
  return Value::list(std::move(items));
}

Value reverse(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_reverse", {}, 0);
  if (value.is_string()) {
    return get_slice(interpreter, value, Value(), Value(), Value::integer(-1));
  }
  if (!is_iterable(value)) fail("argument must be iterable");
  std::vector<Value> items = iterate(interpreter, value)->items;
  interpreter.charge(items.size());
  std::reverse(items.begin(), items.end());
  return make_generator(std::move(items));
}

Value items_of(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  arguments.bind("do_items", {}, 0);
  if (value.is_undefined()) return make_generator({});
  if (!value.is_dict()) fail("Can only get item pairs from a mapping.");
  std::vector<Value> pairs;
  for (const auto& [key, item] : value.dict()->entries) {
    interpreter.charge(4);
    pairs.push_back(Value::tuple({key, item}));
  }
  return make_generator(std::move(pairs));
}

// Stable; `keys` are compared with Python's <, item by item.
void sort_by(Interpreter& interpreter, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  if (reverse) std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    interpreter.charge(1);
    return less(interpreter, a.first, b.first);
  });
  if (reverse) std::reverse(keyed.begin(), keyed.end());
}

std::vector<Value> second_of(std::vector<std::pair<Value, Value>> keyed) {
  std::vector<Value> out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return out;
}

Value dict_sort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_dictsort", {"case_sensitive", "by", "reverse"}, 0);
  const bool case_sensitive = is_given(bound[0]) && bound[0].truthy();
  const std::string by = is_given(bound[1]) ? interpreter.text_of(bound[1]).bytes() : "key";
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) fail(value.as_undefined().message);
  if (!value.is_dict()) fail("'" + std::string(value.type_name()) + "' object has no attribute 'items'");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.dict()->entries) {
    interpreter.charge(4);
    keyed.emplace_back(ignore_case(interpreter, by == "key" ? key : item, case_sensitive),
                       Value::tuple({key, item}));
  }
  sort_by(interpreter, keyed, is_given(bound[2]) && bound[2].truthy());
  return Value::list(second_of(std::move(keyed)));
}

Value sort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_sort", {"reverse", "case_sensitive", "attribute"}, 0);
  const bool case_sensitive = is_given(bound[1]) && bound[1].truthy();
  std::vector<Value> paths;
  if (is_given(bound[2]) && bound[2].is_string()) {
    const std::string_view text = bound[2].view();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      paths.push_back(Value::literal(std::string(text.substr(begin, end - begin))));
      begin = end + 1;
    }
  } else if (is_given(bound[2]) && !bound[2].is_none()) {
    paths.push_back(bound[2]);
  }
  std::vector<std::pair<Value, Value>> keyed;
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    interpreter.charge(4);
    std::vector<Value> key;
    if (paths.empty()) key.push_back(ignore_case(interpreter, item, case_sensitive));
    for (const Value& path : paths) {
      key.push_back(ignore_case(interpreter, get_path(interpreter, item, path), case_sensitive));
    }
    keyed.emplace_back(Value::list(std::move(key)), item);
  }
  sort_by(interpreter, keyed, is_given(bound[0]) && bound[0].truthy());
  return Value::list(second_of(std::move(keyed)));
}

Value unique(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_unique", {"case_sensitive", "attribute"}, 0);
  const bool case_sensitive = is_given(bound[0]) && bound[0].truthy();
  std::unordered_set<std::string> seen;
  std::vector<Value> out;
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    const bool by_attribute = is_given(bound[1]) && !bound[1].is_none();
    const Value key =
        ignore_case(interpreter, by_attribute ? get_path(interpreter, item, bound[1]) : item, case_sensitive);
    interpreter.charge(4 + key.weight());
    if (seen.insert(hash_key(key)).second) out.push_back(item);
  }
  return make_generator(std::move(out));
}

Value batch(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_batch", {"linecount", "fill_with"}, 1);
  const int64_t size = to_index(bound[0]);
  std::vector<Value> out;
  std::vector<Value> line;
  const auto visited = iterate(interpreter, value);
  for (const Value& item : visited->items) {
    interpreter.charge(2);
    if (static_cast<int64_t>(line.size()) == size) out.push_back(Value::list(std::exchange(line, {})));
    line.push_back(item);
  }
  if (!line.empty()) {
    if (is_given(bound[1]) && !bound[1].is_none() && static_cast<int64_t>(line.size()) < size) {
      interpreter.charge(static_cast<uint64_t>(size));
      line.resize(static_cast<size_t>(size), bound[1]);
    }
    out.push_back(Value::list(std::move(line)));
  }
  return make_generator(std::move(out));
}

Value slice(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const auto bound = arguments.bind("do_slice", {"slices", "fill_with"}, 1);
  const int64_t slices = to_index(bound[0]);
  if (slices == 0) fail("integer division or modulo by zero");
  const auto sequence = iterate(interpreter, value);
  interpreter.charge(sequence->items.size() + static_cast<uint64_t>(std::max<int64_t>(slices, 0)));
  const auto per_slice = static_cast<int64_t>(sequence->items.size()) / std::max<int64_t>(slices, 1);
  const auto extra = static_cast<int64_t>(sequence->items.size()) % std::max<int64_t>(slices, 1);
  std::vector<Value> out;
  auto at = sequence->items.begin();
  for (int64_t i = 0; i < slices; ++i) {
    const auto end = at + per_slice + (i < extra ? 1 : 0);
    std::vector<Value> part(at, end);
    if (is_given(bound[1]) && !bound[1].is_none() && i >= extra) part.push_back(bound[1]);
    out.push_back(Value::list(std::move(part)));
    at = end;
  }
  return make_generator(std::move(out));
}

Value attribute(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  const Value name = arguments.bind("do_attr", {"name"}, 1)[0];
  if (!name.is_string()) fail("attribute name must be string, not '" + std::string(name.type_name()) + "'");
  // A key of a mapping is no attribute.
  if (value.is_dict() && method_status(value, name.view()) == MethodStatus::kNone) {
    return Value::undefined_member(value, name);
  }
  return get_attribute(interpreter, value, name);
}

}  // namespace

const FilterTable& sequence_filters() {
  static const FilterTable table = {
      {"default", fallback}, {"d", fallback},      {"first", first},    {"last", last},
      {"list", list},        {"reverse", reverse}, {"items", items_of}, {"sort", sort},
      {"unique", unique},    {"batch", batch},     {"slice", slice},    {"dictsort", dict_sort},
      {"attr", attribute},
  };
  return table;
}

}  // namespace gantry::jinja
