// Ranks that are processes which this one starts, and the memory that they share.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "comm/shm/segment.h"
#include "model/parallel_layout.h"
#include "runtime/rank_host.h"
#include "runtime/rank_network.h"

namespace gantry {

class LocalHost final : public RankHost {
 public:
  struct Options {
    ParallelSizes sizes;
    // Which share memory, as of RankSetup.
    int32_t memory_first = 0;
    int32_t memory_ranks = 1;
    std::string address{};             // RankHost::address()
    std::vector<std::string> command;  // absolute path and arguments of a process that calls run_follower()
    // How long send() waits for a rank that takes nothing; 0: until it does.
    std::chrono::milliseconds send_limit{0};
  };
  static Result<std::unique_ptr<LocalHost>> create(Options options);

  // What a rank of this host inherits. -1: there is no such memory.
  RankNetwork::Memory memory(int32_t rank) const;

  Status start(const RankSetup& setup) override;
  Status send(int32_t rank, RankMessage message, std::string_view payload) override;
  bool try_send(int32_t rank, RankMessage message) override;
  std::string place(int32_t rank) const override;
  bool is_stopped(int32_t rank) const override;
  std::string address() const override { return options_.address; }
  int64_t pid(int32_t rank) const { return child(rank).process->pid(); }
  void watch(std::vector<pollfd>& looks) const override;
  Status take(std::span<const pollfd> looks, RankEvents& events) override;
  Status tick() override { return {}; }
  void abort(std::string_view reason) override;
  void end(bool at_once) override;

 private:
  struct Child {
    int32_t rank = 0;
    std::unique_ptr<ChildProcess> process;
    std::unique_ptr<RankLink> link;
    bool ended = false;  // and reported
  };

  explicit LocalHost(Options options) : options_(std::move(options)) {}
  Child& child(int32_t rank) const;
  // What has come from the child, its end too. False once the socket has been read to its end.
  static Result<bool> read(Child& child, RankEvents& events);
  static Status take_end(Child& child, RankEvents& events);

  const Options options_;
  std::unique_ptr<shm::Segment> stages_segment_;
  std::vector<std::unique_ptr<shm::Segment>> stage_segments_;  // by stage, from memory_first's
  std::vector<std::unique_ptr<Child>> children_;
};

}  // namespace gantry
