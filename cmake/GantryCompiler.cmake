# Flags, sanitizers, and the development helpers (ccache, mold) where they are present.

find_program(GANTRY_CCACHE ccache)
if(GANTRY_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${GANTRY_CCACHE})
endif()
find_program(GANTRY_MOLD mold)
if(GANTRY_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(gantry_options INTERFACE)
# -ffp-contract=off: a fused multiply-add exists only where a kernel asks for it, so that every compiler and
# instruction set agrees on the reference's bits.
target_compile_options(gantry_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror
                                                -ffp-contract=off)
# libstdc++ 12's own stable_sort calls a function that it marks deprecated, which clang reports at the call.
target_compile_options(gantry_options INTERFACE $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>)
target_include_directories(gantry_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
# The same flags in both, so that ccache serves `make test` what `make run` compiled; `make dist` strips.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")

if(GANTRY_SANITIZE)
  # Two thirds of -O2's time to compile under address and undefined, three quarters under thread.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")
  add_compile_options(-fsanitize=${GANTRY_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${GANTRY_SANITIZE})
  if(GANTRY_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

if(GANTRY_FUZZ)
  # Coverage feedback for every module; only the targets of tests/fuzz link the driver.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
