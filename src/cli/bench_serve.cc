// `gantry bench serve`: load over HTTP against any OpenAI server that streams.
#include <fmt/format.h>

#include <charconv>
#include <csignal>
#include <cstdio>

#include "base/clock.h"
#include "base/log.h"
#include "cli/bench.h"
#include "cli/command_line.h"
#include "cli/progress.h"
#include "loadgen/load_client.h"
#include "loadgen/report.h"

namespace gantry::cli {
namespace {

constexpr int64_t kDefaultRequests = 100;
constexpr int64_t kRequestsMax = 10'000'000;

std::atomic<bool> interrupted{false};

struct BenchServeOptions {
  loadgen::Endpoint endpoint;
  loadgen::RandomLengths lengths;
  loadgen::LoadPlan plan;
  std::string dataset = "random";
  std::string route = "completions";
  std::string prompt_form;
  std::string token_ids = "256:1024";
  std::string extra_body = "{}";
  std::string request_rate = "inf";
  std::vector<std::string> goals;
  int64_t warmups = 1;
  std::string result_path;
  std::string details_path;
};

Status parse_number(const char* flag, std::string_view text, auto& value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) return {};
  return invalid_argument(fmt::format("{}: \"{}\" is no number", flag, text), flag);
}

Status read_options(BenchServeOptions& o) {
  if (o.endpoint.url.ends_with('/')) o.endpoint.url.pop_back();
  if (o.endpoint.url.ends_with("/v1")) o.endpoint.url.resize(o.endpoint.url.size() - 3);
  o.endpoint.chat = o.route == "chat";
  if (o.prompt_form.empty()) o.prompt_form = o.endpoint.chat ? "text" : "ids";
  if (o.endpoint.chat && o.prompt_form == "ids") {
    return invalid_argument("--prompt-form ids: chat takes text; ids need --endpoint completions",
                            "--prompt-form");
  }
  o.lengths.form = o.prompt_form == "ids" ? loadgen::PromptForm::kIds : loadgen::PromptForm::kText;
  const std::string_view ids = o.token_ids;
  const size_t colon = ids.find(':');
  if (colon == std::string_view::npos) return invalid_argument("--token-ids: write FIRST:END", "--token-ids");
  GANTRY_RETURN_IF_ERROR(parse_number("--token-ids", ids.substr(0, colon), o.lengths.token_first));
  GANTRY_RETURN_IF_ERROR(parse_number("--token-ids", ids.substr(colon + 1), o.lengths.token_end));
  GANTRY_RETURN_IF_ERROR(parse_number("--request-rate", o.request_rate, o.plan.request_rate));
  if (!(o.plan.request_rate > 0)) {
    return invalid_argument("--request-rate must be above 0, or inf", "--request-rate");
  }
  if (!(o.endpoint.timeout_s > 0 && o.endpoint.timeout_s <= 86400)) {
    return invalid_argument("--request-timeout must be above 0 and at most 86400 seconds",
                            "--request-timeout");
  }
  if (o.plan.requests < 0 || o.plan.requests > kRequestsMax) {
    return invalid_argument(fmt::format("--num-prompts must be 0 to {}", kRequestsMax), "--num-prompts");
  }
  if (o.plan.max_concurrency < 0 || o.warmups < 0 || !(o.plan.seconds >= 0)) {
    return invalid_argument("--max-concurrency, --num-warmups and --duration must not be negative");
  }
  o.endpoint.extra = nlohmann::ordered_json::parse(o.extra_body, nullptr, /*allow_exceptions=*/false);
  if (!o.endpoint.extra.is_object())
    return invalid_argument("--extra-body must be a JSON object", "--extra-body");
  o.plan.seed = o.lengths.seed;
  return {};
}

Result<std::unique_ptr<loadgen::Workload>> make_workload(const BenchServeOptions& o) {
  if (o.dataset == "random") return loadgen::make_random_workload(o.lengths);
  return loadgen::read_dataset(o.dataset, o.lengths.output_tokens);
}

// One request at a time; the first that fails ends it.
Status warm_up(const BenchServeOptions& o, const loadgen::Workload& workload) {
  if (o.warmups == 0) return {};
  // Prompts that the run does not ask for again, so that no prefix cache knows them.
  const loadgen::LoadPlan plan{.requests = o.warmups, .max_concurrency = 1, .first_index = kRequestsMax};
  GANTRY_ASSIGN_OR_RETURN(const auto records,
                          loadgen::run_load(o.endpoint, workload, plan, interrupted, [](const auto&) {}));
  for (const loadgen::LoadRecord& record : records) {
    if (record.outcome != loadgen::Outcome::kCompleted) {
      return unavailable(fmt::format("the first request to {} failed: {}", o.endpoint.url, record.error));
    }
  }
  return {};
}

nlohmann::ordered_json describe(const BenchServeOptions& o) {
  nlohmann::ordered_json out{
      {"mode", "serve"},       {"gantry_version", GANTRY_VERSION}, {"unix_seconds", unix_seconds()},
      {"url", o.endpoint.url}, {"model", o.endpoint.model},        {"endpoint", o.route},
      {"dataset", o.dataset}};
  if (o.dataset == "random") {
    out["input_len"] = o.lengths.input_tokens;
    out["range_ratio"] = o.lengths.range_ratio;
    out["prefix_len"] = o.lengths.prefix_tokens;
    out["prompt_form"] = o.prompt_form;
    out["token_ids"] = o.token_ids;
  }
  out["output_len"] = o.lengths.output_tokens;
  out["num_prompts"] = o.plan.requests;
  out["duration_s"] = o.plan.seconds;
  out["request_rate"] = o.request_rate;
  out["max_concurrency"] = o.plan.max_concurrency;
  out["ignore_eos"] = o.endpoint.ignore_eos;
  out["extra_body"] = o.endpoint.extra;
  out["goodput"] = o.goals;
  out["seed"] = o.lengths.seed;
  return out;
}

Result<int> run(BenchServeOptions o) {
  init_log("info");
  GANTRY_RETURN_IF_ERROR(read_options(o));
  GANTRY_ASSIGN_OR_RETURN(const loadgen::Goals goals, loadgen::parse_goals(o.goals));
  GANTRY_ASSIGN_OR_RETURN(const auto workload, make_workload(o));
  if (o.plan.requests == 0 && o.plan.seconds <= 0) {
    o.plan.requests = workload->size() > 0 ? workload->size() : kDefaultRequests;
  }
  if (o.endpoint.model.empty()) {
    GANTRY_ASSIGN_OR_RETURN(o.endpoint.model, loadgen::first_model(o.endpoint));
  }
  std::signal(SIGINT, [](int) { interrupted.store(true); });
  GANTRY_RETURN_IF_ERROR(warm_up(o, *workload));

  Progress progress("benchmark", 0, Progress::Unit::kRequests);
  GANTRY_ASSIGN_OR_RETURN(
      const auto records,
      loadgen::run_load(o.endpoint, *workload, o.plan, interrupted, [&](const loadgen::LoadProgress& now) {
        // Without a number of requests, how many there will be is guessed from the time left.
        int64_t total = o.plan.requests;
        if (total == 0) {
          const double share = std::clamp(now.seconds / o.plan.seconds, 1e-3, 1.0);
          total = static_cast<int64_t>(static_cast<double>(now.started) / share);
          if (share < 1) total = std::max(total, now.done + 1);
        }
        progress.update(static_cast<uint64_t>(now.done), static_cast<uint64_t>(total));
      }));
  progress.finish();

  const loadgen::LoadReport report = loadgen::summarize(records, goals);
  std::fputs(loadgen::to_table(report).c_str(), stdout);
  nlohmann::ordered_json result = describe(o);
  result.update(loadgen::to_json(report));
  GANTRY_RETURN_IF_ERROR(write_result(o.result_path, result));
  if (!o.details_path.empty()) {
    nlohmann::ordered_json details = nlohmann::ordered_json::array();
    for (const loadgen::LoadRecord& record : records) details.push_back(loadgen::to_json(record));
    GANTRY_RETURN_IF_ERROR(write_result(o.details_path, details));
  }
  return interrupted.load() ? 130 : report.failed > 0 || report.completed == 0 ? 1 : 0;
}

}  // namespace

