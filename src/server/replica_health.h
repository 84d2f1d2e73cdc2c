// The state of a model's replicas and their processes, as /health, /metrics and `gantry status` show it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gantry {

struct RankHealth {
  int rank = 0;
  std::string host;
  int64_t pid = 0;    // 0: not known while it starts
  std::string state;  // "ready", "starting", "dead"
};

struct ReplicaHealth {
  std::string id;
  uint32_t epoch = 0;  // starts of its processes, which start and end together; 0: in the server's process
  std::string state;   // "ready", "starting", "dead": it does not come back
  double age_seconds = 0;  // since its processes were started
  uint32_t restarts = 0;
  std::string cause;  // why it was started the last time; empty: it never ended
  std::vector<RankHealth> ranks;
};

}  // namespace gantry
