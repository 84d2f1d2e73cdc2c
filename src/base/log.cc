#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace gantry {

bool init_log(const std::string& level) {
  static const auto logger = spdlog::stderr_color_mt("gantry");
  spdlog::set_default_logger(logger);
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v", spdlog::pattern_time_type::utc);
  const auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") return false;
  spdlog::set_level(parsed);
  return true;
}

}  // namespace gantry
