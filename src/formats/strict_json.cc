#include "formats/strict_json.h"

#include <fmt/format.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "formats/quote_name.h"
#include "formats/regular_file.h"

namespace gantry {
namespace {

// Builds the value from the parser's events, as nlohmann's own builder does, and stops at a duplicate key or
// at the depth limit, which that one does not know.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(nlohmann::json::binary_t&) override { return false; }

  bool start_object(size_t) override { return open(nlohmann::json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(nlohmann::json::array()); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    auto [entry, added] = open_.back()->get_ref<nlohmann::json::object_t&>().try_emplace(name, nullptr);
    if (!added) {
      error_ = "has the key " + quote_name(name) + " twice in one object";
      return false;
    }
    slot_ = &entry->second;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_ = fmt::format("is not valid JSON at byte {}", position);
    return false;
  }

  nlohmann::json root;
  const std::string& error() const { return error_; }

 private:
  template <typename T>
  nlohmann::json* place(T&& value) {
    if (open_.empty()) {
      root = std::forward<T>(value);
      return &root;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<nlohmann::json::array_t&>();
      array.emplace_back(std::forward<T>(value));
      return &array.back();
    }
    *slot_ = std::forward<T>(value);
    return slot_;
  }
  template <typename T>
  bool add(T&& value) {
    place(std::forward<T>(value));
    return true;
  }
  bool open(nlohmann::json container) {
    if (open_.size() >= static_cast<size_t>(limits::kJsonDepthMax)) {
      error_ = fmt::format("is nested deeper than {}", limits::kJsonDepthMax);
      return false;
    }
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<nlohmann::json*> open_;  // containers from the root to the innermost
  nlohmann::json* slot_ = nullptr;     // where the value of the last key goes
  std::string error_;
};

}  // namespace

Result<nlohmann::json> parse_strict_json(std::string_view text, const std::string& file) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return data_loss(file + ": " + builder.error());
  }
  return std::move(builder.root);
}

Result<nlohmann::json> read_json_object(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string text, read_file(path, limits::kJsonFileBytesMax));
  GANTRY_ASSIGN_OR_RETURN(nlohmann::json value, parse_strict_json(text, path));
  if (!value.is_object()) return data_loss(path + ": is not a JSON object");
  return value;
}

}  // namespace gantry
