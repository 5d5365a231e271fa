"""Runs one prompt through llama.cpp (llama-cpp-python) and prints rows as bench_generate does."""

import ctypes
import time

# The dependencies of Python's binding, not llama.cpp, are loaded before the clock starts.
import diskcache  # noqa: F401
import jinja2  # noqa: F401
import numpy as np

import peer_program
from peer_program import ANSWER, ANSWER_PROMPT, DECODE, DOCUMENT, QUESTION

START = time.perf_counter()
import llama_cpp  # noqa: E402

SLICE = 512


class Runner:
    def __init__(self, args, ids):
        self.llm = llama_cpp.Llama(
            args.model, n_ctx=args.context, n_threads=args.threads, n_threads_batch=args.threads,
            n_batch=SLICE, n_ubatch=SLICE, flash_attn=args.flash_attention, verbose=False)
        self.ids = ids
        self.cached = 0  # the number of first ids
        self.parallel = None  # a context of several sequences

    def read(self, tokens, position):
        """Reads tokens after the first `position` ids; returns (next token, seconds)."""
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

    def cache(self, depth):
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

    def parallel_context(self):
        """A context for sequences 1 to 8 next to sequence 0, the document, which it has read."""
        parameters = self.llm.context_params
        parameters.n_seq_max, parameters.kv_unified = 9, True
        context = llama_cpp.llama_init_from_model(self.llm.model, parameters)
        self.batch = llama_cpp.llama_batch_init(SLICE, 0, 1)
        for start in range(0, DOCUMENT, SLICE):
            part = self.ids[start:min(start + SLICE, DOCUMENT)]
            self.step(context, [(token, start + i, 0, i + 1 == len(part))
                                for i, token in enumerate(part)])
        return context

    def step(self, context, rows):
        """Runs rows of (token, position, sequence, wants logits); returns the next tokens."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama_cpp.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [int(np.ctypeslib.as_array(
            ctypes.cast(llama_cpp.llama_get_logits_ith(context, i), ctypes.POINTER(ctypes.c_float)),
            shape=(self.llm.n_vocab(),)).argmax()) for i, row in enumerate(rows) if row[3]]

    def answers(self, count):
        """Parallel sequences that share the document's cells."""
        self.parallel = self.parallel or self.parallel_context()
        memory = llama_cpp.llama_get_memory(self.parallel)
        for sequence in range(1, count + 1):
            llama_cpp.llama_memory_seq_cp(memory, 0, sequence, 0, DOCUMENT)
        start = time.perf_counter()
        rows = [(sequence if i == 0 else self.ids[100 + i], DOCUMENT + i, sequence,
                 i == QUESTION - 1)
                for sequence in range(1, count + 1) for i in range(QUESTION)]
        for step in range(ANSWER):
            tokens = self.step(self.parallel, rows)
            rows = [(token, DOCUMENT + QUESTION + step, sequence + 1, True)
                    for sequence, token in enumerate(tokens)]
        seconds = time.perf_counter() - start
        for sequence in range(1, count + 1):
            llama_cpp.llama_memory_seq_rm(memory, sequence, -1, -1)
        return seconds


if __name__ == "__main__":
    peer_program.run(Runner, START, ["--flash_attention"])
