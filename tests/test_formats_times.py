"""Times: every usual form, years that are not written, and what is no time."""

from datetime import UTC, datetime

import polars as pl
import pytest

from oddlog.formats.times import parse_times

REFERENCE = datetime(2024, 1, 5, tzinfo=UTC)


def parse(text: str, *formats: str, reference: datetime | None = REFERENCE) -> datetime | None:
    return parse_times(pl.Series([text]), formats or ("any",), reference).item()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02 03:04:05"),
        ("2024-01-02 03:04:05,678", "2024-01-02 03:04:05.678"),
        ("2024-01-02 03:04:05.123456789", "2024-01-02 03:04:05.123456"),
        ("2024-01-02T03:04:05+05:30", "2024-01-01 21:34:05"),
        ("2024-01-02T03:04:05.5-0800", "2024-01-02 11:04:05.500"),
        ("2024/1/2 3:04:05 GMT", "2024-01-02 03:04:05"),
        ("20240102T030405Z", "2024-01-02 03:04:05"),
        ("24/01/02 03:04:05", "2024-01-02 03:04:05"),
        ("1704164645", "2024-01-02 03:04:05"),
        ("1704164645.25", "2024-01-02 03:04:05.250"),
        ("1704164645678", "2024-01-02 03:04:05.678"),
        ("1704164645678901", "2024-01-02 03:04:05.678901"),
        ("1704164645678901234", "2024-01-02 03:04:05.678901"),
    ],
)
def test_usual_times_are_understood(text: str, wanted: str) -> None:
    assert parse(text) == at(wanted)


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01 00:00:00", "99999999999999999999"])
def test_what_is_no_time_is_null(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Jan  4 10:00:00", "2024-01-04 10:00:00"),
        ("Jan  5 23:00:00", "2024-01-05 23:00:00"),  # within a day after
        ("Jan  7 00:00:00", "2023-01-07 00:00:00"),
        ("Dec 31 23:59:59", "2023-12-31 23:59:59"),
        ("Feb 29 00:00:00", "2020-02-29 00:00:00"),
    ],
)
def test_a_missing_year_is_the_latest_not_a_day_after_the_reference(text: str, wanted: str) -> None:
    assert parse(text, "%b %d %H:%M:%S%.f") == at(wanted)


def test_no_year_fits_a_day_that_no_year_has() -> None:
    assert parse("Feb 30 00:00:00", "%b %d %H:%M:%S%.f") is None


def test_without_a_reference_a_time_without_a_year_is_null() -> None:
    assert parse("Jan  4 10:00:00", "%b %d %H:%M:%S%.f", reference=None) is None


def test_each_line_may_have_its_own_form() -> None:
    texts = pl.Series(["1704164645", None, "2024-01-02 03:04:05", "x"])
    wanted = at("2024-01-02 03:04:05")
    assert parse_times(texts, ("any",), None).to_list() == [wanted, None, wanted, None]
