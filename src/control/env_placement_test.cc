#include "control/env_placement.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace gantry {
namespace {

using Set = std::map<std::string, std::string>;

Result<HostPlace> place(const Set& set) {
  return place_by_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = set.find(name);
    return found == set.end() ? std::nullopt : std::optional(found->second);
  });
}

// "launcher host/hosts at address:port", or the error.
std::string text(const Set& set) {
  const auto found = place(set);
  if (!found.ok()) return found.status().message();
  const HostPlace& p = *found;
  return p.launcher + " " + std::to_string(p.number) + "/" + std::to_string(p.hosts) +
         (p.hosts > 1 ? " at " + p.address + ":" + std::to_string(p.port) : "") +
         (p.first_here ? "" : ", not first");
}

Set with(Set set, const Set& more) {
  for (const auto& [name, value] : more) set[name] = value;
  return set;
}

TEST(EnvPlacement, EveryLaunchersVariablesAreUnderstood) {
  const Set master{{"MASTER_ADDR", "10.0.0.1"}};
  EXPECT_EQ(text(with(master, {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "7000"}})),
            "torchrun 1/2 at 10.0.0.1:7000");
  const Set of_four = with(master, {{"WORLD_SIZE", "4"}, {"LOCAL_WORLD_SIZE", "2"}});
  EXPECT_EQ(text(with(of_four, {{"RANK", "2"}, {"LOCAL_RANK", "0"}})), "torchrun 1/2 at 10.0.0.1:29500");
  EXPECT_EQ(text(with(of_four, {{"RANK", "3"}})), "torchrun 1/2 at 10.0.0.1:29500, not first");
  EXPECT_EQ(text(with(of_four, {{"NODE_RANK", "1"}})), "torchrun 1/2 at 10.0.0.1:29500");
  EXPECT_EQ(text(with(of_four, {{"GROUP_RANK", "0"}, {"RANK", "1"}, {"LOCAL_RANK", "1"}})),
            "torchrun 0/2 at 10.0.0.1:29500, not first");
  EXPECT_EQ(text({{"LWS_LEADER_ADDRESS", "lws-0.lws"}, {"LWS_GROUP_SIZE", "3"}, {"LWS_WORKER_INDEX", "2"}}),
            "LeaderWorkerSet 2/3 at lws-0.lws:29500");
  EXPECT_EQ(text(with(master, {{"OMPI_COMM_WORLD_RANK", "5"},
                               {"OMPI_COMM_WORLD_SIZE", "6"},
                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}})),
            "Open MPI 2/3 at 10.0.0.1:29500, not first");
  EXPECT_EQ(text(with(master, {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}})), "MPI 1/2 at 10.0.0.1:29500");
  EXPECT_EQ(text({{"SLURM_NODEID", "1"},
                  {"SLURM_NNODES", "4"},
                  {"SLURM_LOCALID", "0"},
                  {"SLURM_JOB_NODELIST", "gpu[03-05,9]"}}),
            "Slurm 1/4 at gpu03:29500");
  EXPECT_EQ(text({{"RANK", "0"}, {"WORLD_SIZE", "1"}}), "torchrun 0/1");
}

TEST(EnvPlacement, TorchrunUnderSlurmIsTorchruns) {
  EXPECT_EQ(text({{"RANK", "1"},
                  {"WORLD_SIZE", "2"},
                  {"MASTER_ADDR", "a"},
                  {"SLURM_NODEID", "0"},
                  {"SLURM_NNODES", "4"}}),
            "torchrun 1/2 at a:29500");
}

TEST(EnvPlacement, ErrorsNameTheVariableAndWhatItMustBe) {
  const Set two{{"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}};
  EXPECT_EQ(text(with(two, {{"RANK", "2"}})), "RANK is \"2\": want a number from 0 to 1");
  EXPECT_EQ(text(with(two, {{"RANK", "one"}})), "RANK is \"one\": want a number from 0 to 1");
  EXPECT_EQ(text(with(two, {{"RANK", "0 "}})), "RANK is \"0 \": want a number from 0 to 1");
  EXPECT_EQ(text({{"RANK", "0"}}), "WORLD_SIZE is not set: want a number from 1 to 4096");
  EXPECT_EQ(text({{"RANK", "0"}, {"WORLD_SIZE", "2"}}),
            "MASTER_ADDR is not set: want the address of host 0 of 2 in their private network");
  EXPECT_EQ(text(with(two, {{"RANK", "0"}, {"MASTER_PORT", "65536"}})),
            "MASTER_PORT is \"65536\": want a number from 1 to 65535");
  EXPECT_EQ(text({{"RANK", "0"}, {"WORLD_SIZE", "3"}, {"LOCAL_WORLD_SIZE", "2"}}),
            "WORLD_SIZE is 3 and LOCAL_WORLD_SIZE is 2: every host must have as many processes");
  EXPECT_EQ(text({{"LWS_GROUP_SIZE", "2"}}), "LWS_WORKER_INDEX is not set: want a number from 0 to 1");
  EXPECT_NE(text({}).find("no launcher has set this process's place: want RANK and WORLD_SIZE"),
            std::string::npos);
  EXPECT_EQ(place(with(two, {{"RANK", "9"}})).status().param(), "RANK");
}

TEST(EnvPlacement, TheFirstHostOfASlurmList) {
  EXPECT_EQ(first_of_nodelist("a,b"), "a");
  EXPECT_EQ(first_of_nodelist("node07"), "node07");
  EXPECT_EQ(first_of_nodelist("node[07-09,12],other"), "node07");
  EXPECT_EQ(first_of_nodelist("a,node[1-2]"), "a");
  EXPECT_EQ(first_of_nodelist("rack[2,4]-eth,b"), "rack2-eth");
  EXPECT_EQ(first_of_nodelist("broken[1"), "broken");
  EXPECT_EQ(first_of_nodelist(""), "");
}

}  // namespace
}  // namespace gantry
