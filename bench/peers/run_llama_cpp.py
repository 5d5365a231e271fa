"""Runs one prompt through llama.cpp (llama-cpp-python) and prints rows as bench_generate does."""

import ctypes
import time

# What Python's binding needs, not llama.cpp, is loaded before the clock starts.
import diskcache  # noqa: F401
import jinja2  # noqa: F401
import numpy as np

import peer_program
from peer_program import ANSWER_PROMPT, DECODE, QUESTION

START = time.perf_counter()
import llama_cpp  # noqa: E402

SLICE, WINDOW = 512, 8192


class Runner:
    def __init__(self, args, ids):
        self.llm = llama_cpp.Llama(
            args.model, n_ctx=WINDOW, n_threads=args.threads, n_threads_batch=args.threads,
            n_batch=SLICE, n_ubatch=SLICE, flash_attn=args.flash_attention, verbose=False)
        self.ids = ids
        self.cached = 0  # so many of the first ids

    def read(self, tokens, position):
        """Reads tokens behind the first `position` ids; returns (next token, seconds)."""
        start = time.perf_counter()
        self.llm.n_tokens = position  # eval() drops what the cache holds from here on
        self.llm.eval(tokens)
        logits = llama_cpp.llama_get_logits_ith(self.llm.ctx, -1)
        token = int(np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)),
                                          shape=(self.llm.n_vocab(),)).argmax())
        self.cached = min(self.cached, position)
        return token, time.perf_counter() - start

    def first_answer(self):
        self.read(self.ids[:ANSWER_PROMPT], 0)

    def prefill(self, length):
        seconds = self.read(self.ids[:length], 0)[1]
        self.cached = length
        return seconds

    def behind(self, depth):
        if self.cached < depth:
            self.prefill(depth)

    def decode(self, depth):
        start = time.perf_counter()
        token = self.ids[0]
        for i in range(DECODE):
            token = self.read([token], depth + i)[0]
        return (time.perf_counter() - start) / DECODE

    def question(self, depth):
        return self.read(self.ids[100:100 + QUESTION], depth)[1]


if __name__ == "__main__":
    peer_program.run(Runner, START, ["--flash_attention"])
