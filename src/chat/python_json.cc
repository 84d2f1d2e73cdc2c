#include "chat/python_json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/limits.h"
#include "chat/jinja_error.h"
#include "chat/jinja_unicode.h"
#include "chat/python_repr.h"

namespace gantry::jinja {
namespace {

class Writer {
 public:
  explicit Writer(const JsonStyle& style) : style_(style) {}

  void write(const Value& value) {
    switch (value.kind()) {
      case Value::Kind::kNone:
        out_ += "null";
        return;
      case Value::Kind::kBool:
        out_ += value.as_bool() ? "true" : "false";
        return;
      case Value::Kind::kInt:
        out_ += int_repr(value.as_int());
        return;
      case Value::Kind::kFloat:
        out_ += number(value.as_double());
        return;
      case Value::Kind::kString:
        from_template_ = from_template_ && value.text().from_template();
        return quote(value.view());
      case Value::Kind::kDict:
        return write_dict(*value.dict());
      case Value::Kind::kSequence:
        if (value.sequence()->type == SequenceType::kList || value.sequence()->type == SequenceType::kTuple) {
          return write_list(value.sequence()->items);
        }
        break;
      default:
        break;
    }
    fail("Object of type " + std::string(value.type_name()) + " is not JSON serializable");
  }

  Text finish() { return Text(std::move(out_), from_template_); }

 private:
  static std::string number(double d) {
    if (std::isnan(d)) return "NaN";
    if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
    return float_repr(d);
  }

  void quote(std::string_view text) {
    out_.push_back('"');
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const char32_t c = unicode::next(text, at);
      switch (c) {
        case '"':
          out_ += "\\\"";
          break;
        case '\\':
          out_ += "\\\\";
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\r':
          out_ += "\\r";
          break;
        case '\t':
          out_ += "\\t";
          break;
        case '\b':
          out_ += "\\b";
          break;
        case '\f':
          out_ += "\\f";
          break;
        default:
          if (c < 0x20 || (style_.ensure_ascii && c > 0x7E)) {
            escape(c);
          } else {
            out_ += text.substr(begin, at - begin);
          }
      }
    }
    out_.push_back('"');
  }

  void escape(char32_t c) {
    char buffer[16];
    if (c > 0xFFFF) {
      const char32_t rest = c - 0x10000;
      std::snprintf(buffer, sizeof buffer, "\\u%04x\\u%04x", static_cast<unsigned>(0xD800 + (rest >> 10)),
                    static_cast<unsigned>(0xDC00 + (rest & 0x3FF)));
    } else {
      std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(c));
    }
    out_ += buffer;
  }

  void line_break() {
    if (!style_.indent) return;
    out_.push_back('\n');
    for (int i = 0; i < level_; ++i) out_ += *style_.indent;
    if (out_.size() > limits::kTemplateOutputBytesMax) exhaust("the text of tojson is too long");
  }

  void write_list(const std::vector<Value>& items) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_.push_back('[');
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      line_break();
      write(items[i]);
    }
    --level_;
    line_break();
    out_.push_back(']');
  }

  void write_key(const Value& key) {
    switch (key.kind()) {
      case Value::Kind::kString:
        from_template_ = from_template_ && key.text().from_template();
        return quote(key.view());
      case Value::Kind::kNone:
        return quote("null");
      case Value::Kind::kBool:
        return quote(key.as_bool() ? "true" : "false");
      case Value::Kind::kInt:
        return quote(int_repr(key.as_int()));
      case Value::Kind::kFloat:
        return quote(number(key.as_double()));
      default:
        fail("keys must be str, int, float, bool or None, not " + std::string(key.type_name()));
    }
  }

  void write_dict(const Dict& dict) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      for (const auto* entry : entries) {
        if (!entry->first.is_string()) refuse("tojson(sort_keys=true) of keys that are no strings");
      }
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return a->first.view() < b->first.view(); });
    }
    out_.push_back('{');
    ++level_;
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) out_ += style_.item_separator;
      first = false;
      line_break();
      write_key(entry->first);
      out_ += style_.key_separator;
      write(entry->second);
    }
    --level_;
    line_break();
    out_.push_back('}');
  }

  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
  bool from_template_ = true;
};

}  // namespace

Text to_json(const Value& value, const JsonStyle& style) {
  Writer writer(style);
  writer.write(value);
  return writer.finish();
}

}  // namespace gantry::jinja
