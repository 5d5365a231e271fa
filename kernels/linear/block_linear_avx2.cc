#include <immintrin.h>

#include "kernels/linear/block_linear_isa.h"
#include "kernels/linear/block_quantize_row.h"
#include "kernels/linear/unrolled.h"

#define LECTERN_INLINE __attribute__((always_inline))

namespace lectern::kernels {
namespace {

constexpr int kLanes = 8;        // channels of one vector
constexpr int kTileVectors = 2;  // of one tile of several rows
constexpr int kTileChannels = kTileVectors * kLanes;
constexpr int kGroups = kBlockInputs / 4;  // of four inputs, in a block

template <int kBits>
constexpr int kPartGroups = kGroups / BlockScales(kBits);

inline LECTERN_INLINE __m256i Broadcast4(const int8_t* x) {
  int32_t bytes;
  __builtin_memcpy(&bytes, x, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}

inline LECTERN_INLINE __m256i Load(const uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

inline LECTERN_INLINE __m256 LoadHalves(const uint8_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

inline LECTERN_INLINE __m256i AddPairs(__m256i pairs) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// Adds the products of four inputs, a channel in each 32 bits, to sums of 16 bits (4-bit codes: all
// products of a block fit into them, 8 x 2 x 15 x 127 < 2^15) or of 32 (8-bit codes).
template <int kBits>
inline LECTERN_INLINE void AddFour(__m256i& sum, __m256i w, __m256i x) {
  if constexpr (kBits == 4) {
    // With the intrinsic, GCC 12 makes a tree of the sums of a block and keeps its leaves in
    // memory.
    asm("vpaddw %1, %0, %0" : "+x"(sum) : "x"(_mm256_maddubs_epi16(w, x)));
  } else {
    // |w| times x signed by w: a pair of products stays within 2 x 128 x 127 < 2^15.
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    sum = _mm256_add_epi32(sum, AddPairs(pairs));
  }
}

// Codes whose products are added for eight inputs at once.
template <int kBits>
constexpr bool kByEight = kBits == 5 || kBits == 6;

// Adds the products of eight inputs, to sums as above.
template <int kBits>
inline LECTERN_INLINE void AddEight(__m256i& sum, __m256i w0, __m256i x0, __m256i w1, __m256i x1) {
  if constexpr (kByEight<kBits>) {  // they fit into 16 bits: 2 x 2 x 63 x 127 < 2^15
    const __m256i pairs =
        _mm256_add_epi16(_mm256_maddubs_epi16(w0, x0), _mm256_maddubs_epi16(w1, x1));
    sum = _mm256_add_epi32(sum, AddPairs(pairs));
  } else {
    AddFour<kBits>(sum, w0, x0);
    AddFour<kBits>(sum, w1, x1);
  }
}

// The upper bits of four inputs, above the places of the lower four bits. `words` are the vector of
// a block that holds them.
template <int kBits, int kGroup>
inline LECTERN_INLINE __m256i UpperBits(__m256i words) {
  constexpr int kUpper = kBits - 4;
  constexpr int kShift = 4 - kUpper * (kGroup % (8 / kUpper));
  const __m256i mask = _mm256_set1_epi8(((1 << kUpper) - 1) << 4);
  if constexpr (kShift > 0) words = _mm256_slli_epi32(words, kShift);
  if constexpr (kShift < 0) words = _mm256_srli_epi32(words, -kShift);
  return _mm256_and_si256(words, mask);
}

// Codes of 8 channels, those below 8 bits from 0 on, of the groups kGroup and kGroup + 1 of four
// inputs. `block` is the block from the first of the channels on.
template <int kBits, int kGroup>
inline LECTERN_INLINE void Unpack(const uint8_t* block, __m256i& first, __m256i& second) {
  if constexpr (kBits == 8) {
    first = Load(block + kGroup * kBlockGroupBytes);
    second = Load(block + (kGroup + 1) * kBlockGroupBytes);
  } else {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i both = Load(block + kGroup / 2 * kBlockGroupBytes);
    first = _mm256_and_si256(both, low);
    second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    if constexpr (kBits > 4) {
      const __m256i words =
          Load(block + kBlockNibbleBytes + kGroup / (8 / (kBits - 4)) * kBlockGroupBytes);
      first = _mm256_or_si256(first, UpperBits<kBits, kGroup>(words));
      second = _mm256_or_si256(second, UpperBits<kBits, kGroup + 1>(words));
    }
  }
}

// Asks for what Unpack of kVectors vectors reads from `block` on.
template <int kBits, int kGroup, int kVectors>
inline LECTERN_INLINE void Prefetch(const uint8_t* block) {
  constexpr int kWordGroups = kBits == 5 ? 8 : 4;
  for (int v = 0; v < kVectors; v += 2) {
    const auto line = [&](int offset) LECTERN_INLINE {
      _mm_prefetch(reinterpret_cast<const char*>(block + offset + v * 32), _MM_HINT_T0);
    };
    if (kBits == 8) {
      line(kGroup * kBlockGroupBytes);
      line((kGroup + 1) * kBlockGroupBytes);
      continue;
    }
    line(kGroup / 2 * kBlockGroupBytes);
    if (kBits > 4 && kGroup % kWordGroups == 0) {
      line(kBlockNibbleBytes + kGroup / kWordGroups * kBlockGroupBytes);
    }
  }
}

// Bytes of 8 channels as floats.
template <bool kSigned>
inline LECTERN_INLINE __m256 LoadBytes(const uint8_t* at) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
  return _mm256_cvtepi32_ps(kSigned ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}

// Scales of a part of a block of 8 channels, and the minima.
struct Scales {
  __m256 scale;
  __m256 minimum;
};

// Those of part `part`. `block` and `super`, the halves of two levels, are from the first of the
// channels on.
template <BlockForm kForm>
inline LECTERN_INLINE Scales LoadScales(const uint8_t* block, const uint8_t* super, int channel,
                                        int part) {
  constexpr int kBytes = kForm.two_levels ? 1 : 2;
  const uint8_t* scales = block + BlockCodeBytes(kForm.bits) + channel * kBytes;
  const uint8_t* scale = scales + part * kBlockChannels * kBytes;
  const uint8_t* minimum = scales + kBlockChannels * kBytes;
  Scales w{_mm256_setzero_ps(), _mm256_setzero_ps()};
  if constexpr (kForm.two_levels) {
    const uint8_t* halves = super + channel * 2;
    w.scale = _mm256_mul_ps(LoadHalves(halves), LoadBytes<kForm.bits == 6>(scale));
    if constexpr (kForm.has_minimum()) {
      const __m256 x =
          _mm256_mul_ps(LoadHalves(halves + kBlockChannels * 2), LoadBytes<false>(minimum));
      w.minimum = _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
    }
  } else {
    w.scale = LoadHalves(scale);
    if constexpr (kForm.has_minimum()) w.minimum = LoadHalves(minimum);
  }
  return w;
}

// Finishes the integer sums of a part of a block and adds it to the total, always in this order of
// operations. `at` is row * blocks + block.
template <int kBits>
inline LECTERN_INLINE __m256 AddPart(__m256 total, __m256i sum, const Scales& w, const BlockRows& x,
                                     int64_t at, int part) {
  if constexpr (kBits == 4) sum = AddPairs(sum);
  if constexpr (kBits == 6)
    sum = _mm256_add_epi32(sum, _mm256_set1_epi32(x.minus_32[2 * at + part]));
  const __m256 scale = _mm256_mul_ps(w.scale, _mm256_set1_ps(x.scale[at]));
  total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, total);
  if constexpr (BlockForm{kBits}.has_minimum()) {
    total = _mm256_fmadd_ps(w.minimum, _mm256_set1_ps(x.sum[at]), total);
  }
  return total;
}

// Writes channels [first, first + 8) after p.first of one row, as many of them as exist.
inline LECTERN_INLINE void Store(const BlockProduct& p, int64_t row, int first, __m256 value) {
  const int channels = p.channels - first;
  if (channels <= 0) return;
  float* y = p.y + row * p.y_stride + first;
  if (channels >= kLanes) {  // masked stores are slow on some CPUs
    _mm256_storeu_ps(y, p.accumulate ? _mm256_add_ps(_mm256_loadu_ps(y), value) : value);
    return;
  }
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(channels), lane);
  const __m256 old = p.accumulate ? _mm256_maskload_ps(y, mask) : _mm256_setzero_ps();
  _mm256_maskstore_ps(y, mask, p.accumulate ? _mm256_add_ps(old, value) : value);
}

// Rows [row, row + kRows) times kVectors vectors of channels, `first` after p.first, whose codes
// are unpacked in registers. A single row reads the weights as a stream; several read 16 channels
// of each block, and ask for the same ones of the next group of channels.
template <BlockForm kForm, int kRows, int kVectors>
void DirectTile(const BlockProduct& p, int64_t row, int first) {
  constexpr int kBits = kForm.bits;
  constexpr int kParts = BlockScales(kBits);
  const int64_t ahead = kRows == 1 ? 4096 : GroupBytes(kForm, p.blocks);
  __m256 total[kRows][kVectors];
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kVectors>([&](auto v) LECTERN_INLINE { total[r][v] = _mm256_setzero_ps(); });
  });
  const int64_t width = p.blocks * kBlockInputs;
  const int8_t* x = p.x.codes + row * width;
  const int channel = p.first + first;
  const uint8_t* block = p.w;
  const uint8_t* super = block;
  for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kForm), x += kBlockInputs) {
    if (kForm.two_levels && b % kSuperBlocks == 0) {
      super = block;
      block += SuperBytes(kForm);
    }
    const int64_t at = row * p.blocks + b;
    const uint8_t* codes = block + channel * 4;
    Unrolled<kParts>([&](auto part) LECTERN_INLINE {
      __m256i sum[kRows][kVectors];
      Unrolled<kRows>([&](auto r) LECTERN_INLINE {
        Unrolled<kVectors>([&](auto v) LECTERN_INLINE { sum[r][v] = _mm256_setzero_si256(); });
      });
      Unrolled<kPartGroups<kBits> / 2>([&](auto pair) LECTERN_INLINE {
        constexpr int kGroup = part * kPartGroups<kBits> + 2 * pair;
        Prefetch<kBits, kGroup, kVectors>(codes + ahead);
        if constexpr (kRows == 1) {
          const __m256i x0 = Broadcast4(x + kGroup * 4), x1 = Broadcast4(x + kGroup * 4 + 4);
          Unrolled<kVectors>([&](auto v) LECTERN_INLINE {
            __m256i w0, w1;
            Unpack<kBits, kGroup>(codes + v * 32, w0, w1);
            AddEight<kBits>(sum[0][v], w0, x0, w1, x1);
          });
        } else {
          __m256i w0[kVectors], w1[kVectors];
          Unrolled<kVectors>(
              [&](auto v) LECTERN_INLINE { Unpack<kBits, kGroup>(codes + v * 32, w0[v], w1[v]); });
          Unrolled<kRows>([&](auto r) LECTERN_INLINE {
            const int8_t* eight = x + r * width + kGroup * 4;
            const __m256i x0 = Broadcast4(eight), x1 = Broadcast4(eight + 4);
            Unrolled<kVectors>(
                [&](auto v) LECTERN_INLINE { AddEight<kBits>(sum[r][v], w0[v], x0, w1[v], x1); });
          });
        }
      });
      Unrolled<kVectors>([&](auto v) LECTERN_INLINE {
        const Scales w = LoadScales<kForm>(block, super, channel + v * kLanes, part);
        Unrolled<kRows>([&](auto r) LECTERN_INLINE {
          total[r][v] = AddPart<kBits>(total[r][v], sum[r][v], w, p.x, at + r * p.blocks, part);
        });
      });
    });
  }
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kVectors>([&](auto v)
                           LECTERN_INLINE { Store(p, row + r, first + v * kLanes, total[r][v]); });
  });
}

