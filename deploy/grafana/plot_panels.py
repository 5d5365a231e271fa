#!/usr/bin/env python3
"""Draws main panels of the dashboard as SVG, from their own queries in a Prometheus, and when alerts were
pending and fired: for documents, and where there is no Grafana. With the standard library alone.

    deploy/grafana/plot_panels.py http://127.0.0.1:9090 NAMESPACE MINUTES FOLDER

FOLDER gets dashboard.svg and alerts.svg.
"""
import json
import math
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

import make_dashboard

SERVICE_PANELS = ["Running, waiting, room", "Refused by reason", "Calls by status",
                  "First text", "Parts of an answer, p95", "Tokens a second"]
MEMORY_PANELS = ["Look-ups by result", "Evicted", "Taken back from disk"]
COLUMNS, WIDTH, HEIGHT, GAP_X, GAP_Y, LEFT, TOP = 3, 300, 150, 80, 110, 60, 40
BAR, NAME_WIDTH = 18, 280
POINTS = 100
COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"]
STATES = {"pending": "#f2c14e", "firing": "#c0392b"}
UNITS = {"percentunit": ("%", 100), "s": ("s", 1), "bytes": ("MiB", 1 / (1 << 20)), "reqps": ("/s", 1),
         "ops": ("/s", 1)}


def text(x, y, words, size=11, anchor="start"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-family="Helvetica, Arial, sans-serif">{escape(words)}</text>')


def ticks(highest, most):
    """Round numbers from 0 on, `most` steps at most, the last one not below `highest`."""
    rough = highest / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
    return [i * step for i in range(math.ceil(highest / step - 1e-9) + 1)]


def time_axis(left, top, width, height, seconds):
    out = []
    for t in ticks(seconds, 7):
        if t <= seconds:
            x = left + width * t / seconds
            out += [f'<path d="M{x:.0f} {top}v{height}" stroke="#ddd"/>',
                    text(x, top + height + 14, f"{t:g} s" if t else "0", 10, "middle")]
    return out


def label_of(series, legend):
    return re.sub(r"{{(\w+)}}", lambda m: series["metric"].get(m[1], ""), legend)


def lines_of(title, namespace, query_range, start, end):
    """[(label, [(seconds from start, value)])], those that are not always 0."""
    step = max(1, round((end - start) / POINTS))
    lines = []
    for panel, expr, legend in make_dashboard.expressions(namespace, ".*", f"{max(10, 4 * step)}s"):
        if panel != title:
            continue
        for series in query_range(expr, start, end, step):
            points = [(float(t) - start, float(v)) for t, v in series["values"]]
            points = [(t, v) for t, v in points if math.isfinite(v)]
            if any(v for _, v in points):
                lines.append((label_of(series, legend), points))
    return lines


def legend_of(lines, left, y):
    out, x = [], left
    for colour, (label, _) in zip(COLOURS, lines):
        width = 24 + sum(8.5 if c.isupper() else 6.2 for c in label)  # at most, in any font
        if x > left and x + width > left + WIDTH + GAP_X / 2:
            x, y = left, y + 16
        out += [f'<path d="M{x:.0f} {y - 4}h12" stroke="{colour}" stroke-width="3"/>',
                text(x + 16, y, label)]
        x += width
    return out


def draw(panel, title, lines, left, top, seconds):
    unit, factor = UNITS.get(panel.unit, ("", 1))
    highest = max([v for _, points in lines for _, v in points], default=1) * factor or 1
    marks = ticks(highest, 4)
    out = [text(left, top - 10, title, 13), *time_axis(left, top, WIDTH, HEIGHT, seconds)]
    for mark in marks:
        y = top + HEIGHT * (1 - mark / marks[-1])
        out += [f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#ddd"/>',
                text(left - 5, y + 4, f"{mark:g} {unit}".strip() if mark else "0", 10, "end")]
    for colour, (_, points) in zip(COLOURS, lines):
        path = "L".join(f"{left + WIDTH * t / seconds:.1f} "
                        f"{top + HEIGHT * (1 - v * factor / marks[-1]):.1f}" for t, v in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return out + legend_of(lines, left, top + HEIGHT + 34)


def page(width, height, parts):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}">', f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>",
        ""])


def dashboard(query_range, start, end, chosen):
    """The panels [(title, namespace)]; query_range(expression, start, end, step) gives Prometheus' series."""
    panels = {p.title: p for _, row in make_dashboard.ROWS for p in row}
    several = len({namespace for _, namespace in chosen}) > 1
    parts = []
    for i, (title, namespace) in enumerate(chosen):
        lines = lines_of(title, namespace, query_range, start, end)
        parts += draw(panels[title], f'{title} ("{namespace}")' if several else title, lines,
                      LEFT + (i % COLUMNS) * (WIDTH + GAP_X), TOP + (i // COLUMNS) * (HEIGHT + GAP_Y),
                      end - start)
    rows = -(-len(chosen) // COLUMNS)
    return page(LEFT + COLUMNS * (WIDTH + GAP_X) - GAP_X // 2, TOP + rows * (HEIGHT + GAP_Y) - 30, parts)


def alerts(query_range, start, end, selector=""):
    """A line for each alert of each namespace, in the order of their beginnings."""
    times = {}
    for series in query_range(f"ALERTS{{{selector}}}", start, end, 1):
        labels = series["metric"]
        name = " ".join(labels[k] for k in ("alertname", "speed") if k in labels)
        name += f' ("{labels["namespace"]}")' if "namespace" in labels else ""
        times.setdefault(name, {}).setdefault(labels["alertstate"], set()).update(
            float(t) - start for t, _ in series["values"])
    names = sorted(times, key=lambda name: min(min(seen) for seen in times[name].values()))
    width, height, seconds = COLUMNS * WIDTH, (BAR + 6) * len(names) + 6, end - start
    parts = time_axis(NAME_WIDTH, TOP, width, height, seconds)
    for i, name in enumerate(names):
        y = TOP + 6 + i * (BAR + 6)
        parts.append(text(NAME_WIDTH - 8, y + BAR - 5, name, 12, "end"))
        for state, colour in STATES.items():
            parts += [f'<path d="M{NAME_WIDTH + width * t / seconds:.2f} {y}h{width / seconds:.2f}v{BAR}'
                      f'h-{width / seconds:.2f}z" fill="{colour}" shape-rendering="crispEdges"/>'
                      for t in sorted(times[name].get(state, []))]
    for i, (state, colour) in enumerate(STATES.items()):
        x = NAME_WIDTH + 100 * i
        parts += [f'<rect x="{x}" y="14" width="14" height="14" fill="{colour}"/>',
                  text(x + 20, 26, state, 12)]
    return page(NAME_WIDTH + width + 30, TOP + height + 30, parts)


def main():
    if len(sys.argv) != 5:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    url, namespace, minutes, folder = sys.argv[1:]

    def query_range(expr, start, end, step):
        parameters = urllib.parse.urlencode({"query": expr, "start": start, "end": end, "step": step})
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{parameters}", timeout=30) as reply:
            return json.load(reply)["data"]["result"]

    now = time.time()
    start = now - 60 * float(minutes)
    chosen = [(title, namespace) for title in SERVICE_PANELS + MEMORY_PANELS]
    (pathlib.Path(folder) / "dashboard.svg").write_text(
        dashboard(query_range, start, now, chosen), encoding="utf-8")
    (pathlib.Path(folder) / "alerts.svg").write_text(
        alerts(query_range, start, now, f'namespace="{namespace}"'), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
