// `gantry inspect MODEL`: what a checkpoint holds, without loading it.
#include "formats/inspect.h"

#include <cstdio>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_name.h"

namespace gantry::cli {
namespace {

Status run_inspect(const std::string& name, bool json) {
  GANTRY_ASSIGN_OR_RETURN(const ResolvedModel model, resolve_model(name));
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, open_weights(model.path));
  const std::string text = json ? describe_json(*source).dump(1) + "\n" : describe(*source);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("inspect", "Show a checkpoint's configuration, tensors and bytes");
  struct Options {
    std::string model;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command
      ->add_option("model", options->model,
                   "Folder, .gguf file, ORG/NAME that was pulled, r1-tiny or smollm2")
      ->required();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &exit_code] {
    const Status status = run_inspect(options->model, options->json);
    if (!status.ok()) std::fprintf(stderr, "gantry inspect: %s\n", status.message().c_str());
    exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace gantry::cli