// A few rows: reading the codes again for every four of them is cheaper than keeping them unpacked.
constexpr int64_t kDirectRows = 8;

template <BlockForm kForm>
void FewRows(const BlockProduct& p) {
  constexpr int64_t kTileRows = 4;
  constexpr void (*kTiles[])(const BlockProduct&, int64_t, int) = {
      DirectTile<kForm, 1, kTileVectors>, DirectTile<kForm, 2, kTileVectors>,
      DirectTile<kForm, 3, kTileVectors>, DirectTile<kForm, 4, kTileVectors>};
  const int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
  for (int first = 0; first < p.channels; first += kTileChannels) {
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
      kTiles[end - begin - 1](p, begin, first);
    }
  }
}

// A block of 16 channels, unpacked for tiles of many rows.
struct TileBlock {
  alignas(64) uint8_t codes[kGroups][kTileChannels * 4];
  float scales[2][kTileChannels];  // and minima, or scales of the second part
};

template <BlockForm kForm>
void UnpackBlock(const uint8_t* block, const uint8_t* super, int channel, TileBlock& out) {
  constexpr int kBits = kForm.bits;
  Unrolled<kGroups / 2>([&](auto pair) LECTERN_INLINE {
    Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
      __m256i first, second;
      Unpack<kBits, 2 * pair>(block + channel * 4 + v * 32, first, second);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out.codes[2 * pair] + v * 32), first);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out.codes[2 * pair + 1] + v * 32), second);
    });
  });
  Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
    const int at = channel + v * kLanes;
    const Scales w = LoadScales<kForm>(block, super, at, 0);
    _mm256_storeu_ps(out.scales[0] + v * kLanes, w.scale);
    if constexpr (BlockScales(kBits) == 2) {
      _mm256_storeu_ps(out.scales[1] + v * kLanes, LoadScales<kForm>(block, super, at, 1).scale);
    } else {
      _mm256_storeu_ps(out.scales[1] + v * kLanes, w.minimum);
    }
  });
}

