#include "model/sliced_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/ops/packed_weight.h"
#include "model/checkpoint_tensors.h"
#include "tensor/convert.h"

namespace gantry {
namespace {

constexpr std::string_view kScaleSuffix = "_scale_inv";
// Pieces of rows below this lie in pages of which most is wanted anyway: whole rows are read, several at a time.
constexpr int64_t kPieceBytesMin = 4096;
constexpr int64_t kBounceBytes = 1 << 20;

// Where a rank's own tensor lies in the file's, both as rows of bytes: a slice of dimension 0 is one row.
class Pieces {
 public:
  Pieces(const TensorView& whole, const TensorSlice& slice) {
    GANTRY_CHECK(slice.dim == 0 || whole.shape.rank() == 2);
    const DTypeInfo& info = dtype_info(whole.dtype);
    const bool last = slice.dim + 1 == whole.shape.rank();
    // A run's elements of the dimension come in units of so many bytes: rows, or blocks of a row.
    const int64_t unit = last ? info.block_elements : 1;
    const int64_t inner = last ? info.block_bytes : static_cast<int64_t>(whole.bytes()) / whole.shape[0];
    rows_ = slice.dim == 1 ? whole.shape[0] : 1;
    file_row_ = whole.shape[slice.dim] / unit * inner;
    own_row_ = slice.size / unit * inner;
    for (const TensorSlice::Run& run : slice.runs) {
      if (run.end > run.begin)
        runs_.push_back({run.begin / unit * inner, (run.end - run.begin) / unit * inner});
    }
  }

  // Bytes [offset, offset + out.size()) of the own tensor.
  Status read(const WeightSource& source, const WeightInfo& whole, uint64_t offset,
              std::span<std::byte> out) const {
    auto at = static_cast<int64_t>(offset);
    while (!out.empty()) {
      if (rows_ > 1 && own_row_ < kPieceBytesMin && at % own_row_ == 0) {
        GANTRY_ASSIGN_OR_RETURN(const int64_t taken, read_rows(source, whole, at / own_row_, out));
        if (taken > 0) {
          at += taken;
          out = out.subspan(static_cast<size_t>(taken));
          continue;
        }
      }
      int64_t in_row = at % own_row_;
      int64_t bytes = std::min(own_row_ - in_row, static_cast<int64_t>(out.size()));
      int64_t from = -1;
      for (const Run& run : runs_) {
        if (in_row < run.bytes) {
          from = at / own_row_ * file_row_ + run.begin + in_row;
          bytes = std::min(bytes, run.bytes - in_row);
          break;
        }
        in_row -= run.bytes;
      }
      const std::span<std::byte> piece = out.first(static_cast<size_t>(bytes));
      if (from >= 0) {
        GANTRY_RETURN_IF_ERROR(source.read_range(whole, static_cast<uint64_t>(from), piece));
      } else {
        std::fill(piece.begin(), piece.end(), std::byte{0});
      }
      at += bytes;
      out = out.subspan(static_cast<size_t>(bytes));
    }
    return {};
  }

 private:
  struct Run {
    int64_t begin;  // in the file's row
    int64_t bytes;
  };

  // As many whole rows of `out`, from `row` on, as a bounce buffer of the file's rows holds; their bytes.
  Result<int64_t> read_rows(const WeightSource& source, const WeightInfo& whole, int64_t row,
                            std::span<std::byte> out) const {
    const int64_t rows =
        std::min(static_cast<int64_t>(out.size()) / own_row_, std::max<int64_t>(1, kBounceBytes / file_row_));
    if (rows == 0) return 0;
    std::vector<std::byte> bounce(static_cast<size_t>(rows * file_row_));
    GANTRY_RETURN_IF_ERROR(source.read_range(whole, static_cast<uint64_t>(row * file_row_), bounce));
    std::byte* to = out.data();
    for (int64_t i = 0; i < rows; ++i) {
      for (const Run& run : runs_) {
        std::memcpy(to, bounce.data() + i * file_row_ + run.begin, static_cast<size_t>(run.bytes));
        to += run.bytes;
      }
    }
    return rows * own_row_;
  }

