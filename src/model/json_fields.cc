#include "model/json_fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/nearest.h"
#include "formats/quote_name.h"

namespace gantry {

using nlohmann::json;

std::string json_excerpt(const json& value) {
  constexpr size_t kExcerptBytes = 60;
  constexpr size_t kElementsShown = 1000;
  if (value.is_structured() && value.size() > kElementsShown) {
    return fmt::format("{} of {} entries", value.is_array() ? "an array" : "an object", value.size());
  }
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kExcerptBytes) text = text.substr(0, kExcerptBytes) + "...";
  return text;
}

bool JsonFields::has(std::string_view key) const {
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

const json* JsonFields::get(std::string_view key) {
  asked_.emplace(key);
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonFields::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void JsonFields::wrong(std::string_view key, const json& value, const std::string& want) {
  fail(invalid_argument(fmt::format("{}{} is {}: want {}", prefix_, key, json_excerpt(value), want),
                        prefix_ + std::string(key)));
}

int32_t JsonFields::required_integer(std::string_view key, IntRange range) {
  if (get(key) == nullptr) {
    fail(invalid_argument(fmt::format("{}{} is missing", prefix_, key), prefix_ + std::string(key)));
  }
  return integer(key, range, static_cast<int32_t>(range.min));
}

int32_t JsonFields::integer(std::string_view key, IntRange range, int32_t fallback) {
  const json* value = get(key);
  if (value == nullptr) return fallback;
  const bool fits = value->is_number_unsigned()
                        ? value->get<uint64_t>() <= static_cast<uint64_t>(range.max) &&
                              static_cast<int64_t>(value->get<uint64_t>()) >= range.min
                        : value->is_number_integer() && value->get<int64_t>() >= range.min &&
                              value->get<int64_t>() <= range.max;
  if (!fits) {
    wrong(key, *value, fmt::format("an integer from {} to {}", range.min, range.max));
    return fallback;
  }
  return value->get<int32_t>();
}

double JsonFields::number(std::string_view key, NumberRange range, double fallback) {
  const json* value = get(key);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number > range.min && number <= range.max)) {  // not a number fails too
    wrong(key, *value, fmt::format("a number above {}, at most {}", range.min, range.max));
    return fallback;
  }
  return number;
}

bool JsonFields::boolean(std::string_view key, bool fallback) {
  const json* value = get(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    wrong(key, *value, "true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string_view JsonFields::word(std::string_view key, std::span<const std::string_view> words) {
  const json* value = get(key);
  if (value == nullptr) return words[0];
  if (value->is_string()) {
    const auto it = std::find(words.begin(), words.end(), value->get_ref<const std::string&>());
    if (it != words.end()) return *it;
  }
  fail(unimplemented(fmt::format("{}{} {} is not supported; supported: {}", prefix_, key,
                                 json_excerpt(*value), fmt::join(words, ", ")),
                     prefix_ + std::string(key)));
  return words[0];
}

std::vector<int32_t> JsonFields::ids(std::string_view key, int32_t below, size_t count_max) {
  const json* value = get(key);
  if (value == nullptr) return {};
  const json list = value->is_array() ? *value : json::array({*value});
  std::vector<int32_t> ids;
  if (list.size() <= count_max) {
    for (const json& id : list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= below) break;
      ids.push_back(id.get<int32_t>());
    }
  }
  if (ids.size() != list.size()) {
    wrong(key, *value, fmt::format("token ids (at most {}) from 0 to {}", count_max, below - 1));
  }
  return ids;
}

Status JsonFields::refuse_unknown(std::span<const std::string_view> harmless) const {
  for (const auto& [key, value] : object_.items()) {
    if (value.is_null() || key.starts_with('_') || asked_.contains(key)) continue;
    if (std::find(harmless.begin(), harmless.end(), key) != harmless.end()) continue;
    std::vector<std::string_view> known(asked_.begin(), asked_.end());
    known.insert(known.end(), harmless.begin(), harmless.end());
    const std::string_view meant = nearest(key, known);
    return unimplemented(
        fmt::format("{}{} (= {}) is not a known configuration key{}", prefix_, quote_name(key),
                    json_excerpt(value),
                    meant.empty() ? std::string() : fmt::format("; did you mean {}?", meant)),
        prefix_ + key);
  }
  return {};
}

}  // namespace gantry