// Rows [row, row + kRows) times 16 unpacked channels, `first` after p.first.
template <int kBits, int kRows>
void Tile(const BlockProduct& p, const TileBlock* tile, int64_t row, int first) {
  constexpr int kParts = BlockScales(kBits);
  __m256 total[kRows][kTileVectors];
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE { total[r][v] = _mm256_setzero_ps(); });
  });
  const int64_t width = p.blocks * kBlockInputs;
  const int8_t* x = p.x.codes + row * width;
  for (int64_t b = 0; b < p.blocks; ++b, ++tile, x += kBlockInputs) {
    const int64_t at = row * p.blocks + b;
    Unrolled<kParts>([&](auto part) LECTERN_INLINE {
      __m256i sum[kRows][kTileVectors];
      Unrolled<kRows>([&](auto r) LECTERN_INLINE {
        Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE { sum[r][v] = _mm256_setzero_si256(); });
      });
      constexpr int kStep = kByEight<kBits> ? 2 : 1;  // groups
      Unrolled<kPartGroups<kBits> / kStep>([&](auto i) LECTERN_INLINE {
        constexpr int kGroup = part * kPartGroups<kBits> + kStep * i;
        const uint8_t* codes = tile->codes[kGroup];
        if constexpr (kByEight<kBits>) {
          Unrolled<kRows>([&](auto r) LECTERN_INLINE {
            const int8_t* eight = x + r * width + kGroup * 4;
            const __m256i x0 = Broadcast4(eight), x1 = Broadcast4(eight + 4);
            Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
              AddEight<kBits>(sum[r][v], Load(codes + v * 32), x0,
                              Load(codes + sizeof(tile->codes[0]) + v * 32), x1);
            });
          });
        } else {
          const __m256i w0 = Load(codes), w1 = Load(codes + 32);
          Unrolled<kRows>([&](auto r) LECTERN_INLINE {
            const __m256i four = Broadcast4(x + r * width + kGroup * 4);
            AddFour<kBits>(sum[r][0], w0, four);
            AddFour<kBits>(sum[r][1], w1, four);
          });
        }
      });
      Unrolled<kTileVectors>([&](auto v) LECTERN_INLINE {
        Scales w{_mm256_loadu_ps(tile->scales[part] + v * kLanes), {}};
        if constexpr (BlockForm{kBits}.has_minimum()) {
          w.minimum = _mm256_loadu_ps(tile->scales[1] + v * kLanes);
        }
        Unrolled<kRows>([&](auto r) LECTERN_INLINE {
          total[r][v] = AddPart<kBits>(total[r][v], sum[r][v], w, p.x, at + r * p.blocks, part);
        });
      });
    });
  }
  Unrolled<kRows>([&](auto r) LECTERN_INLINE {
    Unrolled<kTileVectors>(
        [&](auto v) LECTERN_INLINE { Store(p, row + r, first + v * kLanes, total[r][v]); });
  });
}

