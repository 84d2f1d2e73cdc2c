// `gantry serve`: listens at once (health shows the loading), loads the models in order, serves until SIGTERM
// or SIGINT.
#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/fair_mutex.h"
#include "base/log.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/hosts.h"
#include "cli/hub_model.h"
#include "cli/model_host.h"
#include "cli/progress.h"
#include "cli/serve_options.h"
#include "engine/kv_sizing.h"
#include "server/server.h"

namespace gantry::cli {
namespace {

constexpr std::chrono::seconds kFirstTokenLimit{60};

// Blocked in every thread, so that only wait_for_signal() takes them: a hundred SIGTERMs are one drain.
sigset_t block_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return set;
}

class Serve {
 public:
  explicit Serve(ServeOptions options) : options_(std::move(options)) {}

  int run() {
    const sigset_t signals = block_signals();
    if (const Status status = start(); !status.ok()) return fail(status);
    std::thread loader([this] { load_all(); });
    for (int signal = 0; sigwait(&signals, &signal) == 0 && signal == SIGUSR1;) restart();
    stopping_ = true;
    if (load_failed_.load()) {
      loader.join();
      server_->stop(std::chrono::seconds(0));
      return 1;
    }
    log::info("draining: running streams have {:.0f} s", options_.shutdown_timeout_s);
    const bool drained =
        server_->stop(std::chrono::milliseconds(static_cast<int64_t>(options_.shutdown_timeout_s * 1e3)));
    if (!loaded_.load()) {
      // Nothing was served that could be lost, and a large load cannot be waited for.
      log::info("stopped while loading");
      std::fflush(nullptr);
      std::_Exit(0);
    }
    loader.join();
    if (restarter_.joinable()) restarter_.join();
    server_.reset();
    hosts_.clear();
    log::info(drained ? "stopped" : "stopped; streams over the time limit were cut off");
    return 0;
  }

 private:
  struct ServedName {
    ResolvedModel resolved;       // without a path while `hub` has not been fetched
    std::optional<HubModel> hub;  // of the hub: fetched before it is loaded
  };

  // Workers one after the other, on a thread of its own.
  void restart() {
    if (!loaded_.load()) return log::warn("no restart: models are still being loaded");
    if (restarting_.exchange(true)) return log::warn("no restart: one is under way");
    if (restarter_.joinable()) restarter_.join();
    restarter_ = std::thread([this] {
      for (const auto& host : hosts_) {
        const Status status = host->restart_workers(stopping_);
        log::log(status.ok() ? log::level::info : log::level::err, "restart: {}",
                 status.ok() ? "done" : status.message());
      }
      restarting_ = false;
    });
  }

  static int fail(const Status& status) {
    std::fprintf(stderr, "gantry serve: %s\n", status.message().c_str());
    return 1;
  }

  Status start() {
    GANTRY_RETURN_IF_ERROR(validate(options_));
    init_log(options_.log_level);
    for (size_t i = 0; i < options_.models.size(); ++i) {
      ServedName model;
      if (is_hub_name(options_.models[i])) {
        GANTRY_ASSIGN_OR_RETURN(model.hub, hub_model(options_.models[i], options_.revision));
        model.resolved.id = model.hub->request.repo.id();
      } else {
        GANTRY_ASSIGN_OR_RETURN(model.resolved, resolve_model(options_.models[i]));
      }
      if (!options_.served_model_names.empty()) model.resolved.id = options_.served_model_names[i];
      models_.push_back(std::move(model));
    }
    if (!options_.kv_cache_memory.empty()) {
      GANTRY_ASSIGN_OR_RETURN(const uint64_t bytes, parse_bytes(options_.kv_cache_memory));
      kv_cache_bytes_ = bytes / models_.size();
    }
    if (!uses_workers(options_)) GANTRY_RETURN_IF_ERROR(prepare_compute());
    ServerOptions server;
    server.http.host = options_.host;
    server.http.port = options_.port;
    server.api_keys = options_.api_keys;
    server.vllm_metric_names = options_.metrics_compat == "vllm";
    server.version = GANTRY_VERSION;
    GANTRY_ASSIGN_OR_RETURN(server_, Server::start(std::move(server)));
    for (const ServedName& model : models_) {
      GANTRY_RETURN_IF_ERROR(server_->models().add(model.resolved.id));
    }
    const std::string compute =
        pool_ ? fmt::format("{} threads, {} kernels", pool_->size(), resources_.backend->name)
              : fmt::format("{} workers for each model", options_.data_parallel_size);
    log::info("listening on http://{}:{}, {}", options_.host, server_->port(), compute);
    return {};
  }

