"""Command line and output of the peers' programs: those of bench_generate."""

import argparse
import json
import resource


def peak_memory():
    return [("rss_8k", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)]


def run(make_runner, switches=()):
    """Prints the rows of make_runner(arguments), which has rows() and memory()."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    args = parser.parse_args()
    runner = make_runner(args)
    rows = runner.memory() if args.only == "rss_8k" else runner.rows()
    print(json.dumps({"rows": [{"name": name, "value": value} for name, value in rows]}))