// Scratch of the calling thread, which grows as needed.
TileBlock* TileScratch(int64_t blocks) {
  struct Memory {
    ~Memory() { _mm_free(data); }
    TileBlock* data = nullptr;
    int64_t size = 0;
  };
  static thread_local Memory memory;
  if (memory.size < blocks) {
    _mm_free(memory.data);
    memory.data = static_cast<TileBlock*>(_mm_malloc(blocks * sizeof(TileBlock), 64));
    memory.size = blocks;
  }
  return memory.data;
}

template <BlockForm kForm>
void ManyRows(const BlockProduct& p) {
  constexpr int kBits = kForm.bits;
  constexpr int64_t kTileRows = 6;  // 6 rows x 2 vectors = 12 sums of 16 registers
  constexpr void (*kTiles[])(const BlockProduct&, const TileBlock*, int64_t, int) = {
      Tile<kBits, 1>, Tile<kBits, 2>, Tile<kBits, 3>,
      Tile<kBits, 4>, Tile<kBits, 5>, Tile<kBits, 6>};
  TileBlock* tile = TileScratch(p.blocks);
  const int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
  for (int first = 0; first < p.channels; first += kTileChannels) {
    const uint8_t* block = p.w;
    const uint8_t* super = block;
    for (int64_t b = 0; b < p.blocks; ++b, block += BlockBytes(kForm)) {
      if (kForm.two_levels && b % kSuperBlocks == 0) {
        super = block;
        block += SuperBytes(kForm);
      }
      UnpackBlock<kForm>(block, super, p.first + first, tile[b]);
    }
    for (int64_t t = 0; t < tiles; ++t) {  // tiles of nearly equal height
      const int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
      kTiles[end - begin - 1](p, tile, begin, first);
    }
  }
}

template <BlockForm kForm>
void Multiply(const BlockProduct& p) {
  if (p.rows > kDirectRows) return ManyRows<kForm>(p);
  if (p.rows > 1) return FewRows<kForm>(p);
  if (p.channels > kBlockChannels / 2)
    return DirectTile<kForm, 1, kBlockChannels / kLanes>(p, 0, 0);
  DirectTile<kForm, 1, kBlockChannels / kLanes / 2>(p, 0, 0);
}

void MultiplyBlocks(const BlockProduct& p) {
  switch (p.form.bits) {
    case 4:
      return p.form.two_levels ? Multiply<BlockForm{4, true}>(p) : Multiply<BlockForm{4}>(p);
    case 5:
      return p.form.two_levels ? Multiply<BlockForm{5, true}>(p) : Multiply<BlockForm{5}>(p);
    case 6:
      return Multiply<BlockForm{6, true}>(p);
    default:
      return Multiply<BlockForm{8}>(p);
  }
}

}  // namespace

extern const BlockLinearOps kBlockLinearAvx2 = {QuantizeBlocks, MultiplyBlocks};

}  // namespace lectern::kernels