void add_bench_serve(CLI::App& bench, int& exit_code) {
  auto* command = bench.add_subcommand("serve", "Measure an OpenAI server over HTTP");
  auto o = std::make_shared<BenchServeOptions>();
  add_flag(*command, "--url", o->endpoint.url, "Address of the server");
  add_flag(*command, "--model", o->endpoint.model, "Model name; default: the first that the server lists");
  add_flag(*command, "--api-key", o->endpoint.api_key, "Key to send");
  add_flag(*command, "--endpoint", o->route, "completions, chat")
      ->check(CLI::IsMember({"completions", "chat"}));
  add_flag(
      *command, "--dataset", o->dataset,
      "random, or a file: JSON lines {\"prompt\" or \"messages\", \"output_tokens\"}, or ShareGPT's JSON");
  add_length_flags(*command, o->lengths);
  add_flag(
      *command, "--prompt-form", o->prompt_form,
      "Random prompts as ids (exact lengths) or text (about a token a word); default: ids for completions")
      ->check(CLI::IsMember({"ids", "text"}));
  add_flag(*command, "--token-ids", o->token_ids, "Random ids are FIRST up to END, written FIRST:END");
  add_flag(*command, "--num-prompts", o->plan.requests,
           "Requests; 0: the dataset's, or what --duration gives, or 100");
  add_flag(*command, "--duration", o->plan.seconds, "Seconds after which no request starts; 0: no limit");
  add_flag(*command, "--request-rate", o->request_rate, "Poisson arrivals per second; inf: all at once");
  add_flag(*command, "--max-concurrency", o->plan.max_concurrency, "Requests under way at once; 0: no limit");
  add_flag(*command, "--request-timeout", o->endpoint.timeout_s, "Seconds until a request is given up");
  command->add_flag("--ignore-eos", o->endpoint.ignore_eos, "Generate all of --output-len");
  add_flag(*command, "--temperature", o->endpoint.temperature, "0 is greedy; negative: the server's default");
  add_flag(*command, "--extra-body", o->extra_body, "JSON object laid over every request");
  add_flag(*command, "--goodput", o->goals, "Goals in ms: ttft:MS tpot:MS e2el:MS");
  add_flag(*command, "--num-warmups", o->warmups, "Requests before the measured ones");
  add_flag(*command, "--save-result", o->result_path, "JSON file of the figures");
  add_flag(*command, "--save-details", o->details_path, "JSON file of every request's times");
  command->callback([o, &exit_code] {
    const Result<int> code = run(*o);
    exit_code = code.ok() ? *code : print_failure(code.status());
  });
}

}  // namespace gantry::cli
