"""Figures as cells of a table, tables as Markdown, and Markdown between the marks of a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

from oddlog.errors import ConfigError


def spread(values: Iterable[float | None], digits: int = 3) -> str:
    """Return mean and standard deviation of what is known, "-" of nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{mean(known):.{digits}f} ± {stdev(known):.{digits}f}"


def span(values: Iterable[float], digits: int = 3) -> str:
    """Return mean and range."""
    known = list(values)
    return f"{mean(known):.{digits}f} ({min(known):.{digits}f}-{max(known):.{digits}f})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)


def insert(document: Path, name: str, text: str) -> None:
    """Put text between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Raises:
        ConfigError: The document has no such marks.
    """
    before, begin, rest = document.read_text().partition(f"<!-- {name}:begin -->")
    _, end, after = rest.partition(f"<!-- {name}:end -->")
    if not end:
        raise ConfigError(f"{document}: no marks <!-- {name}:begin --> and <!-- {name}:end -->")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")
