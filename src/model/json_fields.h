// Typed reads of one JSON object that remember which keys were asked for, so that what is left over can be
// refused by name.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gantry {

// A value as a message shows it: JSON on one line, ASCII, cut after 60 characters.
std::string json_excerpt(const nlohmann::json& value);

// The first error is kept and later reads give their fallback, so that a reader is a plain list of fields.
// null counts as absent, as in transformers.
class JsonFields {
 public:
  // `prefix` comes before each key in messages ("", or "rope_scaling."). The object outlives this.
  JsonFields(const nlohmann::json& object, std::string prefix)
      : object_(object), prefix_(std::move(prefix)) {}

  struct IntRange {
    int64_t min = 1;
    int64_t max = std::numeric_limits<int32_t>::max();
  };
  struct NumberRange {
    double min = 0;  // exclusive
    double max = 0;
  };

  bool has(std::string_view key) const;
  // The value, or null where absent.
  const nlohmann::json* get(std::string_view key);

  int32_t required_integer(std::string_view key, IntRange range);
  int32_t integer(std::string_view key, IntRange range, int32_t fallback);
  double number(std::string_view key, NumberRange range, double fallback);
  bool boolean(std::string_view key, bool fallback);
  // One of `words`, the first of which is the fallback.
  std::string_view word(std::string_view key, std::span<const std::string_view> words);
  // An integer or a list of them, each in [0, below).
  std::vector<int32_t> ids(std::string_view key, int32_t below, size_t count_max);

  // Keeps the error if it is the first.
  void fail(Status status);
  const Status& status() const { return status_; }

  // kUnimplemented for a key that was neither asked for nor is in `harmless` nor starts with '_' (what
  // transformers keeps for itself); names the nearest key that is known.
  Status refuse_unknown(std::span<const std::string_view> harmless) const;

 private:
  void wrong(std::string_view key, const nlohmann::json& value, const std::string& want);

  const nlohmann::json& object_;
  std::string prefix_;
  std::set<std::string, std::less<>> asked_;
  Status status_;
};

}  // namespace gantry
