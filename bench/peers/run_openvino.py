"""Runs one prompt through OpenVINO GenAI and prints rows as bench_generate does.

The pipeline reuses the prefix of earlier prompts by itself, so every prefill starts with another
token, and the cached-document row is what that reuse gives.

Settings: the defaults (u8 activations in groups of 32, bf16 where the CPU has it, slices of 256
tokens) with keys and values in f16. Seen on 2 cores of an AMD EPYC with AVX-512 VNNI and BF16,
prefill 8k / decode behind 8k / first token behind 8k / peak MiB:
    KV_CACHE_PRECISION=f16                630 / 50 / 0.22 s / 749
    defaults (u8 keys and values)         482 / 35 / 0.25 s / 687
    slices of 512 (SchedulerConfig)       519 / 31 / 0.25 s / 545
    slices of 8192                        492 / 28 / 0.27 s / 659
    DYNAMIC_QUANTIZATION_GROUP_SIZE=64    390 / 34 / 0.22 s / 654
    INFERENCE_PRECISION_HINT=f32          424 / 35 / 0.38 s / 802
Behind 512 and 2,048 tokens none of them gains more than noise over f16. The model is compiled anew
at every start (no CACHE_DIR): the load row is that of a first start.
"""

import time

import numpy as np

import peer_program
from peer_program import ANSWER_PROMPT, DECODE, QUESTION

START = time.perf_counter()
import openvino as ov  # noqa: E402
import openvino_genai  # noqa: E402


class Runner:
    def __init__(self, args, ids):
        self.pipe = openvino_genai.LLMPipeline(args.model, "CPU",
                                               INFERENCE_NUM_THREADS=args.threads,
                                               KV_CACHE_PRECISION="f16")
        self.ids = ids
        self.fresh = 300
        self.prompt = []

    def generate(self, ids, new_tokens=1):
        """Returns (seconds to the first token, seconds per later token)."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        array = np.array([ids], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(ov.Tensor(array), ov.Tensor(np.ones_like(array)))
        metrics = self.pipe.generate(inputs, config).perf_metrics
        later = metrics.get_tpot().mean / 1000 if new_tokens > 1 else 0
        return metrics.get_ttft().mean / 1000, later

    def first_answer(self):
        self.generate(self.ids[:ANSWER_PROMPT])

    def prefill(self, length):
        self.fresh += 1
        self.prompt = [self.fresh] + self.ids[1:length]
        return self.generate(self.prompt)[0]

    def behind(self, depth):
        if len(self.prompt) < depth:
            self.prefill(depth)

    def decode(self, depth):
        return self.generate(self.prompt[:depth], DECODE + 1)[1]

    def question(self, depth):
        self.fresh += 1  # no run finds the question of an earlier one cached
        return self.generate(self.prompt[:depth] + [self.fresh] +
                             self.ids[101:100 + QUESTION])[0]


if __name__ == "__main__":
    peer_program.run(Runner, START)
