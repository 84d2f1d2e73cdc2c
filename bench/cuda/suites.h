// One suite per kernel family: checks against kernels/reference, then timings at R1's shapes.
#pragma once

#include "bench/cuda/report.h"

namespace gantry::bench {

void check_decode_gemm(Report& report);
void time_decode_gemm(Report& report, bool sweep);  // sweep: every configuration, not the chosen one alone

void check_experts(Report& report);
void time_experts(Report& report);

void check_mla_decode(Report& report);
void time_mla_decode(Report& report, bool sweep);

void check_prefill_gemm(Report& report);
void time_prefill_gemm(Report& report, bool sweep);

void check_mla_prefill(Report& report);
void time_mla_prefill(Report& report);

void check_prefill_layer(Report& report);
void time_prefill_layer(Report& report);

void check_layer(Report& report);
void time_layer(Report& report);

void check_elementwise(Report& report);
void time_elementwise(Report& report);

}  // namespace gantry::bench
