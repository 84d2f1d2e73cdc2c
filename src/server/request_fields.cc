#include "server/request_fields.h"

#include <fmt/format.h>

namespace gantry {

std::string_view json_kind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

bool read_integer(const Json& value, int64_t low, int64_t high, int64_t& out) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
    out = static_cast<int64_t>(number);
  } else if (value.is_number_integer()) {
    out = value.get<int64_t>();
  } else if (value.is_number_float()) {
    const auto number = value.get<double>();
    constexpr double kExact = 9007199254740992.0;  // 2^53
    if (!(number >= -kExact && number <= kExact) || number != std::floor(number)) return false;
    out = static_cast<int64_t>(number);
  } else {
    return false;
  }
  return out >= low && out <= high;
}

const Json* RequestFields::get(std::string_view name) {
  known_.emplace(name);
  if (!ok()) return nullptr;
  const auto it = object_.find(std::string(name));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool RequestFields::boolean(std::string_view name, bool& out) {
  const Json* value = get(name);
  if (value == nullptr) return false;
  if (!value->is_boolean()) {
    fail(name, fmt::format("must be true or false, not {}", json_kind(*value)));
    return false;
  }
  out = value->get<bool>();
  return true;
}

bool RequestFields::integer(std::string_view name, int64_t low, int64_t high, int64_t& out) {
  const Json* value = get(name);
  if (value == nullptr) return false;
  int64_t number = 0;
  if (!read_integer(*value, low, high, number)) {
    fail(name, fmt::format("must be an integer between {} and {}", low, high));
    return false;
  }
  out = number;
  return true;
}

bool RequestFields::integer(std::string_view name, int32_t low, int32_t high, int32_t& out) {
  int64_t number = 0;
  if (!integer(name, int64_t{low}, int64_t{high}, number)) return false;
  out = static_cast<int32_t>(number);
  return true;
}

bool RequestFields::number(std::string_view name, float& out) {
  const Json* value = get(name);
  if (value == nullptr) return false;
  if (!value->is_number()) {
    fail(name, fmt::format("must be a number, not {}", json_kind(*value)));
    return false;
  }
  const auto number = value->get<double>();
  if (!(std::abs(number) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    fail(name, "is out of range");
    return false;
  }
  out = static_cast<float>(number);
  return true;
}

bool RequestFields::string(std::string_view name, size_t bytes_max, std::string& out) {
  const Json* value = get(name);
  if (value == nullptr) return false;
  if (!value->is_string()) {
    fail(name, fmt::format("must be a string, not {}", json_kind(*value)));
    return false;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > bytes_max) {
    fail(name, fmt::format("has {} bytes, at most {} are allowed", text.size(), bytes_max));
    return false;
  }
  out = text;
  return true;
}

void RequestFields::refuse(std::string_view name, std::string_view why, const Json& neutral) {
  const Json* value = get(name);
  if (value == nullptr || *value == neutral) return;
  fail(unimplemented(fmt::format("unsupported parameter '{}{}': {}", where_, name, why),
                     where_ + std::string(name)));
}

void RequestFields::fail(std::string_view name, std::string_view message) {
  fail(invalid_argument(fmt::format("{}{} {}", where_, name, message), where_ + std::string(name)));
}

void RequestFields::fail(Status status) {
  if (ok()) status_ = std::move(status);
}

Status RequestFields::finish() {
  if (!ok()) return status_;
  for (const auto& [name, value] : object_.items()) {
    if (known_.contains(name)) continue;
    constexpr size_t kShown = 100;
    const std::string full = where_ + name.substr(0, kShown);
    return unimplemented(fmt::format("unsupported parameter '{}'", full), full);
  }
  return {};
}

}  // namespace gantry
