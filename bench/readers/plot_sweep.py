#!/usr/bin/env python3
"""Table and plot of the k sweep: exact match of the small readers compared with the paper's models.

    bench/readers/plot_sweep.py --rows=t5=FILE,bert=FILE [--svg=FILE]

FILE holds the output of bench/unifiedqa --json for the model. Prints Markdown.
"""
import argparse
import importlib.machinery
import importlib.util
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench" / "paper"))
sys.dont_write_bytecode = True
import plot  # noqa: E402

COLOURS = {"t5": "#1e8449", "bert": "#1f618d"}
NAMES = {"t5": "T5 (ReLU)", "bert": "BERT (GELU)"}
PAPER_COLOURS = {3072: "#c0392b", 16384: "#d68910", 65536: "#7d3c98"}
PAPER_NAMES = {3072: "base", 16384: "3b", 65536: "11b"}


def paper_tables():
    """The tables of bench/unifiedqa, which has no suffix."""
    loader = importlib.machinery.SourceFileLoader("unifiedqa", str(ROOT / "bench" / "unifiedqa"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("unifiedqa", loader))
    loader.exec_module(module)
    return module.PAPER


def by_k(found, kind):
    """{k: row} of the settings of a kind ("ffn", "attention")."""
    return {int(row["setting"][len(kind):]): row for row in found["rows"]
            if row["setting"].startswith(kind)}


def dense(found):
    return next(row for row in found["rows"] if row["setting"] == "dense")["em"]


def nearest(row, share):
    """The paper's k of about the same share and how much exact match it kept, if there is one."""
    size = max(row)
    k = min(row, key=lambda kept: abs(kept / size - share))
    return (k, 100 * row[k] / row[size]) if abs(k / size / share - 1) < 0.3 else None


def feed_forward_table(readers, paper):
    lines = ["| units kept | share | " + " | ".join(NAMES[name] for name in readers) + " | "
             + " | ".join(f"paper, {PAPER_NAMES[size]}" for size in paper) + " |",
             "|---" * (2 + len(readers) + len(paper)) + "|"]
    d_ff = next(iter(readers.values()))["d_ff"]
    found = {name: by_k(rows, "ffn") for name, rows in readers.items()}
    cells = [f"{dense(rows):.1f}" for rows in readers.values()]
    cells += [f"{row[size]:.1f} = 100 %" for size, row in paper.items()]
    lines.append(f"| {d_ff:,} (dense) | 100 % | " + " | ".join(cells) + " |")
    for k in sorted(next(iter(found.values())), reverse=True):
        cells = [f"{found[name][k]['em']:.1f}" for name in readers]
        for row in paper.values():
            near = nearest(row, k / d_ff)
            cells.append(f"{near[1]:.1f} % (k = {near[0]:,})" if near else "-")
        lines.append(f"| {k} | {100 * k / d_ff:.2g} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def attention_table(readers):
    lines = ["| keys kept | " + " | ".join(NAMES[name] for name in readers) + " |",
             "|---" * (1 + len(readers)) + "|",
             "| all | " + " | ".join(f"{dense(rows):.1f}" for rows in readers.values()) + " |"]
    found = {name: by_k(rows, "attention") for name, rows in readers.items()}
    for k in sorted(next(iter(found.values())), reverse=True):
        lines.append(f"| {k} | " + " | ".join(f"{found[name][k]['em']:.1f}" for name in readers)
                     + " |")
    return "\n".join(lines)


def picture(readers, paper):
    units, keys = [], []
    for name, rows in readers.items():
        whole = dense(rows)
        kept = [(100.0, 100.0)] + [(100 * k / rows["d_ff"], 100 * row["em"] / whole)
                                   for k, row in by_k(rows, "ffn").items()]
        units.append(plot.Series(NAMES[name], COLOURS[name], "line", kept))
        keys.append(plot.Series(NAMES[name], COLOURS[name], "line",
                                [(k, 100 * row["em"] / whole)
                                 for k, row in by_k(rows, "attention").items()]))
    for size, row in paper.items():
        units.append(plot.Series(f"paper: UnifiedQA {PAPER_NAMES[size]}", PAPER_COLOURS[size],
                                 "hollow", [(100 * k / size, min(100.0, 100 * em / row[size]))
                                            for k, em in row.items()]))
    return plot.svg("Exact match by k, without retraining", [[
        plot.Panel("feed-forward", "% of the units kept", "% of the dense model's exact match",
                   units, percent=True),
        plot.Panel("attention, every layer", "keys kept", "% of the dense model's exact match",
                   keys, percent=True)]])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", required=True, help="t5=FILE,bert=FILE")
    parser.add_argument("--svg", type=pathlib.Path)
    args = parser.parse_args()
    readers = {name: json.loads(pathlib.Path(file).read_text()) for name, file in
               (entry.split("=", 1) for entry in args.rows.split(","))}
    paper = paper_tables()
    print(feed_forward_table(readers, paper))
    print()
    print(attention_table(readers))
    if args.svg:
        args.svg.write_text(picture(readers, paper))


if __name__ == "__main__":
    sys.exit(main())
