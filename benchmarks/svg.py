"""Standalone SVG of a few kinds of chart: points, curves, cells, bars, histograms.

Written by hand as the report's charts are, without a library, so that a figure is a few kilobytes
of text that can be compared. Lengths are in pixels, y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

INK, SOFT, PALE = "#1f2933", "#6b7785", "#d8dee6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#4d4d4d")
"""Told apart by those who see colours otherwise (Okabe and Ito)."""
NORMAL, ODD = "#7b8794", "#d55e00"
FONT = 12
TALL = 15  # of a line of text


@dataclass
class Canvas:
    """What is drawn, and how large it is."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK
    ) -> None:
        """Write a text whose baseline begins, ends or has its middle at a point."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">'
            f"{escape(text)}</text>"
        )

    def line(self, points: Iterable[tuple[float, float]], stroke: str, width: float = 1) -> None:
        """Draw a line through points."""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{places}" fill="none" stroke="{stroke}" stroke-width="{width}"/>'
        )

    def box(self, corner: tuple[float, float], size: tuple[float, float], fill: str) -> None:
        """Fill a rectangle."""
        (x, y), (width, height) = corner, size
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
            f'height="{max(height, 0):.1f}" fill="{fill}"/>'
        )

    def dot(self, x: float, y: float, fill: str) -> None:
        """Draw a point."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}"/>')

    def svg(self) -> str:
        """Return the file's text."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="{FONT}">\n'
            f"<title>{escape(self.title)}</title>\n"
            f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


@dataclass(frozen=True)
class Plot:
    """A rectangle of a canvas in which values stand: x and y from ``low`` to ``high``."""

    canvas: Canvas
    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float] = (0.0, 1.0)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a pair of values."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return (
            self.left + (self.right - self.left) * (x - x0) / (x1 - x0),
            self.bottom - (self.bottom - self.top) * (y - y0) / (y1 - y0),
        )

    def axes(
        self,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
        names: tuple[str, str],
    ) -> None:
        """Draw ticks with lines across, and name both axes."""
        for value, told in y_ticks:
            _, y = self.at(self.x_range[0], value)
            self.canvas.line([(self.left, y), (self.right, y)], PALE)
            self.canvas.text(self.left - 6, y + 4, told, anchor="end", fill=SOFT)
        for value, told in x_ticks:
            x, _ = self.at(value, self.y_range[0])
            self.canvas.line([(x, self.bottom), (x, self.bottom + 4)], SOFT)
            self.canvas.text(x, self.bottom + 18, told, anchor="middle", fill=SOFT)
        self.canvas.line([(self.left, self.bottom), (self.right, self.bottom)], SOFT)
        middle = (self.left + self.right) / 2
        self.canvas.text(middle, self.bottom + 36, names[0], anchor="middle")
        self.canvas.text(self.left - 34, self.top - 10, names[1])


SHARES = tuple((i / 5, f"{i / 5:.1f}") for i in range(6))


def apart(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Return heights for labels, at least a line apart and near to where they are wanted.

    Args:
        wanted: Heights, in any order.
        low: Top of the room for them.
        high: Its bottom.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    at = low - TALL
    for i in order:
        at = placed[i] = max(wanted[i], at + TALL)
    at = high + TALL
    for i in reversed(order):
        at = placed[i] = min(placed[i], at - TALL)
    return placed


def points(title: str, values: Sequence[tuple[str, float, float]]) -> str:
    """Draw seconds (logarithmic) against quality, each point with its name at the right.

    Args:
        title: What it shows.
        values: Name, seconds and a quality from 0 to 1.
    """
    canvas = Canvas(760, 400, title)
    logs = [math.log10(max(seconds, 0.1)) for _, seconds, _ in values]
    high = max(1.0, math.ceil(max(logs)))
    plot = Plot(canvas, 50, 30, 590, 340, (-1.2, high))
    ticks = [(float(i), f"{10.0**i:g}") for i in range(-1, int(high) + 1)]
    ticks[0] = (-1.0, "0.1 or less")
    plot.axes(ticks, SHARES, ("processor seconds to fit", "AUPRC"))
    places = [plot.at(x, y) for x, (_, _, y) in zip(logs, values, strict=True)]
    heights = apart([y for _, y in places], 20, 360)
    for i, ((name, _, y), place, height) in enumerate(zip(values, places, heights, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        canvas.line([place, (606, height)], PALE)
        canvas.dot(*place, colour)
        canvas.text(610, height + 4, f"{name} {y:.3f}", fill=colour)
    return canvas.svg()


def curves(title: str, lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Draw precision along recall, each line with its name at the right.

    Args:
        title: What it shows.
        lines: Name, and precision at equal steps of recall up to 1.
    """
    canvas = Canvas(760, 400, title)
    plot = Plot(canvas, 50, 30, 590, 340, (0, 1))
    plot.axes(SHARES, SHARES, ("recall", "precision"))
    ends = [plot.at(1, line[-1])[1] for _, line in lines]
    for i, ((name, line), height) in enumerate(zip(lines, apart(ends, 20, 360), strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        drawn = [plot.at((j + 1) / len(line), value) for j, value in enumerate(line)]
        canvas.line([*drawn, (604, height)], colour, 1.8)
        canvas.text(608, height + 4, name, fill=colour)
    return canvas.svg()


def cells(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]]
) -> str:
    """Draw a table whose cells are the darker the nearer their value is to 1.

    Args:
        title: What it shows.
        columns: Their names, a line break between the lines of one.
        rows: Name, and a value from 0 to 1 for each column; None for none.
    """
    wide, tall, left, top = 78, 24, 150, 60
    canvas = Canvas(left + wide * len(columns) + 10, top + tall * len(rows) + 10, title)
    for i, name in enumerate(columns):
        for j, part in enumerate(reversed(name.split("\n"))):
            canvas.text(left + wide * (i + 0.5), top - 8 - j * 14, part, anchor="middle", fill=SOFT)
    for j, (name, values) in enumerate(rows):
        y = top + tall * j
        canvas.text(left - 8, y + 16, name, anchor="end")
        for i, value in enumerate(values):
            shade = shaded(value)
            canvas.box((left + wide * i + 1, y + 1), (wide - 2, tall - 2), shade)
            told = "-" if value is None else f"{value:.2f}"
            ink = "#ffffff" if value is not None and value > 0.55 else INK
            canvas.text(left + wide * (i + 0.5), y + 16, told, anchor="middle", fill=ink)
    return canvas.svg()


