#include "runtime/rank_network.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "comm/host_bridge.h"
#include "comm/shm/shm_communicator.h"
#include "runtime/group_limits.h"

namespace gantry {

Result<std::unique_ptr<RankNetwork>> RankNetwork::open(const RankSetup& setup, const Memory& memory) {
  std::unique_ptr<RankNetwork> network(new RankNetwork(setup, memory));
  const ParallelSizes& sizes = setup.sizes;
  const bool tensor_tcp = sizes.tensor > 1 && !has_stage_memory(setup);
  const bool all_tcp = sizes.pipeline > 1 && setup.memory_ranks < sizes.ranks();
  if (!tensor_tcp && !all_tcp) return network;
  GANTRY_ASSIGN_OR_RETURN(const tcp::Secret secret, tcp::Secret::create(setup.group_secret));
  // Each stage's group has a key of its own: its ranks are known to each other by their places in it.
  const int32_t stage = setup.rank / sizes.tensor;
  if (tensor_tcp) {
    GANTRY_ASSIGN_OR_RETURN(network->tensor_tcp_,
                            TcpCommunicator::listen({.address = setup.address,
                                                     .purpose = tcp::Purpose::kTensorGroup,
                                                     .rank = setup.rank % sizes.tensor,
                                                     .size = sizes.tensor,
                                                     .deadline = limits::kRankWaitMax,
                                                     .first_rank = stage * sizes.tensor},
                                                    secret.child("stage", std::to_string(stage))));
  }
  if (all_tcp) {
    GANTRY_ASSIGN_OR_RETURN(network->all_tcp_, TcpCommunicator::listen({.address = setup.address,
                                                                        .purpose = tcp::Purpose::kAllGroup,
                                                                        .rank = setup.rank,
                                                                        .size = sizes.ranks(),
                                                                        .deadline = limits::kRankWaitMax},
                                                                       secret));
  }
  return network;
}

RankStarted RankNetwork::ports() const {
  return {.tensor_port = tensor_tcp_ ? tensor_tcp_->port() : uint16_t{0},
          .all_port = all_tcp_ ? all_tcp_->port() : uint16_t{0}};
}

Status RankNetwork::join(const RankPeers& peers) {
  if (listens() && peers.ranks.size() != static_cast<size_t>(setup_.sizes.ranks())) {
    return data_loss(
        fmt::format("a table of {} ranks where {} were due", peers.ranks.size(), setup_.sizes.ranks()));
  }
  GANTRY_RETURN_IF_ERROR(join_all(peers));
  return join_stage(peers);
}

Status RankNetwork::join_stage(const RankPeers& peers) {
  const int32_t first = setup_.rank / setup_.sizes.tensor * setup_.sizes.tensor;
  if (tensor_tcp_ != nullptr) {
    std::vector<tcp::Endpoint> stage;
    for (int32_t rank = first; rank < first + setup_.sizes.tensor; ++rank) {
      const RankPeers::Peer& peer = peers.ranks[static_cast<size_t>(rank)];
      stage.push_back({peer.address, peer.ports.tensor_port});
    }
    return tensor_tcp_->connect(stage);
  }
  if (!has_stage_memory(setup_)) return {};
  GANTRY_ASSIGN_OR_RETURN(tensor_shm_,
                          open_shm_communicator(memory_.stage, setup_.rank - first,
                                                {.deadline = limits::kRankWaitMax, .first_rank = first}));
  return {};
}

Status RankNetwork::join_all(const RankPeers& peers) {
  const int32_t first = setup_.memory_first;
  if (has_stages_memory(setup_)) {
    GANTRY_ASSIGN_OR_RETURN(all_shm_,
                            open_shm_communicator(memory_.stages, setup_.rank - first,
                                                  {.deadline = limits::kRankWaitMax, .first_rank = first}));
  }
  if (all_tcp_ == nullptr) return {};
  std::vector<tcp::Endpoint> ranks;
  for (const RankPeers::Peer& peer : peers.ranks) ranks.push_back({peer.address, peer.ports.all_port});
  // What goes through memory needs no connection.
  for (int32_t rank = first; rank < first + setup_.memory_ranks; ++rank)
    ranks[static_cast<size_t>(rank)].host.clear();
  GANTRY_RETURN_IF_ERROR(all_tcp_->connect(ranks));
  if (all_shm_ != nullptr) {
    bridge_ = bridge_hosts({.near = all_shm_.get(), .near_first = first, .far = all_tcp_.get()});
  }
  return {};
}

RankGroups RankNetwork::groups() const {
  RankGroups groups{
      .sizes = setup_.sizes, .rank = setup_.rank, .tensor = tensor_tcp_.get(), .all = all_tcp_.get()};
  if (tensor_shm_ != nullptr) groups.tensor = tensor_shm_.get();
  if (all_shm_ != nullptr) groups.all = all_shm_.get();
  if (bridge_ != nullptr) groups.all = bridge_.get();
  return groups;
}

void RankNetwork::abort(std::string_view reason) {
  if (tensor_tcp_ != nullptr) tensor_tcp_->abort(reason);
  if (all_tcp_ != nullptr) all_tcp_->abort(reason);
}

}  // namespace gantry
