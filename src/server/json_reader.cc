#include "server/json_reader.h"

#include <fmt/format.h>

#include <string>
#include <unordered_set>
#include <vector>

#include "base/limits.h"

namespace gantry {
namespace {

// Builds the document itself: nlohmann's ordered map looks a key up linearly, which a hostile object would
// make quadratic.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Json root;
  Status status;

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t& /*value*/) override { return fail("binary values are not JSON"); }
  bool start_object(size_t /*elements*/) override { return open(Json::object()); }
  bool start_array(size_t /*elements*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    if (levels_.size() == 1) top_key_ = name;
    if (level.keys.size() >= limits::kJsonKeysMax) {
      return fail(fmt::format("an object has more than {} keys", limits::kJsonKeysMax));
    }
    if (!level.keys.insert(name).second) return fail("a key is repeated in an object");
    level.key = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    const std::string_view what = error.what();
    // 406 is out_of_range: a number that no double holds.
    return fail(error.id == 406 ? fmt::format("a number is out of range at byte {}", position)
                : what.find("UTF-8") != std::string_view::npos
                    ? fmt::format("a string is not valid UTF-8 at byte {}", position)
                    : fmt::format("the body is not valid JSON at byte {}", position));
  }

 private:
  struct Level {
    Json* container;
    std::string key;                       // of an object: where the next value goes
    std::unordered_set<std::string> keys;  // of an object: seen
  };

  bool fail(std::string message) {
    if (status.ok()) status = invalid_argument(std::move(message), top_key_);
    return false;
  }

  Json* place(Json&& value) {
    if (++values_ > limits::kJsonValuesMax) {
      fail(fmt::format("the body holds more than {} values", limits::kJsonValuesMax));
      return nullptr;
    }
    if (levels_.empty()) {
      root = std::move(value);
      return &root;
    }
    Level& level = levels_.back();
    if (level.container->is_array()) {
      auto& items = level.container->get_ref<Json::array_t&>();
      return &items.emplace_back(std::move(value));
    }
    // A plain vector of pairs underneath; the key is new, as key() has checked.
    std::vector<std::pair<const std::string, Json>>& items = level.container->get_ref<Json::object_t&>();
    return &items.emplace_back(std::move(level.key), std::move(value)).second;
  }

  bool add(Json&& value) { return place(std::move(value)) != nullptr; }

  bool open(Json&& empty) {
    if (levels_.size() >= static_cast<size_t>(limits::kJsonDepthMax)) {
      return fail(fmt::format("values are nested deeper than {} levels", limits::kJsonDepthMax));
    }
    if (++containers_ > limits::kJsonContainersMax) {
      return fail(fmt::format("the body holds more than {} objects and lists", limits::kJsonContainersMax));
    }
    Json* container = place(std::move(empty));
    if (container == nullptr) return false;
    levels_.push_back({container, {}, {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  std::vector<Level> levels_;
  std::string top_key_;
  size_t values_ = 0;
  size_t containers_ = 0;
};

}  // namespace

Result<Json> read_json_object(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") return invalid_argument("the body starts with a byte order mark");
  // nlohmann would take a NUL for the end of the text.
  if (text.find('\0') != std::string_view::npos)
    return invalid_argument("the body is not valid JSON: it holds a NUL");
  Builder builder;
  const bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
  if (!builder.status.ok()) return builder.status;
  if (!parsed) return invalid_argument("the body is not valid JSON");
  if (!builder.root.is_object()) return invalid_argument("the body must be a JSON object");
  return std::move(builder.root);
}

}  // namespace gantry
