"""Command line, rows and output of the peers' programs: those of bench_generate (see its head).

A runner has these methods. first_answer() reads the first 16 ids and gives the first token. The
others give seconds:
    prefill(length)      to read the first `length` ids, nothing of them cached
    decode(depth)        per token, for DECODE tokens after the first `depth` ids
    question(depth)      to the first token of QUESTION ids after the first `depth` ids
    answers(count)       for `count` answers at once of ANSWER ids to questions of QUESTION ids, each
                         with another first id, after the first DOCUMENT ids
cache(depth) brings the first `depth` ids into the cache if they are not there.
"""

import argparse
import json
import resource
import statistics
import time

DECODE, QUESTION, ANSWER_PROMPT = 64, 64, 16
DOCUMENT, ANSWER = 6016, 128
PROMPTS = [("8k", 8000, "8k", 8000), ("2k", 2048, "2k", 2048), ("512", 512, "0", 1)]  # longest first
CONTEXT, CONTEXT_2K = 8192, 2304  # the second where rss_2k is the only row
ROW_SECONDS = 5  # a row that has taken so long is not repeated


def repeated(args, once):
    """The best (least) of --runs calls or fewer, or their median."""
    values = []
    start = time.perf_counter()
    while not values or len(values) < args.runs and time.perf_counter() - start < ROW_SECONDS:
        values.append(once())
    return statistics.median(values) if args.median else min(values)


def rows_of_prompt(runner, args, wanted, prompt):
    length_label, length, depth_label, depth = prompt
    rows = []
    name = "prefill_" + length_label
    if wanted(name):
        rows.append((name, length / repeated(args, lambda: runner.prefill(length))))
    peak = "rss_" + length_label
    if length >= 2048 and wanted(peak) and not args.longer_prompt_read:
        runner.cache(length)
        rows.append((peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
    name = "decode_" + depth_label
    if wanted(name):
        runner.cache(depth)
        rows.append((name, 1 / repeated(args, lambda: runner.decode(depth))))
    if length == 8000 and wanted("ttft_cached_8k"):
        runner.cache(depth)
        rows.append(("ttft_cached_8k", repeated(args, lambda: runner.question(depth))))
    args.longer_prompt_read |= bool(rows)
    return rows


def rows_of_answers(runner, args, wanted):
    rows = []
    for count in (1, 8):
        if wanted(f"answers_{count}"):
            runner.answers(count)  # brings the document into the cache
            seconds = repeated(args, lambda: runner.answers(count))
            rows.append((f"answers_{count}", count * ANSWER / seconds))
    return rows


def run(make_runner, start, switches=()):
    """Prints the rows of make_runner(arguments); `start` is when its libraries began to load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--median", action="store_true")
    parser.add_argument("--only", default="")
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    args.context = CONTEXT_2K if only == {"rss_2k"} else CONTEXT
    args.longer_prompt_read = False

    def wanted(name):
        return not only or name in only

    with open(args.ids, encoding="ascii") as file:
        ids = [int(word) for word in file.read().split()]
    runner = make_runner(args, ids)
    runner.first_answer()
    rows = [("load", time.perf_counter() - start)] if wanted("load") else []
    for prompt in PROMPTS:
        rows += rows_of_prompt(runner, args, wanted, prompt)
    rows += rows_of_answers(runner, args, wanted)
    print(json.dumps({"rows": [{"name": name, "value": value} for name, value in rows]}))
