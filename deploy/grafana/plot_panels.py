#!/usr/bin/env python3
"""Draws main panels of the dashboard as SVG, from their own queries in a Prometheus: for documents, and
where there is no Grafana. With the standard library alone.

    deploy/grafana/plot_panels.py http://127.0.0.1:9090 NAMESPACE MINUTES FILE.svg
"""
import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

import make_dashboard

PANELS = ["Running, waiting, room", "Refused by reason", "Calls by status",
          "First text", "Parts of an answer, p95", "Tokens a second",
          "Key/value memory in use", "Look-ups by result", "Resident memory"]
COLUMNS, WIDTH, HEIGHT, GAP_X, GAP_Y, LEFT, TOP = 3, 300, 150, 90, 100, 70, 60
POINTS = 100
COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"]
UNITS = {"percentunit": ("%", 100), "s": ("s", 1), "bytes": ("MiB", 1 / (1 << 20)), "reqps": ("/s", 1),
         "ops": ("/s", 1)}


def text(x, y, words, size=11, anchor="start"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-family="Helvetica, Arial, sans-serif">{escape(words)}</text>')


def label_of(series, legend):
    return re.sub(r"{{(\w+)}}", lambda m: series["metric"].get(m[1], ""), legend)


def lines_of(panel, namespace, query_range, start, end):
    """[(label, [(seconds from start, value)])], those that are not always 0."""
    step = max(1, round((end - start) / POINTS))
    lines = []
    for title, expr, legend in make_dashboard.expressions(namespace, ".*", f"{max(10, 4 * step)}s"):
        if title != panel.title:
            continue
        for series in query_range(expr, start, end, step):
            points = [(float(t) - start, float(v)) for t, v in series["values"]]
            points = [(t, v) for t, v in points if math.isfinite(v)]
            if any(v for _, v in points):
                lines.append((label_of(series, legend), points))
    return lines


def draw(panel, lines, left, top, seconds):
    unit, factor = UNITS.get(panel.unit, ("", 1))
    highest = max([v for _, points in lines for _, v in points], default=1) * factor or 1
    out = [text(left, top - 8, panel.title, 12),
           f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>',
           text(left - 4, top + 8, f"{highest:.3g} {unit}", 10, "end"),
           text(left - 4, top + HEIGHT, "0", 10, "end"),
           text(left + WIDTH, top + HEIGHT + 13, f"{seconds:.0f} s", 10, "end")]
    for i, (label, points) in enumerate(lines[:len(COLOURS)]):
        path = "L".join(f"{left + WIDTH * t / seconds:.0f} {top + HEIGHT * (1 - v * factor / highest):.0f}"
                        for t, v in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[i]}" stroke-width="1.6"/>')
        x, y = left + (i % 3) * WIDTH / 3, top + HEIGHT + 28 + 14 * (i // 3)
        out += [f'<path d="M{x:.0f} {y - 4:.0f}h12" stroke="{COLOURS[i]}" stroke-width="3"/>',
                text(x + 16, y, label, 10)]
    return out


def write(path, query_range, start, end, namespace):
    """query_range(expression, start, end, step) gives Prometheus' list of series."""
    panels = {p.title: p for _, row in make_dashboard.ROWS for p in row}
    rows = -(-len(PANELS) // COLUMNS)
    width = LEFT + COLUMNS * (WIDTH + GAP_X) - GAP_X + 20
    height = TOP + rows * (HEIGHT + GAP_Y) - GAP_Y + 60
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
           f'height="{height}">', f'<rect width="{width}" height="{height}" fill="white"/>']
    for i, title in enumerate(PANELS):
        lines = lines_of(panels[title], namespace, query_range, start, end)
        out += draw(panels[title], lines, LEFT + (i % COLUMNS) * (WIDTH + GAP_X),
                    TOP + (i // COLUMNS) * (HEIGHT + GAP_Y), end - start)
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*out, "</svg>", ""]))


def main():
    if len(sys.argv) != 5:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    url, namespace, minutes, path = sys.argv[1:]

    def query_range(expr, start, end, step):
        parameters = urllib.parse.urlencode({"query": expr, "start": start, "end": end, "step": step})
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{parameters}", timeout=30) as reply:
            return json.load(reply)["data"]["result"]

    write(path, query_range, time.time() - 60 * float(minutes), time.time(), namespace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
