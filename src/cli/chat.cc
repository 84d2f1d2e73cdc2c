// `gantry chat`: a conversation in the terminal with a running server. Answers stream; reasoning is dimmed.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "cli/chat_client.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "loadgen/load_client.h"

namespace gantry::cli {
namespace {

std::atomic<bool> interrupted{false};

struct ChatOptions {
  std::string url = "http://127.0.0.1:8000";
  std::string model;
  std::string api_key;
  std::string system;
  int max_tokens = 0;
  double temperature = -1;
};

// Dims the reasoning on a terminal; on a pipe only the answer is printed.
class Printer {
 public:
  Printer()
      : terminal_(isatty(STDOUT_FILENO) == 1), color_(terminal_ && std::getenv("NO_COLOR") == nullptr) {}

  void print(const ChatDelta& delta) {
    if (!delta.reasoning.empty() && terminal_) {
      if (color_ && !dim_) std::fputs("\x1b[2m", stdout);
      dim_ = true;
      std::fputs(delta.reasoning.c_str(), stdout);
    }
    if (!delta.content.empty()) {
      end_reasoning();
      std::fputs(delta.content.c_str(), stdout);
    }
    std::fflush(stdout);
  }

  void finish() {
    end_reasoning();
    std::fputc('\n', stdout);
    std::fflush(stdout);
  }

 private:
  void end_reasoning() {
    if (!dim_) return;
    std::fputs(color_ ? "\x1b[0m\n\n" : "\n\n", stdout);
    dim_ = false;
  }

  bool terminal_;
  bool color_;
  bool dim_ = false;
};

int run_chat(ChatOptions options) {
  const ChatClient client(options.url, options.api_key);
  if (options.model.empty()) {
    auto model = loadgen::first_model({.url = options.url, .api_key = options.api_key});
    if (!model.ok()) {
      std::fprintf(stderr, "gantry chat: %s\n", model.status().message().c_str());
      return 1;
    }
    options.model = *model;
  }
  std::signal(SIGINT, [](int) { interrupted.store(true); });
  const bool terminal = isatty(STDIN_FILENO) == 1;
  if (terminal)
    std::printf("%s at %s. Ctrl-C stops an answer, Ctrl-D ends.\n", options.model.c_str(),
                options.url.c_str());

  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
  std::string line;
  for (;;) {
    if (terminal) std::fputs("> ", stdout), std::fflush(stdout);
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    messages.push_back({{"role", "user"}, {"content", line}});
    nlohmann::ordered_json request{{"model", options.model}, {"messages", messages}, {"stream", true}};
    if (options.max_tokens > 0) request["max_tokens"] = options.max_tokens;
    if (options.temperature >= 0) request["temperature"] = options.temperature;
    std::string answer;
    Printer printer;
    interrupted.store(false);
    const Status status = client.stream(
        request,
        [&](const ChatDelta& delta) {
          printer.print(delta);
          answer += delta.content;
        },
        interrupted);
    printer.finish();
    if (!status.ok() && status.code() != StatusCode::kCancelled) {
      std::fprintf(stderr, "gantry chat: %s\n", status.message().c_str());
      if (!terminal) return 1;
      messages.erase(messages.size() - 1);
      continue;
    }
    messages.push_back({{"role", "assistant"}, {"content", answer}});
  }
  if (terminal) std::fputc('\n', stdout);
  return 0;
}

}  // namespace

void add_chat_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("chat", "Talk to a running server in the terminal");
  auto options = std::make_shared<ChatOptions>();
  add_flag(*command, "--url", options->url, "Address of the server, without /v1");
  add_flag(*command, "--model", options->model, "Model name; default: the first that the server lists");
  add_flag(*command, "--api-key", options->api_key, "Key to send");
  add_flag(*command, "--system", options->system, "System message");
  add_flag(*command, "--max-tokens", options->max_tokens,
           "Longest answer in tokens; 0: what the context holds");
  add_flag(*command, "--temperature", options->temperature, "0 is greedy; negative: the server's default");
  command->callback([options, &exit_code] { exit_code = run_chat(*options); });
}

}  // namespace gantry::cli
