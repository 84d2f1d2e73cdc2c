#include "chat/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "chat/jinja_error.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

constexpr size_t kIndexFrom = 9;  // entries from which a dict has a hash index

uint64_t saturating_add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

int checked_depth(int depth) {
  if (depth > limits::kTemplateDepthMax) {
    exhaust("a value is nested deeper than " + std::to_string(limits::kTemplateDepthMax));
  }
  return depth;
}

// "'dict object'", "None": jinja2.utils.object_type_repr.
std::string object_type(const Value& object) {
  if (object.is_none()) return "None";
  switch (object.kind()) {
    case Value::Kind::kNamespace:
      return "jinja2.utils.Namespace object";
    case Value::Kind::kLoop:
      return "jinja2.runtime.LoopContext object";
    case Value::Kind::kMacro:
      return "jinja2.runtime.Macro object";
    default:
      return std::string(object.type_name()) + " object";
  }
}

void append_hash_key(const Value& value, std::string& out) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      out += 'N';
      return;
    case Value::Kind::kUndefined:
      out += 'U';
      return;
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      out += 'i' + int_repr(value.as_int());
      return;
    case Value::Kind::kFloat: {
      const double d = value.as_double();
      if (std::floor(d) == d && std::fabs(d) < 0x1p126) {
        out += 'i' + int_repr(static_cast<Int>(d));
      } else {
        out += 'f' + float_repr(d);
      }
      return;
    }
    case Value::Kind::kString:
      out += 's' + std::to_string(value.view().size()) + ':';
      out += value.view();
      return;
    case Value::Kind::kSequence:
      if (value.sequence()->type == SequenceType::kTuple) {
        out += '(';
        for (const Value& item : value.sequence()->items) append_hash_key(item, out);
        out += ')';
        return;
      }
      if (value.sequence()->type == SequenceType::kList) fail("unhashable type: 'list'");
      refuse("a " + std::string(value.type_name()) + " as a key");
    case Value::Kind::kDict:
      fail("unhashable type: 'dict'");
    default:
      refuse("a " + std::string(value.type_name()) + " as a key");
  }
}

}  // namespace

Value Value::string(Text text, bool markup) {
  return Value(Data(std::shared_ptr<const Str>(std::make_shared<Str>(Str{std::move(text), markup}))));
}

Value Value::undefined(std::string hint) {
  return std::shared_ptr<const Undefined>(std::make_shared<Undefined>(Undefined{std::move(hint)}));
}

Value Value::undefined_name(std::string name) { return undefined(string_repr(name) + " is undefined"); }

Value Value::undefined_member(const Value& object, const Value& key) {
  if (!key.is_string()) return undefined(object_type(object) + " has no element " + repr(key).bytes());
  return undefined(string_repr(object_type(object)) + " has no attribute " + string_repr(key.view()));
}

Value Value::list(std::vector<Value> items) {
  return std::make_shared<Sequence>(SequenceType::kList, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return std::make_shared<Sequence>(SequenceType::kTuple, std::move(items));
}

const Text& Value::text() const { return std::get<std::shared_ptr<const Str>>(data_)->text; }
bool Value::is_markup() const { return is_string() && std::get<std::shared_ptr<const Str>>(data_)->markup; }

bool Value::truthy() const {
  switch (kind()) {
    case Kind::kNone:
    case Kind::kUndefined:
      return false;
    case Kind::kBool:
      return as_bool();
    case Kind::kInt:
      return as_int() != 0;
    case Kind::kFloat:
      return as_double() != 0;
    case Kind::kString:
      return !text().empty();
    case Kind::kSequence:
      return sequence()->type == SequenceType::kGenerator || !sequence()->items.empty();
    case Kind::kDict:
      return !dict()->entries.empty();
    case Kind::kLoop:
      return loop()->length > 0;
    default:
      return true;
  }
}

bool Value::same_as(const Value& other) const {
  if (kind() != other.kind()) return false;
  return data_ == other.data_;
}

std::string_view Value::type_name() const {
  switch (kind()) {
    case Kind::kNone:
      return "NoneType";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return is_markup() ? "Markup" : "str";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kMacro:
      return "Macro";
    case Kind::kMethod:
      return "builtin_function_or_method";
    case Kind::kFunction:
      return "function";
    case Kind::kSequence:
      break;
  }
  switch (sequence()->type) {
    case SequenceType::kList:
      return "list";
    case SequenceType::kTuple:
      return "tuple";
    case SequenceType::kRange:
      return "range";
    case SequenceType::kDictKeys:
      return "dict_keys";
    case SequenceType::kDictValues:
      return "dict_values";
    case SequenceType::kDictItems:
      return "dict_items";
    case SequenceType::kGenerator:
      return "generator";
  }
  return "object";
}

int Value::depth() const {
  if (kind() == Kind::kSequence) return sequence()->depth;
  if (kind() == Kind::kDict) return dict()->depth;
  return 0;
}

uint64_t Value::weight() const {
  if (kind() == Kind::kString) return 1 + text().cost();
  if (kind() == Kind::kSequence) return sequence()->weight;
  if (kind() == Kind::kDict) return dict()->weight;
  return 1;
}

Sequence::Sequence(SequenceType sequence_type, std::vector<Value> sequence_items)
    : type(sequence_type), items(std::move(sequence_items)) {
  int inner = 0;
  for (const Value& item : items) {
    inner = std::max(inner, item.depth());
    weight = saturating_add(weight, item.weight());
  }
  depth = checked_depth(inner + 1);
}

void Dict::set(const Value& key, Value value) {
  std::string hash = hash_key(key);
  depth = checked_depth(std::max({depth, 1 + value.depth(), 1 + key.depth()}));
  weight = saturating_add(weight, saturating_add(key.weight(), value.weight()));
  if (const Value* found = find(key)) {
    const_cast<Value&>(*found) = std::move(value);
    return;
  }
  entries.emplace_back(key, std::move(value));
  if (entries.size() < kIndexFrom) return;
  if (index_.empty()) {
    for (size_t i = 0; i < entries.size(); ++i) index_.emplace(hash_key(entries[i].first), i);
  } else {
    index_.emplace(std::move(hash), entries.size() - 1);
  }
}

const Value* Dict::find(const Value& key) const {
  const std::string hash = hash_key(key);
  if (!index_.empty()) {
    const auto it = index_.find(hash);
    return it == index_.end() ? nullptr : &entries[it->second].second;
  }
  for (const auto& [k, v] : entries) {
    if (k.is_string() && key.is_string() ? k.view() == key.view() : hash_key(k) == hash) return &v;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (!index_.empty()) {
    const auto it = index_.find("s" + std::to_string(key.size()) + ":" + std::string(key));
    return it == index_.end() ? nullptr : &entries[it->second].second;
  }
  for (const auto& [k, v] : entries) {
    if (k.is_string() && k.view() == key) return &v;
  }
  return nullptr;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [key, value] : attributes) {
    if (key == name) return &value;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(name, std::move(value));
}

std::string hash_key(const Value& value) {
  std::string out;
  append_hash_key(value, out);
  return out;
}

}  // namespace gantry::jinja