def shaded(value: float | None) -> str:
    """Return a colour between white and blue."""
    if value is None:
        return "#f4f6f8"
    low, high = (0xEE, 0xF4, 0xFB), (0x00, 0x4E, 0x8A)
    mixed = (round(a + (b - a) * min(max(value, 0), 1)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def bars(title: str, rows: Sequence[tuple[str, float, float]], chance: tuple[float, float]) -> str:
    """Draw two shares for each name, and where chance lies.

    Args:
        title: What it shows.
        rows: Name, share of first hits, share of hits among three.
        chance: The same two by chance.
    """
    tall, left, top = 30, 150, 44
    canvas = Canvas(700, top + tall * len(rows) + 30, title)
    bottom = top + tall * len(rows)
    plot = Plot(canvas, left, top, 640, bottom, (0, 1))
    for value, told in SHARES:
        x, _ = plot.at(value, 0)
        canvas.line([(x, top), (x, bottom)], PALE)
        canvas.text(x, bottom + 18, told, anchor="middle", fill=SOFT)
    for j, (name, *shares) in enumerate(rows):
        y = top + tall * j + 4
        canvas.text(left - 8, y + 15, name, anchor="end")
        for k, (share, colour) in enumerate(zip(shares, COLOURS, strict=False)):
            canvas.box((left, y + 11 * k), (plot.at(share, 0)[0] - left, 10), colour)
    for k, (share, told) in enumerate(zip(chance, ("first", "first three"), strict=True)):
        x, _ = plot.at(share, 0)
        canvas.line([(x, top - 4), (x, bottom)], COLOURS[k])
        canvas.box((left + 240 * k, 14), (10, 10), COLOURS[k])
        canvas.text(left + 240 * k + 15, 23, f"{told} (by chance {share:.2f}, the line)")
    return canvas.svg()


def histograms(
    title: str, rows: Sequence[tuple[str, Sequence[int], Sequence[int], float | None]]
) -> str:
    """Draw, one below another, how two classes are spread over bins, on a logarithmic scale.

    Args:
        title: What it shows.
        rows: Name, counts of normal and of anomalous sequences, and where the threshold is, as a
            share of the bins; None for nowhere.
    """
    tall, left, top, right = 52, 150, 34, 690
    canvas = Canvas(700, top + tall * len(rows) + 24, title)
    for k, (told, colour) in enumerate((("normal", NORMAL), ("anomalous", ODD))):
        canvas.box((left + 110 * k, 10), (10, 10), colour)
        canvas.text(left + 110 * k + 15, 19, told)
    canvas.text(left + 240, 19, "dark: the threshold", fill=SOFT)
    for j, (name, normal, odd, threshold) in enumerate(rows):
        middle = top + tall * j + tall / 2
        canvas.text(left - 8, middle + 4, name, anchor="end")
        wide = (right - left) / len(normal)
        for counts, colour, way in ((normal, NORMAL, -1), (odd, ODD, 1)):
            for i, height in enumerate(logarithmic(counts)):
                if height:
                    size = height * (tall / 2 - 3)
                    y = middle - size if way < 0 else middle
                    canvas.box((left + wide * i, y), (wide - 0.5, size), colour)
        canvas.line([(left, middle), (right, middle)], SOFT, 0.5)
        if threshold is not None:
            x = left + (right - left) * threshold
            canvas.line([(x, middle - tall / 2 + 2), (x, middle + tall / 2 - 2)], INK, 1.5)
    canvas.text(left, canvas.height - 8, "low scores", fill=SOFT)
    canvas.text(right, canvas.height - 8, "high scores", anchor="end", fill=SOFT)
    return canvas.svg()


def logarithmic(counts: Sequence[int]) -> list[float]:
    """Return heights from 0 to 1: of a share by its logarithm, half of one in all is 0."""
    total = max(sum(counts), 1)
    floor = math.log10(0.5 / total)
    return [1 - math.log10(n / total) / floor if n else 0.0 for n in counts]
