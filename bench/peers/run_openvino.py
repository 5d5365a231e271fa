"""Runs one prompt through OpenVINO GenAI and prints rows as bench_generate does.

The pipeline reuses the prefix of the previous prompt by itself, so every prefill run starts with
another token, and the cached-document row is what that reuse gives.
"""

import time

import numpy as np
import openvino as ov
import openvino_genai

import peer_program

DECODE, QUESTION = 64, 64


class Runner:
    def __init__(self, args):
        start = time.perf_counter()
        self.pipe = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
        self.load_seconds = time.perf_counter() - start
        self.ids = [int(word) for word in open(args.ids).read().split()]
        self.runs = args.runs
        self.fresh = 300

    def generate(self, ids, new_tokens):
        """Returns (seconds to the first token, seconds per later token)."""
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        array = np.array([ids], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(ov.Tensor(array), ov.Tensor(np.ones_like(array)))
        result = self.pipe.generate(inputs, config)
        metrics = result.perf_metrics
        later = metrics.get_tpot().mean / 1000 if new_tokens > 1 else 0
        return metrics.get_ttft().mean / 1000, later

    def fresh_prompt(self, length):
        self.fresh += 1
        return [self.fresh] + self.ids[1:length]

    def rows(self):
        rows = []
        for label, length in (("512", 512), ("2k", 2048), ("8k", 8000)):
            value = max(length / self.generate(self.fresh_prompt(length), 1)[0]
                        for _ in range(self.runs))
            rows.append(("prefill_" + label, value))
        for label, depth in (("0", 2), ("2k", 2048), ("8k", 8000)):
            prompt = self.fresh_prompt(depth)
            rows.append(("decode_" + label,
                         max(1 / self.generate(prompt, DECODE)[1] for _ in range(self.runs))))
        document = self.fresh_prompt(8000)
        self.generate(document, 1)
        question = self.ids[100:100 + QUESTION]
        values = []
        for run in range(self.runs):
            values.append(self.generate(document + [self.fresh + run] + question[1:], 1)[0])
            self.generate(document, 1)
        rows.append(("ttft_cached_8k", min(values)))
        rows.append(("load", self.load_seconds))
        return rows

    def memory(self):
        self.generate(self.fresh_prompt(8000), 1)
        return peer_program.peak_memory()


if __name__ == "__main__":
    peer_program.run(Runner)
