#include "server/model/layers/linear_loader.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "kernels/linear/block_linear.h"
#include "kernels/linear/int8_linear.h"
#include "kernels/rows/hadamard.h"
#include "kernels/runtime/thread_team.h"
#include "server/formats/file_error.h"
#include "server/model/kernel_status.h"

namespace lectern {
namespace {

using Numerics = ModelLoadOptions::Numerics;

// Channels that are packed in one piece: a multiple of 64, as the packers ask.
constexpr int64_t kPieceChannels = 512;
constexpr size_t kCacheLine = 64;

// Runs the tasks, each once, on a team of threads, and returns the first failure; after one no
// further task is begun.
absl::Status RunTasks(int threads, int64_t count,
                      const std::function<absl::Status(int64_t)>& task) {
  std::atomic<bool> failed = false;
  Mutex mutex;
  absl::Status result;
  const auto run = [&](kernels::ItemRange range, int /*thread*/) {
    for (int64_t i = range.begin; i < range.end && !failed; ++i) {
      absl::Status status;
      try {
        status = task(i);
      } catch (const std::bad_alloc&) {
        status = absl::ResourceExhaustedError("out of memory");
      }
      if (status.ok()) continue;
      failed = true;
      const MutexLock lock(&mutex);
      result.Update(status);
    }
  };
  kernels::ForItems(threads, {.count = count, .most = 1}, run);
  return result;
}

int64_t HadamardBlock(int64_t width) {
  return std::min(PowerOfTwoFactor(width), kMaxHadamardBlock);
}

// Mixes each row of w [rows, cols] within blocks.
absl::Status RotateColumns(float* w, int64_t rows, int64_t cols, int64_t block) {
  if (block <= 1) return absl::OkStatus();
  return FromKernel(kernels::BlockHadamard(w, rows, cols, cols, block, kernels::ExecutionContext{}),
                    "hadamard");
}

// Mixes the rows of w [rows, cols] within blocks of `block` rows.
absl::Status RotateRows(float* w, int64_t rows, int64_t cols, int64_t block) {
  if (block <= 1) return absl::OkStatus();
  AlignedBuffer<float> transposed(block * cols);
  float* const columns = transposed.data();
  for (float* in = w; in < w + rows * cols; in += block * cols) {
    for (int64_t r = 0; r < block; ++r) {
      for (int64_t c = 0; c < cols; ++c) columns[c * block + r] = in[r * cols + c];
    }
    LECTERN_RETURN_IF_ERROR(RotateColumns(columns, cols, block, block));
    for (int64_t r = 0; r < block; ++r) {
      for (int64_t c = 0; c < cols; ++c) in[r * cols + c] = columns[c * block + r];
    }
  }
  return absl::OkStatus();
}

// Calls visit(rows, begin, end) for channels [begin, end) of each stacked tensor that the range
// [first, last) of the whole stack holds, in order.
template <typename Visit>
absl::Status ForStack(const LinearTensors& tensors, int64_t first, int64_t last,
                      const Visit& visit) {
  int64_t stacked = 0;
  for (const LinearRows& rows : tensors.rows) {
    const int64_t count = rows.weight->rows();
    const int64_t begin = std::clamp<int64_t>(first - stacked, 0, count);
    const int64_t end = std::clamp<int64_t>(last - stacked, 0, count);
    if (begin < end) LECTERN_RETURN_IF_ERROR(visit(rows, begin, end));
    stacked += count;
  }
  return absl::OkStatus();
}

// The matrices of a stack in the forms of their types; neighbours of the same form are one.
std::vector<kernels::BlockMatrix> BlockStack(const LinearTensors& tensors) {
  std::vector<kernels::BlockMatrix> stack;
  for (const LinearRows& rows : tensors.rows) {
    const kernels::BlockForm form = KernelForm(rows.weight->type);
    if (stack.empty() || !(stack.back().form == form)) {
      stack.push_back({.n = 0, .k = rows.weight->cols(), .form = form});
    }
    stack.back().n += rows.weight->rows();
  }
  return stack;
}

template <typename T>
const T* DataOrNull(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

size_t PackedBytes(const kernels::BlockMatrix& matrix) {
  return kernels::PackedBlockBytes(matrix.n, matrix.k, matrix.form);
}

bool HasBias(const LinearTensors& tensors) {
  return std::any_of(tensors.rows.begin(), tensors.rows.end(),
                     [](const LinearRows& rows) { return rows.bias != nullptr; });
}

int64_t SourceRow(const LinearRows& rows, int64_t channel) {
  return rows.order.empty() ? channel : rows.order[channel];
}

void DontNeedRows(const TensorSource& source, const TensorView& tensor, int64_t begin,
                  int64_t end) {
  TensorView part = tensor;
  const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(tensor.rows());
  part.bytes = tensor.bytes.substr(begin * row_bytes, (end - begin) * row_bytes);
  source.DontNeed(part);
}

}  // namespace

// Hands out parts of one piece of memory, each aligned to cache lines; with a null base it only
// adds up what is needed.
class LinearLoader::Arena {
 public:
  explicit Arena(std::byte* base) : base_(base) {}

