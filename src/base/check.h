// CHECK is for our bugs: it prints the condition, the place and the message, and aborts. User input never
// reaches one.
#pragma once

#include <sstream>

namespace gantry::internal {

class CheckFailure {
 public:
  CheckFailure(const char* condition, const char* file, int line);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

struct Voidify {
  void operator&(std::ostream&) const {}
};

}  // namespace gantry::internal

#define GANTRY_CHECK(condition)                 \
  (condition) ? (void)0                         \
              : ::gantry::internal::Voidify() & \
                    ::gantry::internal::CheckFailure(#condition, __FILE__, __LINE__).stream()
