// A rank's ends of its groups: over memory with the ranks of its host, over TCP with others.
#pragma once

#include <memory>
#include <string_view>

#include "comm/communicator.h"
#include "comm/tcp/tcp_communicator.h"
#include "model/rank_groups.h"
#include "runtime/rank_messages.h"

namespace gantry {

// Which segments of memory a rank with this setup has: of the stages that share it, if they are several; of its own stage.
inline bool has_stages_memory(const RankSetup& setup) { return setup.memory_ranks > setup.sizes.tensor; }
inline bool has_stage_memory(const RankSetup& setup) {
  return setup.sizes.tensor > 1 && setup.memory_ranks >= setup.sizes.tensor;
}

class RankNetwork {
 public:
  // Of shm::Segment, where there are such.
  struct Memory {
    int stages = -1;
    int stage = -1;
  };

  // Listens, where the rank needs others' connections.
  static Result<std::unique_ptr<RankNetwork>> open(const RankSetup& setup, const Memory& memory);
  bool listens() const { return tensor_tcp_ != nullptr || all_tcp_ != nullptr; }
  RankStarted ports() const;
  // Joins the groups; collective. `peers` is of all ranks, where some listen.
  Status join(const RankPeers& peers);
  // After join(), as long as this lives.
  RankGroups groups() const;
  // Ends the waits over TCP, join()'s too, with this reason. Thread-safe.
  void abort(std::string_view reason);

 private:
  RankNetwork(const RankSetup& setup, const Memory& memory) : setup_(setup), memory_(memory) {}
  Status join_stage(const RankPeers& peers);
  Status join_all(const RankPeers& peers);

  const RankSetup setup_;
  const Memory memory_;
  std::unique_ptr<TcpCommunicator> tensor_tcp_;
  std::unique_ptr<TcpCommunicator> all_tcp_;
  std::unique_ptr<Communicator> tensor_shm_;
  std::unique_ptr<Communicator> all_shm_;
  std::unique_ptr<Communicator> bridge_;
};

}  // namespace gantry
