"""Tables, plot and verdicts from the rows that bench/paper_layer measured."""

import paper_figures
import plot

GIB, MIB = 2.0 ** 30, 2.0 ** 20
LABELS = {"plain": "plain (ATen)", "chunked": "query-chunked (ATen)", "sdpa": "SDPA (ATen)",
          "naive_topk": "naive top-k (ATen)", "ours": "Lectern",
          "ours_dense": "Lectern, all keys"}
COLOURS = {"plain": "#c0392b", "chunked": "#d68910", "sdpa": "#7d3c98", "naive_topk": "#1f618d",
           "ours": "#1e8449", "ours_dense": "#7d6608"}
# The paper's figures to compare with each of our methods.
PAPER_OF = {"plain": ("vanilla", 1), "chunked": ("chunked", 2), "naive_topk": ("top-k", 3)}
MOST_GROWTH = 1.1  # of memory over growth of L, for "linear"
# (part, field, the other method, L, how many times ours it should need at least)
GOALS = (("attention", "peak_bytes", "plain", 10240, 20),
         ("attention", "seconds", "naive_topk", 8192, 10),
         ("top64", "seconds", "ours_dense", 8192, 1.5),
         ("top64_i8", "seconds", "ours_dense", 8192, 1.5))


def memory(value):
    return f"{value / GIB:.2f} GiB" if value >= GIB else f"{value / MIB:.1f} MiB"


def duration(value):
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"


def cell(row):
    if row is None:
        return "–"
    if row["status"] == "ok":
        return f"{duration(row['seconds'])}, {memory(row['peak_bytes'])}"
    return f"{row['status']}: {row['message']}"


def of(rows, part, method, x):
    return next((row for row in rows if (row["part"], row["method"], row["x"]) ==
                 (part["name"], method, x)), None)


def ok_rows(rows, part, method):
    found = (of(rows, part, method, x) for x in part["values"])
    return [row for row in found if row is not None and row["status"] == "ok"]


def _paper_cell(figures):
    if figures is None:
        return "out of memory"
    return figures if isinstance(figures, str) else f"{duration(figures[1])}, {figures[0]:.2f} GiB"


def table(part, rows):
    """The part as a Markdown table, the paper's figures, if it has them, in the last columns."""
    paper = {x: figures for x, *figures in part["paper"]}
    names = paper_figures.METHODS if paper else ()
    head = [part["axis"], *(LABELS[m] for m in part["methods"]),
            *(f"paper, {name}" for name in names)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for x in part["values"]:
        beside = [_paper_cell(figures) for figures in paper.get(x, ["–"] * len(names))]
        cells = [cell(of(rows, part, method, x)) for method in part["methods"]]
        lines.append("| " + " | ".join([f"{x:,}", *cells, *beside]) + " |")
    return "\n".join(lines)


def _series(part, rows, value, paper_value):
    out = []
    for method in part["methods"]:
        points = [(row["x"], value(row)) for row in ok_rows(rows, part, method)]
        out.append(plot.Series(LABELS[method], COLOURS[method], "line", points))
    for method, (name, column) in PAPER_OF.items():
        points = [(figures[0], paper_value(figures[column])) for figures in part["paper"]
                  if figures[column] is not None]
        label = f"paper, {name} (GPU, fwd + bwd)"
        out.append(plot.Series(label, COLOURS[method], "hollow", points))
    return out


def _panels(part, rows):
    times = _series(part, rows, lambda row: row["seconds"], lambda figure: figure[1])
    memories = _series(part, rows, lambda row: row["peak_bytes"] / GIB, lambda figure: figure[0])
    for method in part["methods"]:
        failed = (of(rows, part, method, x) for x in part["values"])
        points = [(row["x"], row["needed_bytes"] / GIB) for row in failed
                  if row is not None and row["status"] == "out of memory"]
        memories.append(plot.Series("out of memory: its need", COLOURS[method], "cross", points))
    return [plot.Panel(part["title"] + ": time", part["axis"], "seconds", times),
            plot.Panel(part["title"] + ": peak memory", part["axis"], "GiB beyond the inputs",
                       memories)]


def picture(parts, rows):
    drawn = [part for part in parts
             if part["paper"] and any(row["part"] == part["name"] for row in rows)]
    return plot.svg("The paper's benchmarks, forward only on a CPU, with the paper's figures",
                    [_panels(part, rows) for part in drawn])


def growth(part, rows):
    """Worst growth of our memory over that of x between neighbours, and the bytes for each x."""
    ours = [(row["x"], row["peak_bytes"]) for row in ok_rows(rows, part, "ours")]
    if len(ours) < 2:
        return None
    worst = max((b2 / b1) / (x2 / x1) for (x1, b1), (x2, b2) in zip(ours, ours[1:]))
    slope = (ours[-1][1] - ours[0][1]) / (ours[-1][0] - ours[0][0])
    return {"worst_growth": worst, "bytes_per_x": slope, "linear": worst <= MOST_GROWTH}


def verdicts(parts, rows):
    """The conclusions from the figures as {name: value}; omits everything that was not measured."""
    out = {}
    for part in parts:
        found = growth(part, rows)
        if found is not None and part["paper"] and part["axis"] == "L":
            out[part["name"] + ".growth"] = found
    for name, field, other, x, goal in GOALS:
        part = {"name": name}
        theirs, ours = of(rows, part, other, x), of(rows, part, "ours", x)
        if theirs and ours and theirs["status"] == ours["status"] == "ok":
            ratio = theirs[field] / ours[field]
            out[f"{name}.{field}.{other}_over_ours"] = {"L": x, "ratio": ratio, "goal": goal,
                                                        "reached": ratio >= goal}
    return out
