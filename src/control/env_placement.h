// Which of a deployment's hosts this process is on, by the environment that launchers give it. Read first to last:
//   torchrun             RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK or GROUP_RANK, MASTER_ADDR, MASTER_PORT
//   LeaderWorkerSet      LWS_WORKER_INDEX, LWS_GROUP_SIZE, LWS_LEADER_ADDRESS (Kubernetes)
//   Open MPI             OMPI_COMM_WORLD_{RANK,SIZE,LOCAL_RANK,LOCAL_SIZE}
//   Slurm                SLURM_NODEID, SLURM_NNODES, SLURM_LOCALID, SLURM_JOB_NODELIST
//   MPICH and Intel MPI  PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS
// MASTER_ADDR and MASTER_PORT go before a launcher's own address of the first host.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/status.h"

namespace gantry {

struct HostPlace {
  std::string launcher = "none";
  int32_t hosts = 1;
  int32_t number = 0;  // of this host; the front is on 0
  // Launchers may start several processes on a host. Only the first has work: it starts the host's ranks.
  bool first_here = true;
  std::string address;  // of host 0; empty with one host
  uint16_t port = 0;
};

inline constexpr uint16_t kRendezvousPort = 29500;  // as torchrun's

using Environment = std::function<std::optional<std::string>(const char* name)>;

// kInvalidArgument names the variable and what it must be; param() is the variable.
Result<HostPlace> place_by_environment(const Environment& environment);
// Of this process.
Result<HostPlace> place_by_environment();
// The first host of Slurm's list: "node[07-09,12],other" gives node07.
std::string first_of_nodelist(const std::string& list);

}  // namespace gantry
