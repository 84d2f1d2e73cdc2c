// One logger for the process: lines on standard error, UTC time, level, message. No prompt text and no secret
// is logged.
#pragma once

#include <spdlog/spdlog.h>

namespace gantry {

// level: trace, debug, info, warning, error, off. Returns false for another word.
bool init_log(const std::string& level);

namespace log = spdlog;  // log::info("loaded {} tensors", n)

}  // namespace gantry