  // What replicas in this process compute with.
  Status prepare_compute() {
    GANTRY_ASSIGN_OR_RETURN(const DeviceChoice device, device_backend(options_.device));
    if (!device.note.empty()) log::warn("serving on the CPU: {}", device.note);
    resources_.backend = device.backend;
    if (kv_cache_bytes_ == 0 && models_.size() > 1 && resources_.backend->memory == nullptr) {
      kv_cache_bytes_ = kDefaultKvCacheBytes / models_.size();
    }
    pool_ = std::make_unique<ThreadPool>(threads_per_rank(options_));
    resources_.pool = pool_.get();
    resources_.pool_turn = &pool_turn_;
    return {};
  }

  void load_all() {
    int ready = 0;
    for (ServedName& model : models_) {
      Status status = model.hub ? fetch(model) : Status();
      if (status.ok()) status = load(model.resolved);
      if (status.ok()) {
        ++ready;
      } else {
        log::error("{}: {}", model.resolved.id, status.message());
        server_->models().fail(model.resolved.id, "the model could not be loaded");
      }
    }
    loaded_.store(true);
    if (ready > 0) {
      // A model is ready once it has generated a token, not once its weights lie in memory.
      if (server_->wait_until_ready(kFirstTokenLimit)) {
        log::info("ready at http://{}:{}/v1", options_.host, server_->port());
      } else {
        log::warn("no first token within {} s: /ready tells which model", kFirstTokenLimit.count());
      }
      return;
    }
    load_failed_.store(true);
    kill(getpid(), SIGTERM);
  }

  // A stop ends the process and leaves a download from which the next one goes on.
  Status fetch(ServedName& model) {
    Progress progress("pulling " + model.resolved.id);
    const hub::StopSignal never;
    GANTRY_ASSIGN_OR_RETURN(model.resolved.path,
                            fetch_hub_model(*model.hub, never, [&](uint64_t done, uint64_t total) {
                              server_->models().set_progress(
                                  model.resolved.id, {.phase = "downloading", .done = done, .total = total});
                              progress.update(done, total);
                            }));
    progress.finish();
    return {};
  }

  Status load(const ResolvedModel& model) {
    Progress progress("loading " + model.id);
    const int64_t start_ns = monotonic_ns();
    auto host =
        ModelHost::load(model, options_, kv_cache_bytes_, resources_, [&](uint64_t done, uint64_t total) {
          const double seconds = static_cast<double>(monotonic_ns() - start_ns) * 1e-9;
          const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
          server_->models().set_progress(
              model.id, {.phase = "loading weights",
                         .done = done,
                         .total = total,
                         .per_second = rate,
                         .seconds_left = rate > 0 ? static_cast<double>(total - done) / rate : 0});
          progress.update(done, total);
        });
    progress.finish();
    GANTRY_RETURN_IF_ERROR(host.status());
    hosts_.push_back(std::move(host).value());
    return server_->models().publish(hosts_.back()->served());
  }

  ServeOptions options_;
  std::vector<ServedName> models_;
  uint64_t kv_cache_bytes_ = 0;
  FairMutex pool_turn_;
  std::unique_ptr<ThreadPool> pool_;
  ComputeResources resources_;
  std::vector<std::unique_ptr<ModelHost>> hosts_;
  std::unique_ptr<Server> server_;
  std::atomic<bool> loaded_{false};
  std::atomic<bool> load_failed_{false};
  std::atomic<bool> restarting_{false};
  std::atomic<bool> stopping_{false};
  std::thread restarter_;
};

// The same command on every host: on host 0 it serves, on the others it is the host's agent.
int run_serve(const ServeOptions& options) {
  const auto fail = [](const Status& status) {
    std::fprintf(stderr, "gantry serve: %s\n", status.message().c_str());
    return 1;
  };
  if (const Status status = validate(options); !status.ok()) return fail(status);
  const auto place = host_place(options);
  if (!place.ok()) return fail(place.status());
  if (!place->first_here) {
    std::fprintf(stderr,
                 "gantry serve: another process on this host starts its ranks; this one has nothing to do\n");
    return 0;
  }
  if (place->number > 0) return run_host_agent(options, *place, options.models.front());
  return Serve(options).run();
}

}  // namespace

void add_serve_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("serve", "Serve models over the OpenAI API");
  auto options = std::make_shared<ServeOptions>();
  add_serve_flags(*command, *options);
  command->callback([options, &exit_code] { exit_code = run_serve(*options); });
}

}  // namespace gantry::cli