  int64_t rows_, file_row_, own_row_;
  std::vector<Run> runs_;
};

struct Part {
  const WeightInfo* whole;
  TensorSlice slice;
  const WeightInfo* scales = nullptr;  // to multiply in
};

// Whether a slice of FP8 has scales of its own: those of the blocks that it touches.
bool has_own_scales(const TensorView& values, const TensorSlice& slice) {
  if (slice.runs.size() == 1) {
    const TensorSlice::Run run = slice.runs[0];
    if (slice.size == values.shape[slice.dim]) return true;
    const int64_t in_block = run.begin % kScaleBlock;
    return run.end - run.begin == slice.size && (in_block == 0 || in_block + slice.size <= kScaleBlock);
  }
  return std::all_of(slice.runs.begin(), slice.runs.end(), [](const TensorSlice::Run& run) {
    return run.begin % kScaleBlock == 0 && run.end % kScaleBlock == 0;
  });
}

TensorSlice scales_of(TensorSlice slice) {
  slice.size = 0;
  for (TensorSlice::Run& run : slice.runs) {
    run = {run.begin / kScaleBlock, scale_blocks(run.end)};
    slice.size += run.end - run.begin;
  }
  return slice;
}

Status wrong_shape(const WeightInfo& info, const Shape& want) {
  return data_loss(fmt::format("{}: tensor {} is {}: want {}", info.file, info.name,
                               info.view.shape.to_string(), want.to_string()));
}

class SlicedSource final : public WeightSource {
 public:
  explicit SlicedSource(const WeightSource& source) : source_(source) {}

  Status build(const ModelConfig& config, const ParallelLayout& layout, const RankPlace& place) {
    std::unordered_map<std::string, Shape> published;
    for (CheckpointTensor& tensor : checkpoint_tensors(config, WeightFormat{.fp8_block = kScaleBlock})) {
      published.emplace(std::move(tensor.name), tensor.shape);
    }
    for (const CheckpointTensor& tensor : checkpoint_tensors(config, source_)) {
      const WeightInfo& whole = *source_.find(tensor.name);
      if (const auto it = published.find(tensor.name); it != published.end() && it->second != tensor.shape) {
        return wrong_shape(whole, it->second);
      }
      if (is_scales(whole)) continue;  // comes with its values
      if (tensor.split == TensorSplit::kRows && tensor.shape[0] % layout.sizes().tensor != 0) {
        return data_loss(fmt::format("{}: tensor {} is {}: has no {} equal parts", whole.file, whole.name,
                                     tensor.shape.to_string(), layout.sizes().tensor));
      }
      TensorSlice slice = layout.slice(tensor, place);
      if (slice.held) GANTRY_RETURN_IF_ERROR(add(whole, std::move(slice)));
    }
    std::vector<size_t> order(weights_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return weights_[a].name < weights_[b].name; });
    std::vector<WeightInfo> weights;
    std::vector<Part> parts;
    for (const size_t i : order) {
      weights.push_back(std::move(weights_[i]));
      parts.push_back(std::move(parts_[i]));
    }
    weights_ = std::move(weights);
    parts_ = std::move(parts);
    return {};
  }

  const nlohmann::json& config() const override { return source_.config(); }
  const nlohmann::json& generation_config() const override { return source_.generation_config(); }
  const VocabSpec* vocab() const override { return source_.vocab(); }
  const std::string& path() const override { return source_.path(); }
  const std::vector<WeightInfo>& weights() const override { return weights_; }
  const WeightInfo* find(std::string_view name) const override {
    const auto found =
        std::lower_bound(weights_.begin(), weights_.end(), name,
                         [](const WeightInfo& info, std::string_view n) { return info.name < n; });
    return found != weights_.end() && found->name == name ? &*found : nullptr;
  }
  Status check_unchanged() const override { return source_.check_unchanged(); }

  Status read_range(const WeightInfo& info, uint64_t offset, std::span<std::byte> out) const override {
    const WeightInfo* own = find(info.name);
    GANTRY_CHECK(own != nullptr && offset + out.size() <= own->view.bytes()) << info.name;
    const Part& part = parts_[static_cast<size_t>(own - weights_.data())];
    if (is_whole(part)) return source_.read_range(*part.whole, offset, out);
    const Pieces pieces(part.whole->view, part.slice);
    if (part.scales == nullptr) return pieces.read(source_, *part.whole, offset, out);
    return read_scaled(part, pieces, *own, offset / sizeof(float),
                       {reinterpret_cast<float*>(out.data()), out.size() / sizeof(float)});
  }

 private:
  static bool is_whole(const Part& part) {
    const std::vector<TensorSlice::Run>& runs = part.slice.runs;
    const Shape& shape = part.whole->view.shape;
    return shape.rank() == 0 || (runs.size() == 1 && runs[0].begin == 0 &&
                                 runs[0].end == shape[part.slice.dim] && part.slice.size == runs[0].end);
  }
  bool is_scales(const WeightInfo& info) const {
    if (!info.name.ends_with(kScaleSuffix)) return false;
    const WeightInfo* values =
        source_.find(std::string_view(info.name).substr(0, info.name.size() - kScaleSuffix.size()));
    return values != nullptr && values->view.dtype == DType::kF8E4M3;
  }

