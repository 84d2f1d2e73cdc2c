// The values of the template language: Python's None, bool, int, float, str, list, tuple, dict, and the few
// objects that Jinja adds. Copies are cheap; all but namespaces, loops and generators are immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "chat/jinja_text.h"

namespace gantry::jinja {

// Wide enough for every JSON integer; an operation that needs more is an error.
__extension__ typedef __int128 Int;

struct Undefined;
struct Str;
struct Sequence;
struct Dict;
struct Namespace;
struct Loop;
struct Macro;
struct Method;
struct MacroNode;
struct Scope;

// Functions that templates can name.
enum class Function { kRange, kNamespace, kDict, kRaiseException, kStrftimeNow };

class Value {
 public:
  // In the order of the variant.
  enum class Kind {
    kNone,
    kUndefined,
    kBool,
    kInt,
    kFloat,
    kString,
    kSequence,
    kDict,
    kNamespace,
    kLoop,
    kMacro,
    kMethod,
    kFunction
  };

  Value() = default;  // None
  static Value boolean(bool b) { return Value(Data(b)); }
  static Value integer(Int i) { return Value(Data(i)); }
  static Value number(double d) { return Value(Data(d)); }
  static Value string(Text text, bool markup = false);
  // Text that the template itself makes.
  static Value literal(std::string bytes) { return string(Text(std::move(bytes), true)); }
  static Value function(Function f) { return Value(Data(f)); }
  // An undefined value whose use says `hint`.
  static Value undefined(std::string hint);
  static Value undefined_name(std::string name);
  // `object` has no attribute or element `key`.
  static Value undefined_member(const Value& object, const Value& key);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);

  Value(std::shared_ptr<const Undefined> p) : data_(std::move(p)) {}  // NOLINT: implicit by design
  Value(std::shared_ptr<Sequence> p) : data_(std::move(p)) {}         // NOLINT
  Value(std::shared_ptr<const Dict> p) : data_(std::move(p)) {}       // NOLINT
  Value(std::shared_ptr<Namespace> p) : data_(std::move(p)) {}        // NOLINT
  Value(std::shared_ptr<Loop> p) : data_(std::move(p)) {}             // NOLINT
  Value(std::shared_ptr<const Macro> p) : data_(std::move(p)) {}      // NOLINT
  Value(std::shared_ptr<const Method> p) : data_(std::move(p)) {}     // NOLINT

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is_none() const { return kind() == Kind::kNone; }
  bool is_undefined() const { return kind() == Kind::kUndefined; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_dict() const { return kind() == Kind::kDict; }
  bool is_sequence() const { return kind() == Kind::kSequence; }
  // bool counts as int, as in Python.
  bool is_integral() const { return kind() == Kind::kInt || kind() == Kind::kBool; }
  bool is_numeric() const { return is_integral() || kind() == Kind::kFloat; }

  // Each needs the kind that it names.
  bool as_bool() const { return std::get<bool>(data_); }
  Int as_int() const { return kind() == Kind::kBool ? Int(as_bool()) : std::get<Int>(data_); }
  double as_double() const {
    return kind() == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(as_int());
  }
  const Text& text() const;
  std::string_view view() const { return text().view(); }
  bool is_markup() const;
  Function as_function() const { return std::get<Function>(data_); }
  const Undefined& as_undefined() const { return *std::get<std::shared_ptr<const Undefined>>(data_); }
  const std::shared_ptr<Sequence>& sequence() const { return std::get<std::shared_ptr<Sequence>>(data_); }
  const std::shared_ptr<const Dict>& dict() const { return std::get<std::shared_ptr<const Dict>>(data_); }
  const std::shared_ptr<Namespace>& name_space() const { return std::get<std::shared_ptr<Namespace>>(data_); }
  const std::shared_ptr<Loop>& loop() const { return std::get<std::shared_ptr<Loop>>(data_); }
  const std::shared_ptr<const Macro>& macro() const { return std::get<std::shared_ptr<const Macro>>(data_); }
  const std::shared_ptr<const Method>& method() const {
    return std::get<std::shared_ptr<const Method>>(data_);
  }

  bool truthy() const;
  // The same object (`is`): the same storage, or the same None, bool or number.
  bool same_as(const Value& other) const;
  // Python's type name: "str", "NoneType", "dict", "generator".
  std::string_view type_name() const;
  // Containers inside each other, this one included; 0 for a value that holds none.
  int depth() const;
  // What visiting every part costs in fuel: parts that are shared count each time, 32 bytes of text count
  // one.
  uint64_t weight() const;

 private:
  using Data = std::variant<std::monostate, std::shared_ptr<const Undefined>, bool, Int, double,
                            std::shared_ptr<const Str>, std::shared_ptr<Sequence>,
                            std::shared_ptr<const Dict>, std::shared_ptr<Namespace>, std::shared_ptr<Loop>,
                            std::shared_ptr<const Macro>, std::shared_ptr<const Method>, Function>;
  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_;
};

struct Undefined {
  std::string message;  // of the error that its use raises
};

struct Str {
  Text text;
  bool markup = false;  // markupsafe.Markup: what is added to it is HTML-escaped
};

enum class SequenceType { kList, kTuple, kRange, kDictKeys, kDictValues, kDictItems, kGenerator };

// A list, or another of Python's iterables, its items made at once.
struct Sequence {
  Sequence(SequenceType sequence_type, std::vector<Value> sequence_items);

  SequenceType type;
  std::vector<Value> items;
  size_t next = 0;  // first item that is left; moves for a generator alone
  int depth = 1;
  uint64_t weight = 1;
};

// Insertion-ordered. Keys are hashable values (see hash_key).
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;
  uint64_t weight = 1;

  // Replaces the value of an equal key. Failure for a key that Python cannot hash.
  void set(const Value& key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;

 private:
  std::unordered_map<std::string, size_t> index_;  // hash_key -> entry; filled from kIndexFrom entries on
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

// The `loop` variable. After the loop only the counts stay.
struct Loop {
  std::shared_ptr<Sequence> sequence;
  size_t begin = 0;  // item of the first iteration
  size_t index0 = 0;
  size_t length = 0;
  bool has_changed_value = false;
  std::vector<Value> changed_value;
};

struct Macro {
  const MacroNode* node = nullptr;
  Scope* scope = nullptr;  // where it was defined; the interpreter keeps it alive
};

// A method of a str, dict, list or tuple, or a function of a loop, with its receiver.
struct Method {
  Value receiver;
  std::string name;
};

// A text that equal hashable values share (1, 1.0 and True are equal). Failure for a list, dict and the like.
std::string hash_key(const Value& value);

}  // namespace gantry::jinja
