"""Runs one prompt through llama.cpp (llama-cpp-python) and prints rows as bench_generate does."""

import ctypes
import time

# What Python's binding needs, not llama.cpp, is loaded before the clock starts.
import diskcache  # noqa: F401
import jinja2  # noqa: F401
import numpy as np

import peer_program
from peer_program import ANSWER, ANSWER_PROMPT, DECODE, DOCUMENT, QUESTION

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

    def step(self, batch, rows):
        """Runs rows of (token, position, sequence, wants logits); returns the next tokens."""
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama_cpp.llama_decode(self.llm.ctx, batch) != 0:
            raise RuntimeError("llama_decode failed")
        chosen = []
        for i, row in enumerate(rows):
            if row[3]:
                logits = llama_cpp.llama_get_logits_ith(self.llm.ctx, i)
                chosen.append(int(np.ctypeslib.as_array(
                    ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)),
                    shape=(self.llm.n_vocab(),)).argmax()))
        return chosen

    def answers(self, count):
        """Parallel sequences that share the document's cells."""
        memory = llama_cpp.llama_get_memory(self.llm.ctx)
        llama_cpp.llama_memory_seq_rm(memory, 0, DOCUMENT, -1)
        self.cached = DOCUMENT
        for sequence in range(1, count + 1):
            llama_cpp.llama_memory_seq_cp(memory, 0, sequence, 0, DOCUMENT)
        batch = llama_cpp.llama_batch_init(SLICE, 0, 1)
        start = time.perf_counter()
        rows = [(sequence if i == 0 else self.ids[100 + i], DOCUMENT + i, sequence,
                 i == QUESTION - 1)
                for sequence in range(1, count + 1) for i in range(QUESTION)]
        for step in range(ANSWER):
            tokens = self.step(batch, rows)
            rows = [(token, DOCUMENT + QUESTION + step, sequence + 1, True)
                    for sequence, token in enumerate(tokens)]
        seconds = time.perf_counter() - start
        llama_cpp.llama_batch_free(batch)
        for sequence in range(1, count + 1):
            llama_cpp.llama_memory_seq_rm(memory, sequence, -1, -1)
        return seconds


if __name__ == "__main__":
    peer_program.run(Runner, START, ["--flash_attention"])
