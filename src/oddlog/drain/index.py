"""Which learned template covers a message: every constant equal, any token at a wildcard.

Drain's own walk with its similarity threshold is for learning. Used on a frozen tree it would let
a new error message that shares half its tokens with a template pass as that template, and it can
miss the template that a message was learned into: a branch founded later hides the wildcard branch
in which the message sits, and a template that joined it may have lost the tokens they shared. So
matching is exact, and complete: it looks at every template of the message's length whose first
token is the message's or a wildcard. drain3 calls its choices "never" (the walk alone, which can
miss), "fallback" (a scan of the length when the walk misses, which may prefer a vague template) and
"always" (a scan of the length each time, most specific wins). This gives the answer of "always"
without a scan: one dictionary look-up for each set of wildcard places that occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from oddlog.drain.tree import Tokens

Pick = Callable[[Tokens], Any]


class Shape(NamedTuple):
    """Templates of one length with wildcards in the same places."""

    n_constants: int
    pick: Pick  # the constants of a template, or what stands in their places in a message
    ids: dict[Any, int]


class Index:
    """Templates by length, first token and places of wildcards.

    Args:
        templates: Template id to tokens. Of equal templates the lowest id counts.
    """

    def __init__(self, templates: Mapping[int, Tokens]) -> None:
        places: dict[tuple[int, str | None], dict[tuple[int, ...], dict[int, Tokens]]] = {}
        for template_id, tokens in sorted(templates.items()):
            constants = tuple(i for i, token in enumerate(tokens) if token is not None)
            group = places.setdefault((len(tokens), tokens[0] if tokens else None), {})
            group.setdefault(constants, {})[template_id] = tokens
        self._groups = {
            key: sorted((_shape(*item) for item in group.items()), key=lambda s: -s.n_constants)
            for key, group in places.items()
        }

    def find(self, tokens: tuple[str, ...]) -> int | None:
        """Return the most specific template that covers a message, the oldest of equals."""
        found, most = None, -1
        for first in (tokens[0], None) if tokens else (None,):
            for shape in self._groups.get((len(tokens), first), ()):
                if shape.n_constants < most:
                    break
                template_id = shape.ids.get(shape.pick(tokens))
                if template_id is None:
                    continue
                if found is None or shape.n_constants > most or template_id < found:
                    found, most = template_id, shape.n_constants
        return found


def _shape(constants: tuple[int, ...], templates: dict[int, Tokens]) -> Shape:
    pick: Pick = itemgetter(*constants) if constants else _nothing
    ids: dict[Any, int] = {}
    for template_id, tokens in templates.items():
        ids.setdefault(pick(tokens), template_id)
    return Shape(len(constants), pick, ids)


def _nothing(tokens: Tokens) -> tuple[()]:
    return ()
