"""Times as text to ``Datetime("us", "UTC")``, a whole column at once.

A time without a zone is taken as UTC. A time without a year gets the latest year that does not put
it more than a day after a reference time, which is the caller's: the file's own time of change, not
the clock. Each line is judged alone, so that a file read in pieces gives the same times.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

UTC_TIME = pl.Datetime("us", "UTC")
SLACK = timedelta(days=1)  # clocks and zones: a line may seem written after its file
LEAP_CYCLE = 8  # years between two 29 Februaries, at most (1896-1904, 2096-2104)
ANY = (
    "iso",
    "%b %d %H:%M:%S%.f",
    "%y/%m/%d %H:%M:%S%.f",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a %b %d %H:%M:%S%.f %Y",
    "%d-%b-%Y %H:%M:%S%.f",
    "%d %b %Y %H:%M:%S%.f",
    "%m-%d %H:%M:%S%.f",
    "%m.%d %H:%M:%S%.f",
    "epoch",
)
_ISO = (
    r"^(?P<year>[0-9]{4})[-/.]?(?P<month>[0-9]{1,2})[-/.]?(?P<day>[0-9]{1,2})"
    r"(?:[T _-]|, ?)?(?P<hour>[0-9]{1,2}):?(?P<minute>[0-9]{1,2}):?(?P<second>[0-9]{1,2})"
    r"(?:(?P<mark>[.,:])(?P<fraction>[0-9]+))? ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?$"
)


def parse_times(texts: pl.Series, formats: Sequence[str], reference: datetime | None) -> pl.Series:
    """Return (n,) Datetime("us", "UTC"); null where no format fits.

    Args:
        texts: (n,) String.
        formats: chrono formats, tried in order on what is left; "iso" stands for ISO 8601 and its
            usual variants, "epoch" for seconds, milli-, micro- or nanoseconds since 1970 (told
            apart by the number of digits), "any" for all of ``ANY``.
        reference: Time with a zone about which a time without a year is placed; None leaves it
            null.
    """
    if texts.null_count() == len(texts):
        return pl.Series("time", [None], pl.Datetime("us", "UTC")).new_from_index(0, len(texts))
    values = np.full(len(texts), np.datetime64("NaT"), dtype="datetime64[us]")
    todo = np.flatnonzero(texts.is_not_null().to_numpy())
    for name in [f for given in formats for f in (ANY if given == "any" else (given,))]:
        if not len(todo):
            break
        left = texts if len(todo) == len(texts) else texts.gather(todo)
        values[todo] = _parse(left, name, reference)
        todo = todo[np.isnat(values[todo])]
    return pl.Series("time", values).dt.replace_time_zone("UTC")


def _parse(texts: pl.Series, name: str, reference: datetime | None) -> NDArray[np.datetime64]:
    if name == "epoch":
        parsed = _epoch(texts)
    elif name == "iso":
        return _iso(texts)
    elif "%Y" in name or "%y" in name:
        parsed = _chrono(texts, name)
    else:
        return _without_year(texts, name, reference)
    return _values(parsed)


def _values(times: pl.Series) -> NDArray[np.datetime64]:
    return times.to_physical().cast(pl.Datetime("us")).to_numpy(writable=True)


def _chrono(texts: pl.Series, name: str) -> pl.Series:
    # exact, not strict: what does not fit is null, and the caller counts it
    return texts.str.to_datetime(name, time_unit="us", strict=False)


def _iso(texts: pl.Series) -> NDArray[np.datetime64]:
    plain = texts.str.replace(",", ".", literal=True)
    values = _values(_chrono(plain, "%Y-%m-%d %H:%M:%S%.f"))
    todo = np.flatnonzero(np.isnat(values))
    if len(todo):
        values[todo] = _values(_iso_variants(texts.gather(todo)))
    return values


def _iso_variants(texts: pl.Series) -> pl.Series:
    parts = texts.str.extract_groups(_ISO).struct.unnest()
    # after a colon the digits are milliseconds, not a fraction: 0:28:0:83 is 83 ms
    fraction = (
        pl.when(pl.col("mark") == ":")
        .then(pl.col("fraction").str.zfill(3))
        .otherwise(pl.col("fraction"))
        .fill_null("0")
    )
    zone = pl.col("zone").replace(["Z", "UTC", "GMT"], "+00:00").fill_null("+00:00")
    names = ("year", "month", "day", "hour", "minute", "second")
    joined = parts.select(
        time=pl.format(
            "{}-{}-{} {}:{}:{}.{}{}", *(pl.col(n).str.zfill(2) for n in names), fraction, zone
        )
    )
    return _chrono(joined.to_series(), "%Y-%m-%d %H:%M:%S%.f%#z")


def _epoch(texts: pl.Series) -> pl.Series:
    parts = texts.str.extract_groups(r"^(?P<whole>[0-9]{1,19})(?:\.(?P<part>[0-9]+))?$")
    digits = pl.col("whole").str.len_chars()
    whole = pl.col("whole").cast(pl.Int64, strict=False)
    micros = pl.col("part").fill_null("").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64)
    scaled = (
        pl.when(digits <= 11)
        .then(whole * 1_000_000 + micros)
        .when(digits <= 14)
        .then(whole * 1_000)
        .when(digits <= 17)
        .then(whole)
        .otherwise(whole // 1_000)
    )
    return parts.struct.unnest().select(scaled.cast(pl.Datetime("us"))).to_series()


def _without_year(
    texts: pl.Series, name: str, reference: datetime | None
) -> NDArray[np.datetime64]:
    values = np.full(len(texts), np.datetime64("NaT"), dtype="datetime64[us]")
    if reference is None:
        return values
    latest = reference + SLACK
    limit = np.datetime64(int(latest.timestamp() * 1e6), "us")
    plain = texts.str.replace(",", ".", literal=True)
    todo = np.arange(len(texts))
    for year in range(latest.year, latest.year - LEAP_CYCLE - 1, -1):
        if not len(todo):
            break
        dated = pl.Series([f"{year} "]).new_from_index(0, len(todo)) + plain.gather(todo)
        found = _values(_chrono(dated, f"%Y {name}"))
        found[found > limit] = np.datetime64("NaT")
        values[todo] = found
        todo = todo[np.isnat(found)]
    return values
