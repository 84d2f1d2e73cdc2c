// What a deployment on several hosts sends between them to decode, headers of Ethernet, IPv4 and TCP included.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "model/parallel_layout.h"

namespace gantry {

struct HostTraffic {
  // Bytes a token. The rows that a host passes on to the next, in f32 as ranks of the CPU send them; what rank 0 tells the
  // ranks of one other host; what the last host tells rank 0.
  double rows = 0;
  double plans = 0;
  double results = 0;

  double first_sends(int32_t hosts) const { return rows + plans * (hosts - 1); }
  double first_receives() const { return results; }
};

// `sequences` decode at once, without drafts, spread over as many micro-batches as stages. hosts: at least 2, which
// divide the stages.
HostTraffic host_traffic(const ModelConfig& config, const ParallelSizes& sizes, int32_t hosts,
                         int32_t sequences);

}  // namespace gantry
