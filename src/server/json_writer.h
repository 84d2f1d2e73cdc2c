// Appends JSON to a string, with no document in between: answers are written once per token.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace gantry {

// Quoted and escaped; ill-formed UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);
// The shortest digits that give the value back; null for what is not finite.
void append_json_number(std::string& out, double value);

// Commas are its own business:
// w.object().key("a").value(1).key("b").array().value("x").end_array().end_object().
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  JsonWriter& object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool flag);
  JsonWriter& value(std::integral auto number) { return raw(std::to_string(number)); }
  JsonWriter& value(double number);
  JsonWriter& null() { return raw("null"); }
  // JSON text as it is.
  JsonWriter& raw(std::string_view json);

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();

  std::string& out_;
  bool comma_ = false;  // a value came before, at this level
};

}  // namespace gantry
