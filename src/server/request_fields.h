// Reads the members of a JSON object by name and type. Every member must be asked for: what nobody asks for
// is an unsupported parameter.
#pragma once

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <string_view>

#include "base/status.h"
#include "server/json_reader.h"

namespace gantry {

// The first error sticks; later calls do nothing then. null counts as absent, and leaves `out` as it is.
class RequestFields {
 public:
  // where: "messages[0]." for an object inside a parameter; errors name where + key.
  explicit RequestFields(const Json& object, std::string where = {})
      : object_(object), where_(std::move(where)) {}

  // The member, or null if it is absent or null.
  const Json* get(std::string_view name);
  // True if the member was there (and valid).
  bool boolean(std::string_view name, bool& out);
  bool integer(std::string_view name, int64_t low, int64_t high, int64_t& out);
  bool integer(std::string_view name, int32_t low, int32_t high, int32_t& out);
  bool number(std::string_view name, float& out);
  bool string(std::string_view name, size_t bytes_max, std::string& out);
  // The member is an error unless it is absent, null, or equal to `neutral`.
  void refuse(std::string_view name, std::string_view why, const Json& neutral = nullptr);

  void fail(std::string_view name, std::string_view message);
  void fail(Status status);
  bool ok() const { return status_.ok(); }
  // The first error, or the first member that nobody asked for.
  Status finish();

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
  Status status_;
};

// A JSON number that is an integer in [low, high] (5.0 counts).
bool read_integer(const Json& value, int64_t low, int64_t high, int64_t& out);
// "a string", "a list", ...: what the value is, for error texts.
std::string_view json_kind(const Json& value);

}  // namespace gantry
