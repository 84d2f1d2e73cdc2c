#include "cli/command_line.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace gantry::cli {
namespace {

TEST(CommandLine, ShortParallelFlagsBecomeLong) {
  const char* argv[] = {"gantry", "serve", "m", "-tp", "2", "-pp=3", "-tpx", "--port", "1"};
  EXPECT_EQ(normalize_arguments(9, argv),
            (std::vector<std::string>{"serve", "m", "--tensor-parallel-size", "2",
                                      "--pipeline-parallel-size=3", "-tpx", "--port", "1"}));
}

TEST(CommandLine, FlagsReadTheirVariableAndIgnoreServiceLinks) {
  const auto parse = [] {
    CLI::App app;
    int port = 8000;
    int max_num_seqs = 64;
    add_flag(app, "--port", port, "port");
    add_flag(app, "--max-num-seqs", max_num_seqs, "sequences");
    drop_service_variables();
    app.parse(std::vector<std::string>{});
    return std::pair(port, max_num_seqs);
  };
  setenv("GANTRY_PORT", "tcp://10.1.2.3:8000", 1);
  setenv("GANTRY_MAX_NUM_SEQS", "7", 1);
  EXPECT_EQ(parse(), std::pair(8000, 7));
  setenv("GANTRY_PORT", "9000", 1);
  EXPECT_EQ(parse(), std::pair(9000, 7));
  unsetenv("GANTRY_PORT");
  unsetenv("GANTRY_MAX_NUM_SEQS");
}

}  // namespace
}  // namespace gantry::cli
