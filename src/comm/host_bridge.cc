#include "comm/host_bridge.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"

namespace gantry {
namespace {

class BridgedCommunicator final : public Communicator {
 public:
  explicit BridgedCommunicator(const HostBridge& parts) : parts_(parts) {}

  int rank() const override { return parts_.far->rank(); }
  int size() const override { return parts_.far->size(); }

  Status all_gather(std::span<const std::byte> in, std::span<std::byte> out) override {
    GANTRY_CHECK(out.size() == in.size() * static_cast<size_t>(size()));
    const auto part = [&](int rank) { return out.subspan(static_cast<size_t>(rank) * in.size(), in.size()); };
    if (!in.empty()) std::memcpy(part(rank()).data(), in.data(), in.size());
    for (int other = 0; other < size(); ++other) {
      if (other != rank()) GANTRY_RETURN_IF_ERROR(swap(other, in, part(other)));
    }
    return {};
  }

  Status all_reduce_sum(std::span<float> values) override {
    std::vector<float> all(values.size() * static_cast<size_t>(size()));
    GANTRY_RETURN_IF_ERROR(all_gather(std::as_bytes(values), std::as_writable_bytes(std::span(all))));
    std::copy_n(all.begin(), values.size(), values.begin());
    for (size_t at = values.size(); at < all.size(); ++at) values[at % values.size()] += all[at];
    return {};
  }

  Status broadcast(std::span<std::byte> data, int root) override {
    if (rank() != root) return receive(data, root);
    for (int other = 0; other < size(); ++other) {
      if (other != root) GANTRY_RETURN_IF_ERROR(send(data, other));
    }
    return {};
  }

  Status barrier() override {
    const std::byte mine{};
    std::vector<std::byte> all(static_cast<size_t>(size()));
    return all_gather({&mine, 1}, all);
  }

  Status send(std::span<const std::byte> data, int to) override {
    return is_near(to) ? parts_.near->send(data, to - parts_.near_first) : parts_.far->send(data, to);
  }
  Status receive(std::span<std::byte> data, int from) override {
    return is_near(from) ? parts_.near->receive(data, from - parts_.near_first)
                         : parts_.far->receive(data, from);
  }

  void abort(std::string_view reason) override {
    parts_.near->abort(reason);
    parts_.far->abort(reason);
  }

 private:
  bool is_near(int rank) const {
    return rank >= parts_.near_first && rank < parts_.near_first + parts_.near->size();
  }

  // Pairs are taken in the order of ranks, and the lower one sends first, so that no circle of ranks waits.
  Status swap(int other, std::span<const std::byte> out, std::span<std::byte> in) {
    if (rank() > other) GANTRY_RETURN_IF_ERROR(receive(in, other));
    GANTRY_RETURN_IF_ERROR(send(out, other));
    return rank() > other ? Status() : receive(in, other);
  }

  const HostBridge parts_;
};

}  // namespace

std::unique_ptr<Communicator> bridge_hosts(const HostBridge& parts) {
  GANTRY_CHECK(parts.near != nullptr && parts.far != nullptr &&
               parts.near_first + parts.near->rank() == parts.far->rank());
  return std::make_unique<BridgedCommunicator>(parts);
}

}  // namespace gantry
