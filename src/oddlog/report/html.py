"""The page as HTML: escaping by construction, and a policy under which nothing of a log can act.

Every value that a template writes goes through ``shown``; there is no way around it but ``Markup``,
which only this module makes, from the package's own style and script. The page's Content Security
Policy lets in that style and that script by their hashes, and nothing else from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from markupsafe import escape as escape_html

from oddlog.visible import cut, escape

TINY = 1e-4  # a score below it is what ``findings.TOLERANCE`` leaves of 0
N_SHORT = 200  # characters of a name or a template


def page(values: Mapping[str, Any]) -> str:
    """Return the whole page for the values that its template names."""
    style, script = _asset("style.css"), _asset("script.js")
    return (
        environment("oddlog.report")
        .get_template("page.html.jinja")
        .render(
            **values,
            style=Markup(style),  # noqa: S704 -- our own file
            script=Markup(script),  # noqa: S704 -- our own file
            policy=policy(style, script),
        )
    )


def policy(style: str, script: str) -> str:
    """Return the policy that lets in one style and one script, by hash, and nothing else.

    ``require-trusted-types-for`` takes away from that script, too, every way to make HTML of text.
    """
    return (
        "default-src 'none'; "
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def shown(value: Any) -> Any:
    r"""Return text as HTML that shows what it holds; anything else as it is.

    What is not printable is spelled out and set apart, so that an escape character differs from the
    characters ``\x1b``; the lines of an event stay lines.

    Example:
        >>> shown("<b>\x1b[31m")
        Markup('&lt;b&gt;<i>\\x1b</i>[31m')
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if value.isprintable():
        return escape_html(value)
    return Markup("").join(
        escape_html("".join(run)) if plain else _spelled_out("".join(run))
        for plain, run in groupby(value, key=lambda char: char.isprintable() or char == "\n")
    )


def plain(value: object) -> Markup:
    """Return text for an attribute or a title, where no element may stand."""
    return escape_html(escape(str(value)))


def _spelled_out(text: str) -> Markup:
    return Markup("<i>{}</i>").format(escape(text))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _asset(name: str) -> str:
    return files("oddlog.report").joinpath("page", name).read_text(encoding="utf-8")


@cache
def environment(*packages: str) -> Environment:
    """Return the environment of templates in the folders ``page`` of packages, the first first."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "page") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": plain,
        "count": lambda n: f"{n:,}",
        "number": lambda x: f"{x:.3g}" if abs(x) >= TINY else "0",
        "probability": lambda x: f"{x:.2g}",
        "percent": _percent,
        "rate": lambda x: f"{100 * x:.3g} %",
        "about": lambda x: f"{x:,.0f}" if x >= 10 else f"{x:.2g}",
        "at": lambda x: f"{x:.3f}".rstrip("0").rstrip("."),
        "clock": _clock,
        "shorten": lambda text: cut(text, N_SHORT)[0],
    }
    return environment


def _percent(share: float) -> str:
    """Return a share as per cent, with digits enough to tell it from 0 and from 100."""
    text = f"{100 * share:.2g}" if share < 0.0995 else f"{100 * share:.0f}"
    if share < 1 and text == "100":
        text = f"{min(100 * share, 99.99):.2f}".rstrip("0")
    return f"{text} %"


def _clock(time: Any) -> str:
    return "" if time is None else str(time)[:19]
