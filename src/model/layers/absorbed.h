// W_UK and W_UV of latent attention, absorbed into queries and outputs (DeepSeek-V2, arXiv 2405.04434, section
// 2.1.2).
#pragma once

#include <string>

#include "model/layers/mla.h"
#include "model/loader.h"

namespace gantry {

// Sets layer.w_uk and w_uv from {base}kv_b_proj, or from the two parts that llama.cpp's files hold since 2025.
// layer.heads and dims are set.
Status load_absorbed(Loader& loader, const std::string& base, Mla& layer);

}  // namespace gantry
