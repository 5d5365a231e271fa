"""Runs one prompt through OpenVINO GenAI and prints rows as bench_generate does.

The pipeline reuses the prefix of earlier prompts by itself, so every prefill starts with another
token, and the cached-document row is what that reuse gives.

Settings: the defaults (u8 activations in groups of 32, bf16 where the CPU has it, slices of 256
tokens) but keys and values in f16, in a cache of fixed size, so that it need not grow while a prompt
is read. Measured on 2 cores of an AMD EPYC with AVX-512 VNNI and BF16, prefill 8k / decode after 8k /
first token after 8k / peak MiB:
    f16 keys and values, cache_size=1     615 / 50 / 0.21 s / 596
    f16 keys and values                   630 / 50 / 0.22 s / 749
    bf16 keys and values                  605 / 32 / 0.25 s / 722
    u8 keys and values (the default)      482 / 35 / 0.25 s / 687
    u8, cache_size=2                      596 / 35 / 0.20 s / 528
    u8, slices of 512                     519 / 31 / 0.25 s / 545
    u8, slices of 8192                    492 / 28 / 0.27 s / 659
    u8, DYNAMIC_QUANTIZATION_GROUP_SIZE=64   390 / 34 / 0.22 s / 654
    f16, INFERENCE_PRECISION_HINT=f32     440 / 42 / 0.35 s / 851
After 0 to 2,048 tokens they differ by little more than noise, f16 ahead in decode. The model is
compiled anew at every start (no CACHE_DIR): the load row is that of a first start.
"""

import time

import numpy as np

import peer_program
from peer_program import ANSWER, ANSWER_PROMPT, DECODE, DOCUMENT, QUESTION

START = time.perf_counter()
import openvino as ov  # noqa: E402
import openvino_genai  # noqa: E402

CACHE_GIB = 1  # room for all prompts of one process


class Runner:
    def __init__(self, args, ids):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GIB
        scheduler.enable_prefix_caching = True
        self.pipe = openvino_genai.LLMPipeline(
            args.model, "CPU", INFERENCE_NUM_THREADS=args.threads, KV_CACHE_PRECISION="f16",
            scheduler_config=scheduler)
        self.ids = ids
        self.fresh = 300
        self.prompt = []

    def run(self, prompts, new_tokens):
        """Answers prompts of one length together (continuous batching)."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        array = np.array(prompts, dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(ov.Tensor(array), ov.Tensor(np.ones_like(array)))
        return self.pipe.generate(inputs, config).perf_metrics

    def generate(self, ids, new_tokens=1):
        """Returns (seconds to the first token, seconds per later token)."""
        metrics = self.run([ids], new_tokens)
        later = metrics.get_tpot().mean / 1000 if new_tokens > 1 else 0
        return metrics.get_ttft().mean / 1000, later

    def first_answer(self):
        self.generate(self.ids[:ANSWER_PROMPT])

    def prefill(self, length):
        self.fresh += 1
        self.prompt = [self.fresh] + self.ids[1:length]
        return self.generate(self.prompt)[0]

    def cache(self, depth):
        if len(self.prompt) < depth:
            self.prefill(depth)

    def decode(self, depth):
        return self.generate(self.prompt[:depth], DECODE + 1)[1]

    def question(self, depth):
        self.fresh += 1  # no run finds the question of an earlier one cached
        return self.generate(self.prompt[:depth] + [self.fresh] +
                             self.ids[101:100 + QUESTION])[0]

    def answers(self, count):
        document = self.ids[:DOCUMENT]
        questions = []
        for _ in range(count):
            self.fresh += 1
            questions.append([self.fresh] + self.ids[101:100 + QUESTION])
        start = time.perf_counter()
        self.run([document + question for question in questions], ANSWER)
        return time.perf_counter() - start


if __name__ == "__main__":
    peer_program.run(Runner, START)