  void add_part(const WeightInfo& whole, DType dtype, Part part) {
    const Shape& shape = whole.view.shape;
    std::vector<uint64_t> dims;
    for (int i = 0; i < shape.rank(); ++i) {
      dims.push_back(static_cast<uint64_t>(i == part.slice.dim ? part.slice.size : shape[i]));
    }
    weights_.push_back({whole.name, {nullptr, dtype, Shape::checked(dims).value()}, whole.file});
    parts_.push_back(std::move(part));
  }

  Status add(const WeightInfo& whole, TensorSlice slice) {
    if (whole.view.dtype != DType::kF8E4M3) {
      add_part(whole, whole.view.dtype, {&whole, std::move(slice)});
      return {};
    }
    const WeightInfo* scales = source_.find(whole.name + std::string(kScaleSuffix));
    if (scales == nullptr || whole.view.shape.rank() != 2) {
      return data_loss(fmt::format("{}: tensor {} is {} F8_E4M3 without {}{}", whole.file, whole.name,
                                   whole.view.shape.to_string(), whole.name, kScaleSuffix));
    }
    const Shape want{scale_blocks(whole.view.shape[0]), scale_blocks(whole.view.shape[1])};
    if (scales->view.shape != want) return wrong_shape(*scales, want);
    if (scales->view.dtype != DType::kF32) {
      return unimplemented(fmt::format("{}: tensor {} is {}: want F32", scales->file, scales->name,
                                       to_string(scales->view.dtype)));
    }
    if (has_own_scales(whole.view, slice)) {
      add_part(*scales, DType::kF32, {scales, scales_of(slice)});
      add_part(whole, DType::kF8E4M3, {&whole, std::move(slice)});
    } else {
      add_part(whole, DType::kF32, {&whole, std::move(slice), scales});
    }
    return {};
  }

  // Elements [first, first + out.size()) of a tensor whose scales are multiplied in.
  Status read_scaled(const Part& part, const Pieces& pieces, const WeightInfo& own, uint64_t first,
                     std::span<float> out) const {
    std::vector<std::byte> values(out.size());
    std::vector<float> scales(static_cast<size_t>(part.scales->view.shape.elements()));
    GANTRY_RETURN_IF_ERROR(pieces.read(source_, *part.whole, first, values));
    GANTRY_RETURN_IF_ERROR(source_.read(*part.scales, std::as_writable_bytes(std::span(scales))));
    if (e4m3_has_nan({reinterpret_cast<const uint8_t*>(values.data()), values.size()})) {
      return invalid_argument(fmt::format("{}: tensor {} holds a NaN", own.file, own.name));
    }
    for (const float scale : scales) {
      if (std::isfinite(scale)) continue;
      return invalid_argument(fmt::format("{}: tensor {} holds {}", own.file, part.scales->name, scale));
    }
    // Blocks of the file's rows and columns, by the own tensor's.
    std::vector<int64_t> blocks;
    for (const TensorSlice::Run& run : part.slice.runs) {
      for (int64_t i = run.begin; i < run.end; ++i) blocks.push_back(i / kScaleBlock);
    }
    blocks.resize(static_cast<size_t>(part.slice.size));  // padding: zeros, whatever the scale
    const int64_t cols = own.view.shape[1], scale_cols = part.scales->view.shape[1];
    for (size_t i = 0; i < out.size(); ++i) {
      const int64_t at = static_cast<int64_t>(first + i);
      const int64_t row = at / cols, col = at % cols;
      const int64_t row_block = part.slice.dim == 0 ? blocks[static_cast<size_t>(row)] : row / kScaleBlock;
      const int64_t col_block = part.slice.dim == 1 ? blocks[static_cast<size_t>(col)] : col / kScaleBlock;
      out[i] = e4m3_to_f32(static_cast<uint8_t>(values[i])) *
               scales[static_cast<size_t>(row_block * scale_cols + col_block)];
    }
    return {};
  }

  const WeightSource& source_;
  std::vector<WeightInfo> weights_;  // sorted by name
  std::vector<Part> parts_;          // of each
};

}  // namespace

Result<std::unique_ptr<WeightSource>> slice_weights(const WeightSource& source, const ModelConfig& config,
                                                    const ParallelLayout& layout, const RankPlace& place) {
  auto sliced = std::make_unique<SlicedSource>(source);
  GANTRY_RETURN_IF_ERROR(sliced->build(config, layout, place));
  return std::unique_ptr<WeightSource>(std::move(sliced));
}

}  // namespace gantry