  template <typename T>
  T* Take(size_t count) {
    T* at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (count * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
    return at;
  }
  size_t used() const { return used_; }

 private:
  std::byte* const base_;
  size_t used_ = 0;
};

// Lets pieces have their fp32 values in memory, as many at once as `limit` bytes hold; one may
// always.
class LinearLoader::ScratchLimit {
 public:
  explicit ScratchLimit(size_t limit) : limit_(limit) {}

  // Waits until there is room for a piece's bytes. A thread that has room takes no more.
  void Take(size_t bytes) {
    const MutexLock lock(&mutex_);
    mutex_.Await([&] { return taken_ == 0 || taken_ + bytes <= limit_; });
    taken_ += bytes;
  }
  void GiveBack(size_t bytes) {
    const MutexLock lock(&mutex_);
    taken_ -= bytes;
  }

 private:
  const size_t limit_;
  Mutex mutex_;
  size_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
};

kernels::BlockForm KernelForm(TensorType type) {
  const BlockForm form = BlockFormOf(type);
  return {.bits = form.bits, .two_levels = form.two_levels};
}

absl::Status CheckBlockTensors(std::span<const TensorView* const> stack) {
  for (const TensorView* tensor : stack) {
    if (tensor->cols() % 32 == 0) continue;
    return absl::UnimplementedError(
        absl::StrCat("numerics blocks: tensor '", Printable(tensor->name), "' has rows of ",
                     tensor->cols(), " values; a multiple of 32 can be in blocks"));
  }
  return absl::OkStatus();
}

void LinearLoader::Add(Linear* layer, LinearTensors tensors) {
  layer->form_ = form_;
  layer->in_ = tensors.rows[0].weight->cols();
  layer->out_ = 0;
  for (const LinearRows& rows : tensors.rows) layer->out_ += rows.weight->rows();
  layer->has_norm_ = tensors.norm != nullptr;
  layer->norm_epsilon_ = static_cast<float>(tensors.norm_epsilon);
  const bool mixes =
      form_.rotated && tensors.input_rotation == nullptr && tensors.input_hadamard == 0;
  layer->hadamard_ = mixes ? HadamardBlock(layer->in_) : 1;
  if (form_.numerics == Numerics::kBlocks) layer->blocks_ = BlockStack(tensors);
  pending_.push_back({layer, std::move(tensors)});
  Arena sizes(nullptr);
  PlaceLayer(pending_.back(), sizes);
  layer->bytes_ = sizes.used();
}

absl::Status LinearLoader::Check() const {
  if (form_.numerics != Numerics::kBlocks) return absl::OkStatus();
  for (const Pending& pending : pending_) {
    std::vector<const TensorView*> stack;
    for (const LinearRows& rows : pending.tensors.rows) stack.push_back(rows.weight);
    LECTERN_RETURN_IF_ERROR(CheckBlockTensors(stack));
  }
  return absl::OkStatus();
}

absl::Status LinearLoader::Run(std::span<const Task> others) {
  LECTERN_RETURN_IF_ERROR(Check());
  ScratchLimit scratch(Place() / 32);
  const std::vector<Piece> pieces = CutIntoPieces();
  const auto first_piece = static_cast<int64_t>(others.size());
  const int64_t tasks = first_piece + static_cast<int64_t>(pieces.size());
  LECTERN_RETURN_IF_ERROR(RunTasks(form_.threads, tasks, [&](int64_t task) {
    return task < first_piece ? others[task]() : LoadPiece(pieces[task - first_piece], scratch);
  }));
  if (form_.device == nullptr) return absl::OkStatus();
  for (const Pending& pending : pending_) {
    LECTERN_ASSIGN_OR_RETURN(pending.layer->on_device_,
                             form_.device->Upload(pending.layer->Int8()));
  }
  return absl::OkStatus();
}

// Gives a layer its part of the arena.
void LinearLoader::PlaceLayer(const Pending& pending, Arena& arena) const {
  Linear& layer = *pending.layer;
  const int64_t n = layer.out_, k = layer.in_;
  if (form_.is_f32()) {
    layer.f32_ = arena.Take<float>(n * k);
  } else if (form_.numerics == Numerics::kBlocks) {
    size_t bytes = 0;
    for (const kernels::BlockMatrix& part : layer.blocks_) bytes += PackedBytes(part);
    layer.packed_ = arena.Take<uint8_t>(bytes);
  } else {
    layer.int8_ = arena.Take<int8_t>(kernels::PackedInt8Bytes(n, k));
    layer.scale_ = arena.Take<float>(kernels::PaddedChannels(n));
    layer.row_sum_ = arena.Take<int32_t>(kernels::PaddedChannels(n));
  }
  if (pending.tensors.norm != nullptr && !form_.rotated) {
    layer.norm_weight_ = arena.Take<float>(k);
  }
  if (HasBias(pending.tensors)) layer.bias_ = arena.Take<float>(n);
}

// Allocates the memory of all layers, gives each its part, and returns its size.
size_t LinearLoader::Place() {
  size_t bytes = 0;
  for (const Pending& pending : pending_) bytes += pending.layer->bytes_;
  const auto memory = std::make_shared<AlignedBuffer<std::byte>>(bytes);
  Arena arena(memory->data());
  for (const Pending& pending : pending_) {
    PlaceLayer(pending, arena);
    pending.layer->memory_ = memory;
    const uint8_t* packed = pending.layer->packed_;
    for (kernels::BlockMatrix& part : pending.layer->blocks_) {
      part.packed = packed;
      packed += PackedBytes(part);
    }
  }
  return bytes;
}

std::vector<LinearLoader::Piece> LinearLoader::CutIntoPieces() const {
  std::vector<Piece> pieces;
  for (const Pending& pending : pending_) {
    const LinearTensors& tensors = pending.tensors;
    // Folding may mix all channels with each other.
    const bool whole = tensors.output_rotation != nullptr ||
                       std::any_of(tensors.rows.begin(), tensors.rows.end(),
                                   [](const LinearRows& rows) { return rows.hadamard > 1; });
    const int64_t channels = pending.layer->out_;
    const int64_t step = whole && form_.rotated ? channels : kPieceChannels;
    const auto cut = [&](int64_t begin, int64_t end) {
      for (; begin < end; begin += step) {
        pieces.push_back({&pending, begin, std::min(begin + step, end)});
      }
    };
    if (form_.numerics != Numerics::kBlocks) {
      cut(0, channels);
      continue;
    }
    int64_t begin = 0;
    for (const kernels::BlockMatrix& part : pending.layer->blocks_) {
      cut(begin, begin + part.n);
      begin += part.n;
    }
  }
  return pieces;
}

absl::Status LinearLoader::LoadPiece(const Piece& piece, ScratchLimit& scratch) const {
  const Linear& layer = *piece.pending->layer;
  const int64_t rows = piece.end - piece.begin;
  if (piece.begin == 0) {
    const LinearTensors& tensors = piece.pending->tensors;
    if (layer.norm_weight_ != nullptr) {
      LECTERN_RETURN_IF_ERROR(ReadNorm(tensors, layer.norm_weight_));
    }
    if (layer.bias_ != nullptr) LECTERN_RETURN_IF_ERROR(ReadBias(tensors, layer.bias_));
  }
  if (form_.numerics == Numerics::kBlocks) return PackBlocks(piece);
  if (form_.is_f32()) {
    float* const w = layer.f32_ + piece.begin * layer.in_;
    LECTERN_RETURN_IF_ERROR(ReadRows(piece, w));
    return Fold(*piece.pending, rows, w);
  }
  const size_t bytes = rows * layer.in_ * sizeof(float);
  scratch.Take(bytes);
  const absl::Cleanup give_back = [&] { scratch.GiveBack(bytes); };
  AlignedBuffer<float> values(rows * layer.in_);  // freed before the scratch is given back
  float* const w = values.data();
  LECTERN_RETURN_IF_ERROR(ReadRows(piece, w));
  LECTERN_RETURN_IF_ERROR(Fold(*piece.pending, rows, w));
  return FromKernel(kernels::PackInt8Rows(w, piece.begin, rows, layer.out_, layer.in_, layer.int8_,
                                          layer.scale_, layer.row_sum_),
                    "pack_int8");
}

// weight [in] of the norm before the layer.
absl::Status LinearLoader::ReadNorm(const LinearTensors& tensors, float* weight) const {
  LECTERN_RETURN_IF_ERROR(Dequantize(*tensors.norm, 0, 1, weight));
  source_.DontNeed(*tensors.norm);
  for (int64_t i = 0; i < tensors.norm->cols(); ++i) weight[i] += tensors.norm_offset;
  return absl::OkStatus();
}

// bias [out], with what is folded into the output channels.
absl::Status LinearLoader::ReadBias(const LinearTensors& tensors, float* bias) const {
  float* channels = bias;
  for (const LinearRows& rows : tensors.rows) {
    const int64_t count = rows.weight->rows();
    if (rows.bias == nullptr) {
      std::fill_n(channels, count, 0.0f);
    } else {
      std::vector<float> stored(count);
      LECTERN_RETURN_IF_ERROR(Dequantize(*rows.bias, 0, 1, stored.data()));
      source_.DontNeed(*rows.bias);
      for (int64_t i = 0; i < count; ++i) channels[i] = stored[SourceRow(rows, i)];
      if (form_.rotated) LECTERN_RETURN_IF_ERROR(RotateRows(channels, count, 1, rows.hadamard));
    }
    channels += count;
  }
  if (form_.rotated && tensors.output_rotation != nullptr) {
    std::vector<float> scratch(tensors.output_rotation->odd());
    tensors.output_rotation->ApplyToColumns(bias, 1, scratch.data());
  }
  return absl::OkStatus();
}

// Writes the piece's rows as the file has them, and lets the file's pages go.
absl::Status LinearLoader::ReadRows(const Piece& piece, float* w) const {
  const auto read = [&](const LinearRows& rows, int64_t begin, int64_t end) {
    const int64_t cols = rows.weight->cols();
    if (rows.order.empty()) {
      LECTERN_RETURN_IF_ERROR(Dequantize(*rows.weight, begin, end - begin, w));
      w += (end - begin) * cols;
    } else {
      for (int64_t channel = begin; channel < end; ++channel, w += cols) {
        LECTERN_RETURN_IF_ERROR(Dequantize(*rows.weight, SourceRow(rows, channel), 1, w));
      }
    }
    DontNeedRows(source_, *rows.weight, begin, end);
    return absl::OkStatus();
  };
  return ForStack(piece.pending->tensors, piece.begin, piece.end, read);
}

// Folds norm, factor, rotations and Hadamard blocks into w [rows, in], a piece of the layer.
absl::Status LinearLoader::Fold(const Pending& pending, int64_t rows, float* w) const {
  const LinearTensors& tensors = pending.tensors;
  const int64_t in = pending.layer->in_;
  const bool folds_norm = tensors.norm != nullptr && form_.rotated;
  AlignedBuffer<float> scratch(in);
  if (folds_norm || tensors.factor != 1) {
    float* const scale = scratch.data();
    std::fill_n(scale, in, 1.0f);
    if (folds_norm) LECTERN_RETURN_IF_ERROR(ReadNorm(tensors, scale));
    for (int64_t i = 0; i < in; ++i) scale[i] *= tensors.factor;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < in; ++i) w[row * in + i] *= scale[i];
    }
  }
  if (!form_.rotated) return absl::OkStatus();
  if (tensors.input_rotation != nullptr) {
    tensors.input_rotation->ApplyToRows(w, rows, scratch.data());
  } else {
    const int64_t block = std::max(pending.layer->hadamard_, tensors.input_hadamard);
    LECTERN_RETURN_IF_ERROR(RotateColumns(w, rows, in, block));
  }
  float* channels = w;
  for (const LinearRows& stacked : tensors.rows) {
    if (stacked.hadamard > 1) {
      LECTERN_RETURN_IF_ERROR(RotateRows(channels, stacked.weight->rows(), in, stacked.hadamard));
    }
    channels += stacked.weight->rows() * in;
  }
  if (tensors.output_rotation != nullptr) {
    const int64_t odd = tensors.output_rotation->odd();
    tensors.output_rotation->ApplyToColumns(w, in, scratch.Reserve(odd * in));
  }
  return absl::OkStatus();
}

absl::Status LinearLoader::PackBlocks(const Piece& piece) const {
  const Linear& layer = *piece.pending->layer;
  int64_t at = piece.begin;  // counted in the matrix of the stack that holds the piece
  auto matrix = layer.blocks_.begin();
  for (; at >= matrix->n; ++matrix) at -= matrix->n;
  const int64_t n = matrix->n, k = matrix->k;
  const kernels::BlockForm form = matrix->form;
  uint8_t* const packed = layer.packed_ + (matrix->packed - layer.packed_);
  const size_t begin = kernels::PackedBlockBytes(at, k, form);
  const size_t end = kernels::PackedBlockBytes(at + piece.end - piece.begin, k, form);
  std::memset(packed + begin, 0, end - begin);
  BlockCodes codes;
  const auto pack = [&](const LinearRows& rows, int64_t first, int64_t last) {
    for (int64_t channel = first; channel < last; ++channel, ++at) {
      LECTERN_RETURN_IF_ERROR(ReadBlockCodes(*rows.weight, SourceRow(rows, channel), codes));
      const kernels::BlockChannel source{.codes = codes.codes.data(),
                                         .scale = DataOrNull(codes.scale),
                                         .minimum = DataOrNull(codes.minimum),
                                         .sub_scale = DataOrNull(codes.sub_scale),
                                         .sub_minimum = DataOrNull(codes.sub_minimum)};
      LECTERN_RETURN_IF_ERROR(FromKernel(kernels::PackBlockChannel(source, at, n, k, form, packed),
                                         "pack_block_channel"));
    }
    DontNeedRows(source_, *rows.weight, first, last);
    return absl::OkStatus();
  };
  return ForStack(piece.pending->tensors, piece.begin, piece.end, pack);
}

}  // namespace lectern
