#include "control/env_placement.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>

namespace gantry {
namespace {

constexpr int32_t kHostsMax = 64;  // a replica's ranks are no more
constexpr int32_t kWorldMax = 4096;

class Variables {
 public:
  explicit Variables(const Environment& environment) : environment_(environment) {}

  bool has(const char* name) const { return environment_(name).has_value(); }
  std::string text(const char* name) const { return environment_(name).value_or(""); }

  // The variable's number, low to high; `absent` where it is not set.
  Result<int32_t> number(const char* name, int32_t low, int32_t high,
                         std::optional<int32_t> absent = {}) const {
    const std::optional<std::string> text = environment_(name);
    if (!text && absent) return *absent;
    if (!text) {
      return invalid_argument(fmt::format("{} is not set: want a number from {} to {}", name, low, high),
                              name);
    }
    int32_t value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size() || value < low || value > high) {
      return invalid_argument(
          fmt::format("{} is \"{}\": want a number from {} to {}", name, *text, low, high), name);
    }
    return value;
  }

 private:
  const Environment& environment_;
};

// Names of a launcher's variables for a process among all and among those of its host.
struct Names {
  const char* launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};

// Where processes are counted, not hosts: as many on each host, in order.
Result<HostPlace> place_of_process(const Variables& variables, const Names& names) {
  GANTRY_ASSIGN_OR_RETURN(const int32_t size, variables.number(names.size, 1, kWorldMax));
  GANTRY_ASSIGN_OR_RETURN(const int32_t local_size, variables.number(names.local_size, 1, size, 1));
  if (size % local_size != 0) {
    return invalid_argument(fmt::format("{} is {} and {} is {}: every host must have as many processes",
                                        names.size, size, names.local_size, local_size),
                            names.local_size);
  }
  GANTRY_ASSIGN_OR_RETURN(const int32_t rank, variables.number(names.rank, 0, size - 1));
  GANTRY_ASSIGN_OR_RETURN(const int32_t local_rank,
                          variables.number(names.local_rank, 0, local_size - 1, rank % local_size));
  return HostPlace{.launcher = names.launcher,
                   .hosts = size / local_size,
                   .number = rank / local_size,
                   .first_here = local_rank == 0,
                   .address = {}};
}

Result<HostPlace> place_of_torchrun(const Variables& variables) {
  const char* node = variables.has("NODE_RANK") ? "NODE_RANK" : "GROUP_RANK";
  if (!variables.has(node)) {
    return place_of_process(variables, {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"});
  }
  GANTRY_ASSIGN_OR_RETURN(const int32_t size, variables.number("WORLD_SIZE", 1, kWorldMax));
  GANTRY_ASSIGN_OR_RETURN(const int32_t local_size, variables.number("LOCAL_WORLD_SIZE", 1, size, 1));
  if (size % local_size != 0) {
    return invalid_argument(
        fmt::format("WORLD_SIZE is {} and LOCAL_WORLD_SIZE is {}: every host must have as many "
                    "processes",
                    size, local_size),
        "LOCAL_WORLD_SIZE");
  }
  const int32_t hosts = size / local_size;
  GANTRY_ASSIGN_OR_RETURN(const int32_t number, variables.number(node, 0, hosts - 1));
  GANTRY_ASSIGN_OR_RETURN(const int32_t local_rank, variables.number("LOCAL_RANK", 0, local_size - 1, 0));
  return HostPlace{
      .launcher = "torchrun", .hosts = hosts, .number = number, .first_here = local_rank == 0, .address = {}};
}

Result<HostPlace> place_of_host(const Variables& variables, const char* launcher, const char* number,
                                const char* hosts, int32_t local_rank) {
  GANTRY_ASSIGN_OR_RETURN(const int32_t count, variables.number(hosts, 1, kHostsMax));
  GANTRY_ASSIGN_OR_RETURN(const int32_t own, variables.number(number, 0, count - 1));
  return HostPlace{
      .launcher = launcher, .hosts = count, .number = own, .first_here = local_rank == 0, .address = {}};
}

Result<HostPlace> place_of(const Variables& variables) {
  if (variables.has("RANK") || variables.has("NODE_RANK") || variables.has("GROUP_RANK")) {
    return place_of_torchrun(variables);
  }
  if (variables.has("LWS_GROUP_SIZE") || variables.has("LWS_WORKER_INDEX")) {
    return place_of_host(variables, "LeaderWorkerSet", "LWS_WORKER_INDEX", "LWS_GROUP_SIZE", 0);
  }
  if (variables.has("OMPI_COMM_WORLD_RANK")) {
    return place_of_process(variables, {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                        "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"});
  }
  if (variables.has("SLURM_NODEID")) {
    GANTRY_ASSIGN_OR_RETURN(const int32_t local_rank, variables.number("SLURM_LOCALID", 0, kWorldMax, 0));
    return place_of_host(variables, "Slurm", "SLURM_NODEID", "SLURM_NNODES", local_rank);
  }
  if (variables.has("PMI_RANK")) {
    return place_of_process(variables, {"MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"});
  }
  return invalid_argument(
      "no launcher has set this process's place: want RANK and WORLD_SIZE with MASTER_ADDR, or Slurm, MPI or "
      "a "
      "LeaderWorkerSet",
      "RANK");
}

}  // namespace

std::string first_of_nodelist(const std::string& list) {
  const size_t bracket = list.find('[');
  const size_t comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const size_t end = list.find_first_of("-,]", bracket);
  const size_t close = list.find(']', bracket);
  if (end == std::string::npos || close == std::string::npos) return list.substr(0, bracket);
  const size_t next = list.find(',', close);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1) +
         list.substr(close + 1, next == std::string::npos ? next : next - close - 1);
}

Result<HostPlace> place_by_environment(const Environment& environment) {
  const Variables variables(environment);
  GANTRY_ASSIGN_OR_RETURN(HostPlace place, place_of(variables));
  if (place.hosts > kHostsMax) {
    return invalid_argument(
        fmt::format("{} hosts by {}, at most {} are supported", place.hosts, place.launcher, kHostsMax));
  }
  if (place.hosts == 1) return place;
  GANTRY_ASSIGN_OR_RETURN(const int32_t port, variables.number("MASTER_PORT", 1, 65535, kRendezvousPort));
  place.port = static_cast<uint16_t>(port);
  place.address = variables.text("MASTER_ADDR");
  if (place.address.empty()) place.address = variables.text("LWS_LEADER_ADDRESS");
  if (place.address.empty()) place.address = first_of_nodelist(variables.text("SLURM_JOB_NODELIST"));
  if (place.address.empty()) {
    return invalid_argument(
        fmt::format("MASTER_ADDR is not set: want the address of host 0 of {} in their private network",
                    place.hosts),
        "MASTER_ADDR");
  }
  return place;
}

Result<HostPlace> place_by_environment() {
  return place_by_environment([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  });
}

}  // namespace gantry
