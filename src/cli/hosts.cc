#include "cli/hosts.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "cli/hub_model.h"
#include "cli/model_name.h"
#include "cli/progress.h"
#include "runtime/agent.h"

namespace gantry::cli {
namespace {

Result<tcp::Secret> secret_of(const ServeOptions& options) {
  if (!options.secret_file.empty()) return tcp::Secret::read(options.secret_file);
  const char* value = std::getenv("GANTRY_SECRET");
  if (value == nullptr || *value == '\0') {
    return invalid_argument(
        "several hosts need a secret that they share: give --secret-file FILE, or GANTRY_SECRET in the "
        "environment; "
        "`openssl rand -hex 32` makes one",
        "--secret-file");
  }
  auto secret = tcp::Secret::create(value);
  return secret.ok() ? std::move(secret) : secret.status().with_context("GANTRY_SECRET");
}

Status check_hosts(const ServeOptions& o, const HostPlace& place) {
  if (o.pipeline_parallel_size % place.hosts != 0) {
    return invalid_argument(
        fmt::format(
            "--pipeline-parallel-size is {} on {} hosts (by {}): each host has whole stages, so it must be a "
            "multiple of {}",
            o.pipeline_parallel_size, place.hosts, place.launcher, place.hosts),
        "--pipeline-parallel-size");
  }
  if (o.data_parallel_size > 1) {
    return invalid_argument(
        "--data-parallel-size must be 1 on several hosts: start the other replicas beside this one, "
        "with a MASTER_PORT of their own",
        "--data-parallel-size");
  }
  if (o.models.size() > 1) {
    return invalid_argument(fmt::format("{} models on several hosts: one is served there", o.models.size()));
  }
  return secret_of(o).status();
}

// Where the model lies on this host, fetched first if it is the hub's.
Result<std::string> local_model(const std::string& name, const ServeOptions& options) {
  if (name.empty()) return std::string();
  if (!is_hub_name(name)) {
    GANTRY_ASSIGN_OR_RETURN(const ResolvedModel model, resolve_model(name));
    return model.path;
  }
  GANTRY_ASSIGN_OR_RETURN(const HubModel model, hub_model(name, options.revision));
  Progress progress("pulling " + model.request.repo.id());
  const hub::StopSignal never;
  GANTRY_ASSIGN_OR_RETURN(std::string path, fetch_hub_model(model, never, [&](uint64_t done, uint64_t total) {
                            progress.update(done, total);
                          }));
  progress.finish();
  return path;
}

Status agent(const ServeOptions& options, const HostPlace& place, const std::string& model, int stop) {
  GANTRY_ASSIGN_OR_RETURN(const tcp::Secret secret, secret_of(options));
  GANTRY_ASSIGN_OR_RETURN(const std::string path, local_model(model, options));
  return run_agent({.number = place.number,
                    .rendezvous = {place.address, place.port},
                    .secret = secret,
                    .command = {"/proc/self/exe", "rank", "--parent=" + std::to_string(getpid())},
                    .model = path,
                    .version = GANTRY_VERSION,
                    .wait = std::chrono::seconds(options.host_wait_s),
                    .lease = std::chrono::seconds(options.host_lease_s),
                    .stop = stop});
}

}  // namespace

Result<HostPlace> host_place(const ServeOptions& options) {
  if (options.placement != "env") return HostPlace();
  auto place = place_by_environment();
  if (!place.ok()) return place.status().with_context("--placement env");
  if (place->hosts > 1) GANTRY_RETURN_IF_ERROR(check_hosts(options, *place));
  return place;
}

Result<GroupHosts> group_hosts(const ServeOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const HostPlace place, host_place(options));
  GroupHosts hosts;
  hosts.memory = options.rank_transport != "tcp";
  if (place.hosts == 1) return hosts;
  hosts.count = place.hosts;
  hosts.rendezvous = {place.address, place.port};
  hosts.wait = std::chrono::seconds(options.host_wait_s);
  GANTRY_ASSIGN_OR_RETURN(hosts.secret, secret_of(options));
  return hosts;
}

int run_host_agent(const ServeOptions& options, const HostPlace& place, const std::string& model) {
  init_log(options.log_level);
  spdlog::set_pattern(fmt::format("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ [host {}] %v", place.number),
                      spdlog::pattern_time_type::utc);
  // In a session of its own, where it does not lead a group already: what ends a launcher's session is not its end.
  setsid();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const int stop = signalfd(-1, &signals, SFD_CLOEXEC);
  const Status status =
      stop < 0 ? resource_exhausted("no descriptor is left for signals") : agent(options, place, model, stop);
  if (stop >= 0) close(stop);
  if (!status.ok()) std::fprintf(stderr, "gantry host %d: %s\n", place.number, status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace gantry::cli
