// `gantry pull ORG/NAME`: a model from the Hugging Face hub into the cache that huggingface_hub uses too.
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "base/log.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/hub_model.h"
#include "cli/progress.h"
#include "hub/hub_limits.h"

namespace gantry::cli {
namespace {

constexpr int kInterrupted = 130;  // as a shell reports SIGINT

struct PullOptions {
  std::string name;
  std::string revision;
  std::vector<std::string> include;
  bool dry_run = false;
  int connections = hub::DownloadOptions{}.connections;
  int retries = hub::DownloadOptions{}.retries;
};

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

void print_plan(const HubModel& model, const hub::PullPlan& plan) {
  std::printf("%s at %s\n", model.request.repo.id().c_str(), plan.commit.c_str());
  for (const hub::PlannedFile& planned : plan.files) {
    std::string state = planned.cached ? "cached" : "to fetch";
    if (planned.received_bytes > 0)
      state = fmt::format("to go on at {:.1f} MiB", mib(planned.received_bytes));
    std::printf("%14llu  %s  %s\n", static_cast<unsigned long long>(planned.file.size),
                planned.file.path.c_str(), state.c_str());
  }
  std::printf("%zu files, %.1f MiB, to fetch %.1f MiB; free in %s: %.1f MiB\n", plan.files.size(),
              mib(plan.total_bytes), mib(plan.missing_bytes), model.settings.cache_dir.c_str(),
              mib(plan.disk_free_bytes));
}

Status pull(const PullOptions& options, const hub::StopSignal& stop) {
  if (!options.revision.empty() && options.name.find('@') != std::string::npos) {
    return invalid_argument("the revision is given twice: write ORG/NAME@REVISION or --revision",
                            "--revision");
  }
  GANTRY_ASSIGN_OR_RETURN(HubModel model, hub_model(options.name, options.revision));
  model.request.include = options.include;
  model.request.download = {.connections = options.connections, .retries = options.retries};
  if (model.settings.offline && !options.dry_run) {
    GANTRY_ASSIGN_OR_RETURN(const std::string snapshot,
                            hub::cached_snapshot(model.settings, model.request.repo));
    log::info("HF_HUB_OFFLINE is set: taking what was pulled before");
    std::printf("%s\n", snapshot.c_str());
    return {};
  }
  GANTRY_ASSIGN_OR_RETURN(const hub::PullPlan plan, hub::plan_pull(model.settings, model.request, stop));
  if (options.dry_run) {
    print_plan(model, plan);
    return {};
  }
  Progress progress("pulling " + model.request.repo.id(), plan.total_bytes - plan.missing_bytes);
  const Status status =
      hub::execute_pull(model.settings, model.request, plan, stop,
                        [&](uint64_t done, uint64_t total) { progress.update(done, total); });
  progress.finish();
  if (status.ok()) std::printf("%s\n", plan.snapshot.c_str());
  return status;
}

// SIGINT and SIGTERM end the pull in order: what has come is kept.
int run_pull(const PullOptions& options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  init_log("info");
  hub::StopSignal stop;
  Status status;
  const pthread_t waiter = pthread_self();
  std::thread worker([&] {
    status = pull(options, stop);
    pthread_kill(waiter, SIGUSR1);
  });
  int number = 0;
  while (sigwait(&signals, &number) != 0 || number != SIGUSR1) stop.request();
  worker.join();
  if (status.ok()) return 0;
  if (status.code() == StatusCode::kCancelled) {
    std::fprintf(stderr, "gantry pull: stopped; the same command goes on from here\n");
    return kInterrupted;
  }
  std::fprintf(stderr, "gantry pull: %s\n", status.message().c_str());
  return 1;
}

}  // namespace

void add_pull_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("pull", "Fetch a model from the Hugging Face hub");
  auto options = std::make_shared<PullOptions>();
  command->add_option("model", options->name, "ORG/NAME or ORG/NAME@REVISION")->required();
  command->add_option("--revision", options->revision, "Branch, tag or commit; default main");
  command->add_option("--include", options->include,
                      "Files to fetch, with shell wildcards; may be repeated; default: what Gantry reads");
  command->add_flag("--dry-run", options->dry_run, "Show what would be fetched, and write nothing");
  add_flag(*command, "--connections", options->connections, "Connections at a time")
      ->check(CLI::Range(1, limits::kHubConnectionsMax));
  add_flag(*command, "--retries", options->retries, "Failures in a row, without progress, before giving up")
      ->check(CLI::Range(0, limits::kHubRetriesMax));
  command->callback([options, &exit_code] { exit_code = run_pull(*options); });
}

}  // namespace gantry::cli
