#include "chat/jinja_access.h"

#include <algorithm>
#include <charconv>

#include "chat/jinja_error.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

Value unsafe_attribute(const Value& object, std::string_view name) {
  return Value::undefined("access to attribute " + string_repr(name) + " of '" +
                          std::string(object.type_name()) + "' object is unsafe.");
}

Value loop_attribute(const Value& value, std::string_view name) {
  const Loop& loop = *value.loop();
  const auto number = [](size_t n) { return Value::integer(static_cast<Int>(n)); };
  if (name == "index") return number(loop.index0 + 1);
  if (name == "index0") return number(loop.index0);
  if (name == "length") return number(loop.length);
  if (name == "revindex") return number(loop.length - loop.index0);
  if (name == "revindex0") return number(loop.length - loop.index0 - 1);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "last") return Value::boolean(loop.index0 + 1 == loop.length);
  if (name == "depth") return number(1);
  if (name == "depth0") return number(0);
  if (name == "previtem") {
    if (loop.index0 == 0 || !loop.sequence) return Value::undefined("there is no previous item");
    return loop.sequence->items[loop.begin + loop.index0 - 1];
  }
  if (name == "nextitem") {
    if (loop.index0 + 1 >= loop.length || !loop.sequence) return Value::undefined("there is no next item");
    return loop.sequence->items[loop.begin + loop.index0 + 1];
  }
  if (name == "cycle" || name == "changed") {
    return std::shared_ptr<const Method>(std::make_shared<Method>(Method{value, std::string(name)}));
  }
  return Value::undefined_member(value, Value::literal(std::string(name)));
}

// The attribute that Python's type has under this name; undefined values here mean "none" when `found` is
// false.
Value own_attribute(const Value& object, std::string_view name, bool& found) {
  found = true;
  if (object.kind() == Value::Kind::kLoop) return loop_attribute(object, name);
  if (name.size() > 4 && name.substr(0, 2) == "__" && name.substr(name.size() - 2) == "__") {
    return unsafe_attribute(object, name);
  }
  if (object.kind() == Value::Kind::kNamespace) {
    if (const Value* value = object.name_space()->find(name)) return *value;
  }
  if (object.kind() == Value::Kind::kMacro && name == "name") {
    return Value::literal(object.macro()->node->name);
  }
  if (object.kind() == Value::Kind::kFunction && object.as_function() == Function::kDict &&
      name == "from_keys") {
    // GigaChat's template says dict.from_keys(pairs). Python's dict has no such method, so Jinja subscripts
    // the type, and dict["from_keys"](pairs) is dict(pairs).
    return object;
  }
  switch (method_status(object, name)) {
    case MethodStatus::kMethod:
      return std::shared_ptr<const Method>(std::make_shared<Method>(Method{object, std::string(name)}));
    case MethodStatus::kMutates:
      return unsafe_attribute(object, name);
    case MethodStatus::kNone:
      break;
  }
  found = false;
  return Value();
}

// The element at `index` of a sequence of `size`; negative counts from the end.
bool resolve_index(const Value& key, size_t size, size_t& index) {
  const Int wanted = key.as_int();
  const Int at = wanted < 0 ? wanted + static_cast<Int>(size) : wanted;
  if (at < 0 || at >= static_cast<Int>(size)) return false;
  index = static_cast<size_t>(at);
  return true;
}

bool is_subscriptable(const Sequence& sequence) {
  return sequence.type == SequenceType::kList || sequence.type == SequenceType::kTuple ||
         sequence.type == SequenceType::kRange;
}

// obj[key] of Python; false for a TypeError or LookupError.
bool own_item(Interpreter& interpreter, const Value& object, const Value& key, Value& out) {
  if (object.is_dict()) {
    if ((key.is_sequence() && key.sequence()->type == SequenceType::kList) || key.is_dict()) return false;
    interpreter.charge(key.weight());
    const Value* found = object.dict()->find(key);
    if (found == nullptr) return false;
    out = *found;
    return true;
  }
  if (!key.is_integral()) return false;
  size_t index = 0;
  if (object.is_sequence() && is_subscriptable(*object.sequence())) {
    const auto& items = object.sequence()->items;
    if (!resolve_index(key, items.size(), index)) return false;
    out = items[index];
    return true;
  }
  if (object.is_string()) {
    interpreter.charge_string(object.view().size());
    if (!resolve_index(key, unicode::length(object.view()), index)) return false;
    const size_t begin = unicode::byte_offset(object.view(), index);
    size_t end = begin;
    unicode::next(object.view(), end);
    out = Value::string(object.text().slice(begin, end), object.is_markup());
    return true;
  }
  return false;
}

struct Bounds {
  int64_t start;
  int64_t stop;
  int64_t step;
};

// PySlice_AdjustIndices.
Bounds adjust(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const int64_t by = step.is_none() ? 1 : to_index(step);
  if (by == 0) fail("slice step cannot be zero");
  const auto place = [&](const Value& bound, int64_t fallback) {
    if (bound.is_none()) return fallback;
    int64_t at = to_index(bound);
    if (at < 0) return std::max(at + size, by < 0 ? int64_t{-1} : int64_t{0});
    return std::min(at, by < 0 ? size - 1 : size);
  };
  return {place(start, by < 0 ? size - 1 : 0), place(stop, by < 0 ? -1 : size), by};
}

