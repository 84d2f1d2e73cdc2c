#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/ops/backend.h"

namespace gantry {
namespace {

class IsaVariable {
 public:
  explicit IsaVariable(const char* value) { setenv("GANTRY_CPU_ISA", value, 1); }
  ~IsaVariable() { unsetenv("GANTRY_CPU_ISA"); }
};

TEST(Select, ReferenceRunsEverywhereAndComesFirst) {
  ASSERT_FALSE(runnable_backends().empty());
  EXPECT_EQ(runnable_backends().front()->name, "reference");
}

TEST(Select, EveryRunnableBackendIsFoundByItsName) {
  for (const Backend* backend : runnable_backends()) EXPECT_EQ(cpu_backend(backend->name).value(), backend);
}

TEST(Select, AutoIsTheLastThatRuns) {
  unsetenv("GANTRY_CPU_ISA");
  EXPECT_EQ(cpu_backend("auto").value(), runnable_backends().back());
}

TEST(Select, TheVariableOverridesAutoAlone) {
  const IsaVariable isa("reference");
  EXPECT_EQ(cpu_backend("auto").value()->name, "reference");
  const std::string_view best = runnable_backends().back()->name;
  EXPECT_EQ(cpu_backend(best).value()->name, best);
}

TEST(Select, AnUnknownNameListsTheNames) {
  const Status status = cpu_backend("mmx").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), testing::HasSubstr("'mmx'"));
  EXPECT_THAT(status.message(), testing::HasSubstr("auto, reference"));
}

TEST(Select, AnUnknownNameInTheVariableNamesTheVariable) {
  const IsaVariable isa("sse9");
  EXPECT_EQ(cpu_backend("auto").status().param(), "GANTRY_CPU_ISA");
}

}  // namespace
}  // namespace gantry
