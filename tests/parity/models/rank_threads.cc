#include "rank_threads.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "comm/shm/segment.h"
#include "comm/shm/shm_communicator.h"

namespace gantry::testing {
namespace {

std::unique_ptr<Communicator> communicator(const shm::Segment& segment, int rank) {
  return open_shm_communicator(segment.fd(), rank, {.deadline = std::chrono::minutes(10), .spin = {}})
      .value();
}

}  // namespace

void run_ranks(const ParallelSizes& sizes, const std::function<void(const RankGroups&)>& run) {
  const auto all = shm::Segment::create(sizes.ranks()).value();
  std::vector<std::unique_ptr<shm::Segment>> stages;
  for (int stage = 0; stage < sizes.pipeline; ++stage) {
    stages.push_back(shm::Segment::create(sizes.tensor).value());
  }
  std::vector<std::thread> threads;
  for (int rank = 0; rank < sizes.ranks(); ++rank) {
    threads.emplace_back([&, rank] {
      const auto stage = static_cast<size_t>(rank / sizes.tensor);
      std::unique_ptr<Communicator> world, tensor;
      if (sizes.pipeline > 1) world = communicator(*all, rank);
      if (sizes.tensor > 1) tensor = communicator(*stages[stage], rank % sizes.tensor);
      run({.sizes = sizes, .rank = rank, .tensor = tensor.get(), .all = world.get()});
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace gantry::testing
