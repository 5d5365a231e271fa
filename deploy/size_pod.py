#!/usr/bin/env python3
"""Memory and CPU that one server needs, from its flags and its models.

    deploy/size_pod.py [--models=FILE] [SERVER_FLAG...]
    deploy/size_pod.py --threads=8 --kv_bytes=16GiB --max_running=32

FILE holds what `lectern models --json` printed; without it the default model, SmolLM2-135M in int8, is
assumed (larger than in blocks, smaller than in fp32). The flags are lectern-server's own; those that take
no memory are ignored. Prints the resources of a container; for systemd, memory is MemoryMax.
"""
import json
import math
import sys

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# The output of `lectern models --json` for SmolLM2-135M-Instruct.Q4_1.gguf with --numerics=int8.
DEFAULT_MODEL = {"weightBytes": 136117248, "kvBytesPerToken": 13230, "vocabulary": 49152}
DEFAULT_FLAGS = {"kv_bytes": "1GiB", "upload_bytes": "256MiB", "max_running": "16"}
TEXT_BYTES_PER_TOKEN = 28          # text, token ids, ranges, sentences of a stored document
PROCESS_BYTES = 192 << 20          # program, libraries, stacks, gRPC's buffers
CUDA_BYTES = 512 << 20             # with --device=cuda: runtime, driver, buffers; assumed, not measured
MARGIN = 1.1
STEP = 128 << 20                   # requests are multiples of it


def parse_bytes(text):
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return int(text[:-len(unit)]) * factor
    return int(text)


def flags_of(arguments):
    """{name: value} of arguments --name=value; the last --model wins, which no figure needs."""
    return dict(argument[2:].split("=", 1) for argument in arguments if argument.startswith("--") and
                "=" in argument)


def needed_bytes(flags, models):
    """The memory that a server with these flags may hold under any load: docs/guides/operations.md, "Sizing"."""
    flags = {**DEFAULT_FLAGS, **flags}
    kv_bytes = parse_bytes(flags["kv_bytes"])
    weights = sum(int(model["weightBytes"]) for model in models)
    tokens = kv_bytes / min(int(model["kvBytesPerToken"]) for model in models)
    answers = int(flags["max_running"]) * 4 * max(int(model["vocabulary"]) for model in models)
    cuda = CUDA_BYTES if flags.get("device") == "cuda" else 0
    return math.ceil(weights + kv_bytes + parse_bytes(flags["upload_bytes"]) +
                     tokens * TEXT_BYTES_PER_TOKEN + answers + PROCESS_BYTES + cuda)


def memory_request(flags, models):
    """needed_bytes with the margin, rounded up, in MiB."""
    return math.ceil(needed_bytes(flags, models) * MARGIN / STEP) * STEP >> 20


def main():
    arguments = sys.argv[1:]
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        return 0
    try:
        flags = flags_of(arguments)
        models = [DEFAULT_MODEL]
        if "models" in flags:
            with open(flags["models"], encoding="utf-8") as file:
                models = [json.loads(line) for line in file]
        memory = memory_request(flags, models)
    except (OSError, ValueError, KeyError) as error:
        print(f"size_pod: {error!r}; see --help", file=sys.stderr)
        return 2
    cpu = flags.get("threads", "one for each CPU of the node: give --threads")
    print(f"requests: {{cpu: \"{cpu}\", memory: {memory}Mi}}\nlimits: {{memory: {memory}Mi}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
