"""Plots as SVG, with the standard library alone: log-log, or percent over a logarithmic axis."""

import math
from xml.sax.saxutils import escape

PANEL_WIDTH, PANEL_HEIGHT = 400, 300
LEFT, TOP, BETWEEN_X, BETWEEN_Y = 70, 76, 84, 92
LEGEND_WIDTH = 262  # or more, if a label needs it
LEGEND_TEXT = 34  # where a label begins
CHARACTER_WIDTH = 6.5  # at most, on average, at font size 12
FONT = 'font-family="Helvetica, Arial, sans-serif"'


class Series:
    """Points (x, y) of one legend entry; those that a logarithmic axis cannot show are left out.
    `kind`: "line", "hollow" (markers of another source) or "cross" (points that could not be run)."""

    def __init__(self, label, colour, kind, points):
        self.label, self.colour, self.kind = label, colour, kind
        self.points = [(x, y) for x, y in points if x > 0]


class Panel:
    """`percent`: the vertical axis is linear from 0 to 100."""

    def __init__(self, title, x_label, y_label, series, percent=False):
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.percent = percent
        if not percent:
            for one in series:
                one.points = [(x, y) for x, y in one.points if y > 0]
        self.series = [s for s in series if s.points]


def _text(x, y, text, size=12, anchor="middle", extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {FONT} '
            f'{extra}>{escape(text)}</text>')


def _decades(values):
    """The powers of ten around the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _x_range(values):
    """The powers of two around the values."""
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    return low, max(high, low + 1)


def _tick(value):
    if value >= 1024 and value % 1024 == 0:
        return f"{int(value) // 1024}k"
    return f"{value:g}"


def _marker(kind, x, y, colour):
    if kind == "cross":
        return (f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{colour}" '
                f'stroke-width="1.8" fill="none"/>')
    fill = "white" if kind == "hollow" else colour
    return (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 if kind == "hollow" else 3}" fill="{fill}" '
            f'stroke="{colour}" stroke-width="1.5"/>')


def _grid(panel, to_x, to_y, x_range, marks, left, top):
    out = [_text(left + PANEL_WIDTH / 2, top - 10, panel.title, 13, extra='font-weight="bold"')]
    for mark in marks:
        y = to_y(mark)
        out.append(f'<path d="M{left} {y:.1f}h{PANEL_WIDTH}" stroke="#ddd"/>')
        out.append(_text(left - 7, y + 4, f"{mark:g}", anchor="end"))
    for power in range(x_range[0], x_range[1] + 1):
        x = to_x(2.0 ** power)
        out.append(f'<path d="M{x:.1f} {top}v{PANEL_HEIGHT}" stroke="#eee"/>')
        out.append(_text(x, top + PANEL_HEIGHT + 16, _tick(2 ** power)))
    out.append(f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" '
               'fill="none" stroke="#444"/>')
    out.append(_text(left + PANEL_WIDTH / 2, top + PANEL_HEIGHT + 36, panel.x_label))
    middle = top + PANEL_HEIGHT / 2
    out.append(_text(left - 46, middle, panel.y_label,
                     extra=f'transform="rotate(-90 {left - 46:.1f} {middle:.1f})"'))
    return out


def _panel(panel, left, top):
    points = [point for series in panel.series for point in series.points]
    if not points:
        return []
    x_range = _x_range([x for x, _ in points])
    if panel.percent:
        marks = range(0, 101, 20)
    else:
        y_range = _decades([y for _, y in points])
        marks = [10.0 ** power for power in range(y_range[0], y_range[1] + 1)]

    def to_x(x):
        return left + PANEL_WIDTH * (math.log2(x) - x_range[0]) / (x_range[1] - x_range[0])

    def to_y(y):
        if panel.percent:
            return top + PANEL_HEIGHT * (1 - y / 100)
        share = (math.log10(y) - y_range[0]) / (y_range[1] - y_range[0])
        return top + PANEL_HEIGHT * (1 - share)

    out = _grid(panel, to_x, to_y, x_range, marks, left, top)
    for series in panel.series:
        if series.kind == "line":
            path = "L".join(f"{to_x(x):.1f} {to_y(y):.1f}" for x, y in series.points)
            out.append(f'<path d="M{path}" fill="none" stroke="{series.colour}" '
                       'stroke-width="2"/>')
        out += [_marker(series.kind, to_x(x), to_y(y), series.colour) for x, y in series.points]
    return out


def _legend(rows, left, top):
    seen = {}
    for panel in (panel for row in rows for panel in row):
        for series in panel.series:
            seen.setdefault(series.label, series)
    out = []
    for number, series in enumerate(seen.values()):
        y = top + 22 * number
        if series.kind == "line":
            out.append(f'<path d="M{left} {y}h26" stroke="{series.colour}" stroke-width="2"/>')
        out.append(_marker(series.kind, left + 13, y, series.colour))
        out.append(_text(left + LEGEND_TEXT, y + 4, series.label, anchor="start"))
    return out


def _legend_width(rows):
    labels = [series.label for row in rows for panel in row for series in panel.series]
    longest = max(map(len, labels), default=0)
    return max(LEGEND_WIDTH, math.ceil(LEGEND_TEXT + CHARACTER_WIDTH * longest + 10))


def svg(title, rows):
    """Draws rows of panels, with one legend for all of them at the right."""
    columns = max(len(row) for row in rows)
    legend_width = _legend_width(rows)
    width = LEFT + columns * (PANEL_WIDTH + BETWEEN_X) - BETWEEN_X + 24 + legend_width
    height = TOP + len(rows) * (PANEL_HEIGHT + BETWEEN_Y) - BETWEEN_Y + 52
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           _text(LEFT, 28, title, 15, anchor="start", extra='font-weight="bold"')]
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            out += _panel(panel, LEFT + j * (PANEL_WIDTH + BETWEEN_X),
                          TOP + i * (PANEL_HEIGHT + BETWEEN_Y))
    out += _legend(rows, width - legend_width, TOP + 10)
    return "\n".join(out + ["</svg>", ""])
