"""Runs one prompt through llama.cpp (llama-cpp-python) and prints rows as bench_generate does."""

import ctypes
import time

import llama_cpp
import numpy as np

import peer_program

SLICE, DECODE, QUESTION, WINDOW = 512, 64, 64, 8192


def best(values, smaller=False):
    return min(values) if smaller else max(values)


class Runner:
    def __init__(self, args):
        start = time.perf_counter()
        self.llm = llama_cpp.Llama(
            args.model, n_ctx=WINDOW, n_threads=args.threads, n_threads_batch=args.threads,
            n_batch=SLICE, n_ubatch=SLICE, flash_attn=args.flash_attention, verbose=False)
        self.load_seconds = time.perf_counter() - start
        self.ids = [int(word) for word in open(args.ids).read().split()]
        self.runs = args.runs

    def next_token(self):
        logits = llama_cpp.llama_get_logits_ith(self.llm.ctx, -1)
        size = self.llm.n_vocab()
        return int(np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)),
                                         shape=(size,)).argmax())

    def read(self, tokens, position):
        self.llm.n_tokens = position
        self.llm.eval(tokens)
        return self.next_token()

    def timed(self, work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def decode(self, depth):
        token = self.ids[0]
        for i in range(DECODE):
            token = self.read([token], depth + i)

    def rows(self):
        rows = []
        for label, length in (("512", 512), ("2k", 2048), ("8k", 8000)):
            value = best([length / self.timed(lambda: self.read(self.ids[:length], 0))
                          for _ in range(self.runs)])
            rows.append(("prefill_" + label, value))
        for label, depth in (("0", 1), ("2k", 2048), ("8k", 8000)):
            self.read(self.ids[:depth], 0)
            value = best([DECODE / self.timed(lambda: self.decode(depth))
                          for _ in range(self.runs)])
            rows.append(("decode_" + label, value))
        question = self.ids[100:100 + QUESTION]
        rows.append(("ttft_cached_8k", best(
            [self.timed(lambda: self.read(question, 8000)) for _ in range(self.runs)], True)))
        rows.append(("load", self.load_seconds))
        return rows

    def memory(self):
        self.read(self.ids[:8000], 0)
        return peer_program.peak_memory()


if __name__ == "__main__":
    peer_program.run(Runner, ["--flash_attention"])
