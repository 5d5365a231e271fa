"""Runs a T5 or BERT folder through Hugging Face transformers and prints rows as bench_encoder does.

    run_transformers.py --model=DIR --ids=FILE [--threads=2] [--runs=3] [--only=ROW,...]
                        [--attention=sdpa|eager] [--dtype=float32|bfloat16]

The encoder is called alone, as bench_encoder does. Decoding is a plain loop around the model, which
is faster than its generate(): one token at a time with the cache of keys and values, the encoder's
output and its keys and values having been computed before.
"""

import argparse
import json
import resource
import time

from peer_program import ROW_SECONDS, repeated

SHORT, LONG, DECODE = 512, 4096, 64


class Runner:
    def __init__(self, args, ids):
        import torch
        import transformers
        torch.set_num_threads(args.threads)
        transformers.logging.set_verbosity_error()
        self.torch, self.ids = torch, ids
        config = transformers.AutoConfig.from_pretrained(args.model)
        self.family = config.model_type
        # T5 has no limit.
        self.window = len(ids) if self.family == "t5" else config.max_position_embeddings
        kind = (transformers.T5ForConditionalGeneration if self.family == "t5"
                else transformers.BertForQuestionAnswering)
        self.model = kind.from_pretrained(args.model, dtype=getattr(torch, args.dtype),
                                          attn_implementation=args.attention).eval()

    def window_of(self, tokens):
        return self.torch.tensor([self.ids[:tokens]])

    def encode(self, tokens):
        run = self.model.get_encoder() if self.family == "t5" else self.model
        start = time.perf_counter()
        with self.torch.inference_mode():
            run(self.window_of(tokens))
        return time.perf_counter() - start

    def decode(self):
        """Seconds per token."""
        with self.torch.inference_mode():
            encoded = self.model.get_encoder()(self.window_of(SHORT))
            token = self.torch.tensor([[self.model.config.decoder_start_token_id]])
            cache = None
            for step in range(DECODE + 1):
                if step == 1:
                    start = time.perf_counter()
                out = self.model(decoder_input_ids=token, encoder_outputs=encoded,
                                 past_key_values=cache, use_cache=True)
                cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
            return (time.perf_counter() - start) / DECODE


def rows_of(runner, args, wanted):
    rows, family = [], runner.family
    for tokens, label in ((LONG, "4k"), (SHORT, "512")):
        speed, memory = f"{family}_encode_{label}", f"{family}_rss_{label}"
        wants_memory = tokens == LONG and wanted(memory)
        if tokens > runner.window or not (wants_memory or wanted(speed)):
            continue
        first = runner.encode(tokens)
        if wants_memory:
            rows.append((memory, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
        if wanted(speed):
            best = (first if first > ROW_SECONDS else
                    min(first, repeated(args, lambda: runner.encode(tokens))))
            rows.append((speed, tokens / best))
    if family == "t5" and wanted("t5_decode"):
        rows.append(("t5_decode", 1 / repeated(args, runner.decode)))
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    args.median = False
    only = set(filter(None, args.only.split(",")))
    with open(args.ids, encoding="ascii") as file:
        ids = [int(word) for word in file.read().split()]
    rows = rows_of(Runner(args, ids), args, lambda name: not only or name in only)
    print(json.dumps({"rows": [{"name": name, "value": value} for name, value in rows]}))


if __name__ == "__main__":
    main()
