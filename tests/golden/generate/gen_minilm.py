#!/usr/bin/env python3
"""Sentence embeddings of all-MiniLM-L6-v2 (a BERT encoder with trained weights): token ids, and the mean of the
last states over all tokens, normalised, as sentence-transformers computes it.

    gen_minilm.py [--out=DIR] [--model=FOLDER]     (cmake/setup installs the folder)

Expected embeddings: Hugging Face transformers in float64.  max_error: largest difference of its fp32.
Top-k: the same model with its attention patched by topk_torch.  Trained weights have near ties at the edge of the
selection that rounding decides, and one key more or less moves the values but hardly the whole: only the cosine to
dense is kept, in float64.  max_error: its largest change, for each k, in fp32 and over ROUNDINGS changes of the word
table by a few units of fp32's rounding, since a single fp32 run decides each near tie in one way only.
"""
import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch

import topk_torch
from common import Family, f32, i32, max_abs, tolerance

SENTENCES = [
    "The relief valve failed at 03:14.",
    "At what time did the valve break?",
    "The keeper trims the lamp at dusk.",
    "At dusk the lamp is trimmed by its keeper.",
    "A clerk counts the brass bolts.",
    "Three boats left the harbour before dawn.",
    "What is the capital of France?",
    "Paris is the capital and largest city of France.",
    "naïve café Ünïcödé 中文 — 1821 & 1998, don't re-do it",
    "ok",
]
PASSAGES, WORDS, KS, ROUNDINGS = 7, 300, (8, 32, 128), 6


def passages(root):
    words = (root / "docs" / "sample" / "pumping_station.txt").read_text(encoding="utf-8").split()
    return [" ".join(words[i * WORDS:(i + 1) * WORDS]) for i in range(PASSAGES)]


def embed(model, ids):
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    mean = states.mean(0)
    return (mean / mean.norm()).numpy()


def topk_cosines(model, k, ids, exact):
    topk_torch.configure({"self": k})
    return [float(want @ embed(topk_torch.install(model), x)) for want, x in zip(exact, ids)]


def rounded_otherwise(model, seed):
    """Changes the word table by some units of fp32's rounding."""
    noise = torch.randn(model.embeddings.word_embeddings.weight.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    model.embeddings.word_embeddings.weight.data *= 1 + 4 * 2.0 ** -24 * noise
    return model


def main():
    here = Path(__file__).resolve().parent
    cache = Path(os.environ.get("LECTERN_DEPS_DIR", os.path.expanduser("~/.cache/lectern")))
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=str(here.parent))
    ap.add_argument("--model", default=str(cache / "models" / "all-MiniLM-L6-v2"))
    a = ap.parse_args()
    from tokenizers import Tokenizer
    from transformers import BertModel
    tok = Tokenizer.from_file(a.model + "/tokenizer.json")
    tok.no_truncation()
    tok.no_padding()
    texts = SENTENCES + passages(here.parents[2])
    ids = [tok.encode(t).ids for t in texts]
    assert max(map(len, ids)) <= 512
    load = lambda dtype: BertModel.from_pretrained(a.model, dtype=dtype, attn_implementation="eager").eval()
    double = load(torch.float64)
    exact = np.stack([embed(double, x) for x in ids])
    single = load(torch.float32)
    err = max_abs(exact, np.stack([embed(single, x) for x in ids]))
    cosines = {k: topk_cosines(double, k, ids, exact) for k in KS}
    others = [single] + [rounded_otherwise(load(torch.float64), seed) for seed in range(ROUNDINGS)]
    topk_err = {f"topk_cosines.{k}": max(max_abs(cosines[k], topk_cosines(m, k, ids, exact)) for m in others) for k in KS}
    fam = Family(a.out, "minilm")
    json.dump(texts, open(fam.dir / "texts.json", "w", encoding="utf-8"), ensure_ascii=True, indent=0)
    tensors = {"embeddings": f32(exact), "tokens": i32([len(x) for x in ids]), "ids": i32(np.concatenate(ids))}
    fam.add("embeddings", "embeddings.safetensors", dict(texts="texts.json", hidden=exact.shape[1], topk_cosines=cosines),
            {"embeddings": tolerance(err, 1e-6), "ids": "equal", **{name: tolerance(e, 1e-6) for name, e in topk_err.items()}},
            "ids of all texts, one behind the other, with [CLS] and [SEP]; embeddings; cosine of top-k attention's to dense by k",
            {"embeddings": err, **topk_err}, tensors)
    fam.close()
    print(err, topk_err, [len(x) for x in ids], {k: (min(v), float(np.mean(v))) for k, v in cosines.items()})


if __name__ == "__main__":
    main()
