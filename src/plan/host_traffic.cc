#include "plan/host_traffic.h"

#include <algorithm>

#include "base/check.h"

namespace gantry {
namespace {

// A packet's headers: Ethernet 14, IPv4 20, TCP 32 with time stamps. So much is an acknowledgement that carries nothing.
constexpr double kPacketBytes = 66;
constexpr double kSegmentBytes = 1448;  // of data in a full packet
constexpr double kRecordBytes = 20;     // comm/tcp/records beside its data
constexpr double kRecordDataMax = 64 << 10;
// A message of runtime/step_codec: in its envelope, and for each sequence (host_traffic_test compares).
constexpr double kEnvelopeBytes = 10;
constexpr double kPlanBytes = 28;
constexpr double kPlanSequenceBytes = 64;
constexpr double kResultBytes = 28;
constexpr double kResultSequenceBytes = 53;

// Bytes of a message on the wire.
double sent(double data) {
  const double records = std::max(1.0, data / kRecordDataMax);
  const double all = data + records * kRecordBytes;
  return all + kPacketBytes * std::max(1.0, all / kSegmentBytes);
}

}  // namespace

HostTraffic host_traffic(const ModelConfig& config, const ParallelSizes& sizes, int32_t hosts,
                         int32_t sequences) {
  GANTRY_CHECK(hosts > 1 && sizes.pipeline % hosts == 0 && sequences > 0);
  // Tokens of a micro-batch: with fewer sequences than stages each is alone in its own.
  const double tokens = std::max(1.0, static_cast<double>(sequences) / sizes.pipeline);
  const double width = static_cast<double>(config.hidden) * sizeof(float);
  const int32_t ranks = sizes.ranks() / hosts;
  HostTraffic traffic;
  traffic.rows = sizes.tensor * sent(tokens * width) / tokens;
  traffic.plans = ranks * sent(kEnvelopeBytes + kPlanBytes + kPlanSequenceBytes * tokens) / tokens;
  // What comes is acknowledged, but for the last plan: the result's packet does that.
  const double acknowledged = sizes.tensor + ranks - 1;
  traffic.results =
      (sent(kEnvelopeBytes + kResultBytes + kResultSequenceBytes * tokens) + acknowledged * kPacketBytes) /
      tokens;
  return traffic;
}

}  // namespace gantry
