#include "chat/jinja_filters.h"

#include <algorithm>
#include <array>

#include "chat/jinja_error.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

// Jinja's own, and not run here.
constexpr std::array<std::string_view, 9> kRefused = {"filesizeformat", "groupby",   "pprint",
                                                      "random",         "striptags", "urlencode",
                                                      "urlize",         "wordwrap",  "xmlattr"};

Filter find_filter(std::string_view name) {
  for (const FilterTable* table :
       {&text_filters(), &number_filters(), &sequence_filters(), &selection_filters()}) {
    if (const auto it = table->find(name); it != table->end()) return it->second;
  }
  return nullptr;
}

bool is_refused(std::string_view name) {
  return std::find(kRefused.begin(), kRefused.end(), name) != kRefused.end();
}

}  // namespace

LibraryStatus filter_status(std::string_view name) {
  if (find_filter(name) != nullptr) return LibraryStatus::kSupported;
  return is_refused(name) ? LibraryStatus::kRefused : LibraryStatus::kUnknown;
}

Value call_filter(Interpreter& interpreter, const std::string& name, const Value& value,
                  Arguments arguments) {
  const Interpreter::Depth depth(interpreter);
  const Filter filter = find_filter(name);
  if (filter == nullptr) {
    if (is_refused(name)) refuse("filter '" + name + "'");
    fail("No filter named " + string_repr(name) + ".");
  }
  return filter(interpreter, value, arguments);
}

Value soft_string(Interpreter& interpreter, const Value& value) {
  return value.is_string() ? value : interpreter.make_string(interpreter.text_of(value));
}

Value ignore_case(Interpreter& interpreter, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return interpreter.make_string(Text(unicode::lower(value.view()), value.text().from_template()));
}

Value make_generator(std::vector<Value> items) {
  return std::make_shared<Sequence>(SequenceType::kGenerator, std::move(items));
}

}  // namespace gantry::jinja
