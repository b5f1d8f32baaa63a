"""The window rule: how a log is cut, as settings and as the short text of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from oddlog.config import Config, build
from oddlog.errors import ConfigError

MICROSECONDS = 1_000_000  # in a second; times are whole microseconds
EXAMPLES = "session, lines:100, lines:100/50, time:60s, time:60s/30s, session,gap=30m"
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")

Amount = Annotated[int | float, Field(gt=0, le=1e10, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=1e-6, le=1e10, allow_inf_nan=False)]


class Window(Config):
    """How to cut a log into windows; see ``oddlog.group`` for what each rule means.

    Attributes:
        by: Cut by session id, by a number of lines, or by time.
        size: Length of a window: events for lines, seconds for time; None for sessions.
        step: From one window's beginning to the next one's; ``size`` where it is left out, so
            that windows do not overlap.
        per: Cut windows of lines and of time for each source or each host (an event without a
            host counts to its source).
        gap_s: Seconds of silence after which a session has ended.
        age_s: Seconds that one window of a session may span.
        max_length: Events that one window of a session may hold.
    """

    by: Literal["session", "lines", "time"] = "session"
    size: Amount | None = None
    step: Amount | None = None
    per: Literal["source", "host"] = "source"
    gap_s: Seconds | None = None
    age_s: Seconds | None = None
    max_length: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _step_is_size(cls, settings: Any) -> Any:
        if isinstance(settings, Mapping) and settings.get("step") is None:
            return {**settings, "step": settings.get("size")}
        return settings

    @model_validator(mode="after")
    def _fits(self) -> Self:
        limits = (self.gap_s, self.age_s, self.max_length)
        if self.by == "session":
            if self.size is not None or self.step is not None or self.per != "source":
                raise ValueError("windows by session have no size, step or per")
            return self
        if any(limit is not None for limit in limits):
            raise ValueError(f"gap_s, age_s and max_length are for sessions, not for {self.by}")
        if self.size is None or self.step is None:
            raise ValueError(f"windows by {self.by} need a size")
        if self.step > self.size:
            raise ValueError(
                f"step {self.step:g} is larger than size {self.size:g}: events between two "
                "windows would be left out"
            )
        if self.by == "lines" and not (isinstance(self.size, int) and isinstance(self.step, int)):
            raise ValueError("windows of lines need whole numbers as size and step")
        if self.by == "time" and microseconds(self.step) < 1:
            raise ValueError("windows of time need a step of a microsecond or more")
        return self

    @property
    def clocked(self) -> bool:
        """Whether times decide where a window is cut."""
        return self.by == "time" or self.gap_s is not None or self.age_s is not None

    @property
    def span(self) -> tuple[int, int]:
        """(size, step) in events or in microseconds; (0, 0) for sessions."""
        if self.size is None or self.step is None:
            return 0, 0
        if self.by == "lines":
            return int(self.size), int(self.step)
        return microseconds(self.size), microseconds(self.step)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a rule from text; ``str`` gives the shortest such text back.

        A time has a unit: ms, s, m or h. What remains is added after commas: ``gap``, ``age`` and
        ``max`` for sessions, ``per`` for lines and time.

        Raises:
            ConfigError: The text is no window rule, or one that cannot hold.

        Example:
            >>> Window.parse("time:60s/30s").step
            30
            >>> str(Window.parse("session,gap=1800s,max=500"))
            'session,gap=30m,max=500'
        """
        head, *options = text.strip().split(",")
        kind, colon, amounts = head.partition(":")
        if kind not in ("session", "lines", "time") or bool(colon) == (kind == "session"):
            raise ConfigError(f"window {text!r}: not a window; write one like {EXAMPLES}")
        settings: dict[str, Any] = {"by": kind}
        if colon:
            size, slash, step = amounts.partition("/")
            settings["size"] = _amount(kind, size, text)
            if slash:
                settings["step"] = _amount(kind, step, text)
        for option in options:
            settings |= _option(option, text)
        return build(cls, settings, f"window {text!r}")

    def __str__(self) -> str:
        parts = [self.by]
        if self.size is not None and self.step is not None:
            show = str if self.by == "lines" else _duration
            parts[0] += f":{show(self.size)}"
            parts[0] += f"/{show(self.step)}" if self.step != self.size else ""
        parts += [f"per={self.per}"] if self.per != "source" else []
        parts += [f"gap={_duration(self.gap_s)}"] if self.gap_s is not None else []
        parts += [f"age={_duration(self.age_s)}"] if self.age_s is not None else []
        parts += [f"max={self.max_length}"] if self.max_length is not None else []
        return ",".join(parts)


def microseconds(seconds: float) -> int:
    """Return seconds as whole microseconds."""
    return round(seconds * MICROSECONDS)


def _amount(kind: str, written: str, text: str) -> int | float:
    if kind == "time":
        return _seconds(written, text)
    if not written.isdecimal():
        raise ConfigError(f"window {text!r}: {written!r} is no number of lines, such as 100")
    return int(written)


def _seconds(written: str, text: str) -> int | float:
    match = _DURATION.fullmatch(written)
    if match is None:
        raise ConfigError(f"window {text!r}: {written!r} is no time with a unit, such as 60s or 5m")
    total = round(float(match[1]) * _UNITS[match[2]])
    return total / MICROSECONDS if total % MICROSECONDS else total // MICROSECONDS


def _option(option: str, text: str) -> dict[str, Any]:
    name, _, value = option.strip().partition("=")
    if name in ("gap", "age"):
        return {f"{name}_s": _seconds(value, text)}
    if name == "per":
        return {"per": value}
    if name == "max" and value.isdecimal():
        return {"max_length": int(value)}
    raise ConfigError(
        f"window {text!r}: {option!r} is no option; there are gap=30m, age=6h, max=500, per=host"
    )


def _duration(seconds: float) -> str:
    total = microseconds(seconds)
    for unit, least in (("h", 1), ("m", 2)):  # a minute is written 60s
        count, rest = divmod(total, _UNITS[unit])
        if not rest and count >= least:
            return f"{count}{unit}"
    return f"{total / MICROSECONDS:.6f}".rstrip("0").rstrip(".") + "s"