Value slice_string(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
                   const Value& step) {
  const std::string_view text = object.view();
  interpreter.charge_string(text.size());
  const auto size = static_cast<int64_t>(unicode::length(text));
  const Bounds b = adjust(size, start, stop, step);
  Text out;
  if (b.step == 1) {
    if (b.stop > b.start) {
      const size_t begin = unicode::byte_offset(text, static_cast<size_t>(b.start));
      const size_t bytes = unicode::byte_offset(text.substr(begin), static_cast<size_t>(b.stop - b.start));
      out = object.text().slice(begin, begin + bytes);
    }
    return interpreter.make_string(std::move(out), object.is_markup());
  }
  std::vector<size_t> offsets;  // of each code point, and the end
  interpreter.charge(static_cast<uint64_t>(size));
  for (size_t at = 0; at < text.size(); unicode::next(text, at)) offsets.push_back(at);
  offsets.push_back(text.size());
  for (int64_t i = b.start; b.step > 0 ? i < b.stop : i > b.stop; i += b.step) {
    out.append_slice(object.text(), offsets[static_cast<size_t>(i)], offsets[static_cast<size_t>(i) + 1]);
  }
  return interpreter.make_string(std::move(out), object.is_markup());
}

}  // namespace

int64_t to_index(const Value& value) {
  if (!value.is_integral()) {
    fail("slice indices must be integers or None or have an __index__ method");
  }
  constexpr Int kLimit = Int{1} << 62;
  return static_cast<int64_t>(std::clamp(value.as_int(), -kLimit, kLimit));
}

Value get_attribute(Interpreter& interpreter, const Value& object, const Value& name) {
  if (object.kind() == Value::Kind::kNamespace)
    interpreter.charge(object.name_space()->attributes.size() / 8);
  if (object.is_undefined()) fail(object.as_undefined().message);
  bool found = false;
  Value own = own_attribute(object, name.view(), found);
  if (found) return own;
  Value item;
  if (own_item(interpreter, object, name, item)) return item;
  return Value::undefined_member(object, name);
}

Value get_item(Interpreter& interpreter, const Value& object, const Value& key) {
  if (object.kind() == Value::Kind::kNamespace)
    interpreter.charge(object.name_space()->attributes.size() / 8);
  if (object.is_undefined()) fail(object.as_undefined().message);
  Value item;
  if (own_item(interpreter, object, key, item)) return item;
  if (key.is_string()) {
    bool found = false;
    Value own = own_attribute(object, key.view(), found);
    if (found) return own;
  }
  interpreter.charge(key.weight());
  return Value::undefined_member(object, key);
}

Value get_slice(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  if (object.is_undefined()) fail(object.as_undefined().message);
  if (object.is_string()) return slice_string(interpreter, object, start, stop, step);
  if (object.is_dict()) fail("unhashable type: 'slice'");
  if (!object.is_sequence() || !is_subscriptable(*object.sequence())) {
    fail("'" + std::string(object.type_name()) + "' object is not subscriptable");
  }
  const Sequence& sequence = *object.sequence();
  const Bounds b = adjust(static_cast<int64_t>(sequence.items.size()), start, stop, step);
  std::vector<Value> items;
  for (int64_t i = b.start; b.step > 0 ? i < b.stop : i > b.stop; i += b.step) {
    interpreter.charge(1);
    items.push_back(sequence.items[static_cast<size_t>(i)]);
  }
  return std::make_shared<Sequence>(sequence.type, std::move(items));
}

Value get_path(Interpreter& interpreter, const Value& object, const Value& path) {
  if (!path.is_string()) return get_item(interpreter, object, path);
  Value at = object;
  const std::string_view text = path.view();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    int64_t index = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = !part.empty() && part[0] != '-' && parsed.ec == std::errc() &&
                          parsed.ptr == part.data() + part.size();
    at = get_item(interpreter, at, is_index ? Value::integer(index) : Value::literal(std::string(part)));
    begin = end + 1;
  }
  return at;
}

std::shared_ptr<Sequence> iterate(Interpreter& interpreter, const Value& value) {
  const auto as_list = [](std::vector<Value> items) {
    return std::make_shared<Sequence>(SequenceType::kList, std::move(items));
  };
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      return as_list({});
    case Value::Kind::kSequence: {
      const auto& sequence = value.sequence();
      if (sequence->type != SequenceType::kGenerator) return sequence;
      std::vector<Value> left(sequence->items.begin() + static_cast<std::ptrdiff_t>(sequence->next),
                              sequence->items.end());
      sequence->next = sequence->items.size();
      return as_list(std::move(left));
    }
    case Value::Kind::kDict: {
      interpreter.charge(value.dict()->entries.size());
      std::vector<Value> keys;
      for (const auto& entry : value.dict()->entries) keys.push_back(entry.first);
      return as_list(std::move(keys));
    }
    case Value::Kind::kString: {
      std::vector<Value> items;
      const Text& text = value.text();
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        unicode::next(text.view(), at);
        interpreter.charge(8);
        items.push_back(Value::string(text.slice(begin, at), value.is_markup()));
      }
      return as_list(std::move(items));
    }
    default:
      fail("'" + std::string(value.type_name()) + "' object is not iterable");
  }
}

bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_sequence() || value.is_dict() || value.is_string() ||
         value.kind() == Value::Kind::kLoop;
}

bool has_length(const Value& value) {
  return is_iterable(value) && !(value.is_sequence() && value.sequence()->type == SequenceType::kGenerator);
}

size_t length(const Value& value) {
  if (!has_length(value)) fail("object of type '" + std::string(value.type_name()) + "' has no len()");
  switch (value.kind()) {
    case Value::Kind::kSequence:
      return value.sequence()->items.size();
    case Value::Kind::kDict:
      return value.dict()->entries.size();
    case Value::Kind::kString:
      return unicode::length(value.view());
    case Value::Kind::kLoop:
      return value.loop()->length;
    default:
      return 0;
  }
}

}  // namespace gantry::jinja
