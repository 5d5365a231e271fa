#!/usr/bin/env python3
"""Blocks of every tensor type that Lectern reads, with their values as the `gguf` package dequantises them.

    pip install gguf safetensors && python3 gen_dequantize.py --seed 1 --out DIR

Per case: `blocks` U8 [rows, bytes of a row] and `values` F32 [rows, cols]. Codes are random bytes; scales are
random finite fp16 numbers, among them zeros, subnormals and negative ones. The tolerance is zero: see
server/formats/dequantize.cc for why every value is rounded at most once.
"""
import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as QT, quants
from safetensors.numpy import save_file

# The positions of the fp16 numbers in a block.
HALVES = {QT.Q8_0: [0], QT.Q4_0: [0], QT.Q4_1: [0, 2], QT.Q5_0: [0], QT.Q5_1: [0, 2], QT.Q2_K: [80, 82],
          QT.Q3_K: [108], QT.Q4_K: [0, 2], QT.Q5_K: [0, 2], QT.Q6_K: [208], QT.IQ4_NL: [0], QT.IQ4_XS: [0],
          QT.MXFP4: []}


def finite_halves(rng, shape):
    bits = rng.integers(0, 1 << 16, shape, dtype=np.uint16)
    bits = np.where(bits & 0x7C00 == 0x7C00, bits & 0xBFFF, bits)              # no infinities, no NaN
    kind = rng.integers(0, 8, shape)
    bits = np.where(kind == 0, bits & 0x83FF, bits)                            # subnormal
    return np.where(kind == 1, bits & 0x8000, bits).astype("<u2")              # zero of either sign


def make(rng, kind, rows, cols):
    """-> (bytes [rows, row bytes], float32 [rows, cols])"""
    if kind == QT.F16:
        halves = finite_halves(rng, (rows, cols))
        return halves.view(np.uint8), halves.view("<f2").astype(np.float32)
    if kind in (QT.F32, QT.BF16):
        values = (rng.standard_normal((rows, cols)) * np.exp(rng.uniform(-60, 60, (rows, cols)))).astype("<f4")
        if kind == QT.F32:
            return values.view(np.uint8), values
        upper = (values.view("<u4") >> 16).astype("<u2")
        return upper.view(np.uint8), quants.dequantize(upper.view(np.uint8), kind)
    block_values, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows, cols // block_values, block_bytes), dtype=np.uint8)
    for at in HALVES[kind]:
        blocks[:, :, at:at + 2] = finite_halves(rng, blocks.shape[:2] + (1,)).view(np.uint8)
    if kind == QT.MXFP4:  # the exponent of the scale; the largest ones are beyond fp32
        blocks[:, :, 0] = rng.integers(0, 250, blocks.shape[:2], dtype=np.uint8)
    blocks = blocks.reshape(rows, -1)
    return blocks, quants.dequantize(blocks, kind).reshape(rows, cols)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--out", default=str(Path(__file__).resolve().parent.parent))
    ap.add_argument("--shapes", choices=("main", "alt"), default="main")
    a = ap.parse_args()
    out = Path(a.out) / "dequantize"
    out.mkdir(parents=True, exist_ok=True)
    rows, blocks_per_row = (5, 3) if a.shapes == "main" else (7, 2)
    cases = []
    for kind in (QT.F32, QT.F16, QT.BF16, *HALVES):
        seed = hashlib.sha256(repr((a.seed, kind.name)).encode()).digest()
        rng = np.random.default_rng(np.frombuffer(seed, dtype=np.uint32))
        cols = blocks_per_row * max(GGML_QUANT_SIZES[kind][0], 37 if GGML_QUANT_SIZES[kind][0] == 1 else 1)
        blocks, values = make(rng, kind, rows, cols)
        assert np.isfinite(values).all(), kind
        file = f"{kind.name}.safetensors"
        save_file({"blocks": np.ascontiguousarray(blocks), "values": np.ascontiguousarray(values, dtype=np.float32)},
                  str(out / file))
        cases.append(dict(name=kind.name, file=file, params=dict(type=kind.name, rows=rows, cols=cols),
                          tolerance=dict(values=dict(atol=0.0, rtol=0.0)), max_error={},
                          description=f"{kind.name}: random blocks as dequantised by the gguf package"))
    with open(out / "cases.json", "w", encoding="utf-8") as f:
        json.dump(cases, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
