// `gantry worker`: one replica in a process of its own. `gantry serve` starts it and talks to it over the socket that it
// inherits; it ends when that is closed, or with the process that started it. By hand, with --placement env: the agent of a
// host other than 0, as `gantry serve` is there, whose weights lie where host 0 has them unless a model is named.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

#include "base/child_process.h"
#include "base/fair_mutex.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/hosts.h"
#include "cli/model_host.h"
#include "cli/serve_options.h"
#include "engine/kv_sizing.h"
#include "engine/replica_service.h"

namespace gantry::cli {
namespace {

struct WorkerOptions {
  ServeOptions engine;
  std::string name;  // of the model
  int replica = 0;
  int front = 0;           // process id
  uint64_t kv_shares = 1;  // of the default KV memory, that all workers of the front share
};

class Worker {
 public:
  explicit Worker(WorkerOptions options) : options_(std::move(options)) {}

  int run() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != options_.front) return 1;  // it died before
    // A signal to the whole group, or by a service manager to every process, is the front's to act on.
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1}) std::signal(signal, SIG_IGN);
    fcntl(kParentSocket, F_SETFD, FD_CLOEXEC);
    init_log(options_.engine.log_level);
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ [" + label() + "] %v", spdlog::pattern_time_type::utc);

    ReplicaService service(kParentSocket);
    if (const Status status = load(service); !status.ok()) {
      service.failed(status);
      return 1;
    }
    const Status status = service.serve(*replica_);
    if (!status.ok()) log::error("{}", status.message());
    return status.ok() ? 0 : 1;
  }

 private:
  // In a log pattern % is special.
  std::string label() const {
    std::string label;
    for (const char c : options_.name) label += c == '%' ? std::string("%%") : std::string(1, c);
    return label + "-" + std::to_string(options_.replica) + " " + std::to_string(getpid());
  }

  Status load(ReplicaService& service) {
    const ServeOptions& engine = options_.engine;
    GANTRY_RETURN_IF_ERROR(validate(engine));
    GANTRY_ASSIGN_OR_RETURN(const DeviceChoice device, device_backend(engine.device));
    if (!device.note.empty()) log::warn("computing on the CPU: {}", device.note);
    uint64_t kv_cache_bytes = 0;
    if (!engine.kv_cache_memory.empty()) {
      GANTRY_ASSIGN_OR_RETURN(kv_cache_bytes, parse_bytes(engine.kv_cache_memory));
    } else if (options_.kv_shares > 1 && device.backend->memory == nullptr) {
      kv_cache_bytes = kDefaultKvCacheBytes / options_.kv_shares;
    }
    pool_ = std::make_unique<ThreadPool>(threads_per_rank(engine));
    GANTRY_ASSIGN_OR_RETURN(source_, open_source(engine.models.front(), engine.load_format));
    GANTRY_ASSIGN_OR_RETURN(
        replica_,
        start_replica(
            *source_, options_.name, engine, kv_cache_bytes,
            {.backend = device.backend, .pool = pool_.get(), .pool_turn = &pool_turn_, .own_process = true},
            [&](uint64_t done, uint64_t total) { service.loading(done, total); }));
    return {};
  }

  const WorkerOptions options_;
  FairMutex pool_turn_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<WeightSource> source_;
  std::unique_ptr<ReplicaClient> replica_;
};

int run_agent_command(const ServeOptions& options, bool names_model) {
  const auto fail = [](const std::string& why) {
    std::fprintf(stderr, "gantry worker: %s\n", why.c_str());
    return 1;
  };
  const auto place = host_place(options);
  if (!place.ok()) return fail(place.status().message());
  if (place->number == 0) {
    return fail(
        "runs on the hosts of a deployment other than 0, with --placement env; host 0 runs gantry serve");
  }
  return place->first_here ? run_host_agent(options, *place, names_model ? options.models.front() : "") : 0;
}

}  // namespace

void add_worker_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("worker", "A host's agent, with --placement env; else started by serve");
  auto options = std::make_shared<WorkerOptions>();
  add_engine_flags(*command, options->engine);
  command->add_option("--name", options->name);
  command->add_option("--replica", options->replica);
  auto* front = command->add_option("--front", options->front);
  command->add_option("--kv-shares", options->kv_shares);
  command->add_option("--log-level", options->engine.log_level);
  auto* model = command->get_option("--model");
  command->callback([options, front, model, &exit_code] {
    exit_code =
        front->count() > 0 ? Worker(*options).run() : run_agent_command(options->engine, model->count() > 0);
  });
}

}  // namespace gantry::cli
