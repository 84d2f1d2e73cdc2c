// What the environment says about the hub, under huggingface_hub's names.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/status.h"
#include "hub/url.h"

namespace gantry::hub {

struct Settings {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT, without a slash at its end
  UrlParts origin;                                  // of the endpoint
  std::string cache_dir;                            // HF_HUB_CACHE, else HF_HOME/hub
  // HF_TOKEN, else the token file of `hf auth login`; empty: none. Goes into one header of requests to `origin`
  // and nowhere else.
  std::string token;
  bool offline = false;    // HF_HUB_OFFLINE
  int stall_seconds = 30;  // HF_HUB_DOWNLOAD_TIMEOUT: without one byte
  std::string ca_file;     // SSL_CERT_FILE, else the system's; empty: libcurl's default
  std::string user_agent;  // "gantry/0.1.0"
};

// The value of an environment variable, or nothing.
using Environment = std::function<std::optional<std::string>(const char* name)>;

// kInvalidArgument names the variable whose value cannot be used.
Result<Settings> read_settings(const Environment& environment, std::string user_agent);
// The same from the process's environment.
Result<Settings> read_settings(std::string user_agent);

}  // namespace gantry::hub
