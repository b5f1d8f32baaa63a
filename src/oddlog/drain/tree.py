"""Drain's fixed-depth tree over tuples of tokens (He et al., ICWS 2017, section III).

A message goes down by its number of tokens, then by its first ``depth - 3`` tokens (``depth``
counts the root, the length, the tokens and the leaf). In the leaf it joins the template with the
most equal tokens, if enough are equal; what differs becomes a wildcard. Otherwise it founds one.

The paper compares a message with every template of the leaf. Here a leaf of few templates does the
same, and a crowded one compares with all of them at once in a matrix of token codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

WILDCARD = "<*>"
Tokens = tuple[str | None, ...]
"""A template: constants, and None where any token may stand. None is equal to no token of a
message, not even to a ``<*>`` that was logged, which is how the paper counts similarity."""

CROWDED = 16  # templates; from here on one numpy comparison is faster than a loop (measured)
_ANY, _UNKNOWN = -1, -2


def template_of(tokens: list[str] | tuple[str, ...]) -> Tokens:
    """Return the template that a message founds; a ``<*>`` in it is a wildcard."""
    return tuple(None if token == WILDCARD else token for token in tokens)


def text_of(template: Tokens) -> str:
    """Return a template as people read it, the wildcards as ``<*>``."""
    return " ".join(WILDCARD if token is None else token for token in template)


class Leaf:
    """The templates that share a length and the first tokens."""

    __slots__ = ("constants", "ids", "matrix", "templates")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.templates: list[Tokens] = []
        self.constants: list[int] = []
        self.matrix: NDArray[np.int32] | None = None  # (n_tokens, capacity) codes

    def add(self, template_id: int, template: Tokens, codes: dict[str, int]) -> None:
        """Append a template; ``codes`` are the tree's."""
        self.ids.append(template_id)
        self.templates.append(template)
        self.constants.append(sum(token is not None for token in template))
        if len(self.ids) > CROWDED:
            self._write(len(self.ids) - 1, codes)

    def _write(self, position: int, codes: dict[str, int]) -> None:
        if self.matrix is None or position == self.matrix.shape[1]:
            grown = np.full((len(self.templates[0]), 2 * position), _UNKNOWN, dtype=np.int32)
            if self.matrix is not None:
                grown[:, :position] = self.matrix
            rewrite = range(position + 1) if self.matrix is None else (position,)
            self.matrix = grown
        else:
            rewrite = (position,)
        for column in rewrite:
            self.matrix[:, column] = [
                _ANY if token is None else codes.setdefault(token, len(codes))
                for token in self.templates[column]
            ]

    def closest(self, tokens: tuple[str, ...], codes: dict[str, int]) -> tuple[int, int]:
        """Return the position of the most similar template and how many tokens are equal.

        Of equally similar ones the one with more wildcards, then the oldest, as in the paper's
        reference implementation.
        """
        if self.matrix is None:
            return self._closest_of_few(tokens)
        row = np.fromiter((codes.get(t, _UNKNOWN - 1) for t in tokens), np.int32, len(tokens))
        n = len(self.ids)
        equal = (self.matrix[:, :n] == row[:, None]).sum(axis=0, dtype=np.int32)
        most = int(equal.max())
        ties = np.flatnonzero(equal == most)
        return min(ties.tolist(), key=self.constants.__getitem__), most

    def _closest_of_few(self, tokens: tuple[str, ...]) -> tuple[int, int]:
        best, most = 0, -1
        for position, template in enumerate(self.templates):
            equal = sum(map(eq, template, tokens))
            if equal > most or (equal == most and self.constants[position] < self.constants[best]):
                best, most = position, equal
        return best, most

    def generalise(self, position: int, tokens: tuple[str, ...], codes: dict[str, int]) -> None:
        """Keep the tokens that the template and the message share; the others become wildcards."""
        template = self.templates[position]
        merged = tuple(a if a == b else None for a, b in zip(template, tokens, strict=True))
        self.templates[position] = merged
        self.constants[position] = sum(token is not None for token in merged)
        if self.matrix is not None:
            self._write(position, codes)


class Node:
    """An inner node or a leaf of the tree."""

    __slots__ = ("children", "leaf")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.leaf = Leaf()


class Tree:
    """Drain: ids 0, 1, 2, ... in the order in which templates are founded.

    Args:
        depth: Levels of the tree, root, length and leaf included; at least 3.
        similarity: Least share of equal tokens to join a template, 0 to 1.
        max_children: Most branches of a node, the wildcard's included.
        max_templates: No template is founded beyond this many.

    Attributes:
        n_changes: Templates founded, and times that one was made more general.
    """

    def __init__(self, depth: int, similarity: float, max_children: int, max_templates: int):
        self._depth = depth
        self._similarity = similarity
        self._max_children = max_children
        self._max_templates = max_templates
        self._root: dict[int, Node] = {}
        self._where: list[tuple[Leaf, int]] = []  # template id -> leaf, position in it
        self.n_changes = 0
        self._codes: dict[str, int] = {}  # tokens of crowded leaves; shared, only grows with them

    def __len__(self) -> int:
        return len(self._where)

    def template(self, template_id: int) -> Tokens:
        """Return a template as it is now."""
        leaf, position = self._where[template_id]
        return leaf.templates[position]

    def learn(self, tokens: tuple[str, ...]) -> int | None:
        """Let a message join or found a template; return its id, None if there is no room."""
        leaf = self._find(tokens)
        if leaf is not None and leaf.ids:
            if not tokens:
                return leaf.ids[0]
            position, equal = leaf.closest(tokens, self._codes)
            if equal / len(tokens) >= self._similarity:
                if equal < leaf.constants[position]:
                    self.n_changes += 1
                    leaf.generalise(position, tokens, self._codes)
                return leaf.ids[position]
        if len(self) >= self._max_templates:
            return None
        return self._found(tokens)

    def state(self) -> list[dict[str, Any]]:
        """Return each leaf as plain values: its length, the branches to it, ids and templates."""
        found = []
        for length, root in self._root.items():
            below: list[tuple[list[str], Node]] = [([], root)]
            while below:
                path, node = below.pop()
                below += [([*path, token], child) for token, child in node.children.items()]
                ids, templates = list(node.leaf.ids), [list(t) for t in node.leaf.templates]
                found.append({"length": length, "path": path, "ids": ids, "templates": templates})
        return sorted(found, key=lambda leaf: (leaf["length"], leaf["path"]))

    def load(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Take up what ``state`` described, into a tree that has learned nothing."""
        self._where = [(Leaf(), 0)] * sum(len(item["ids"]) for item in state)
        for item in state:
            node = self._root.setdefault(item["length"], Node())
            for token in item["path"]:
                node = node.children.setdefault(token, Node())
            for position, (number, tokens) in enumerate(
                zip(item["ids"], item["templates"], strict=True)
            ):
                self._where[number] = (node.leaf, position)
                node.leaf.add(number, tuple(tokens), self._codes)

    def _levels(self, tokens: tuple[str, ...]) -> tuple[str, ...]:
        """Return the tokens that choose branches: never the last one (section III-C)."""
        return tokens[: max(min(self._depth - 3, len(tokens) - 1), 0)]

    def _find(self, tokens: tuple[str, ...]) -> Leaf | None:
        node = self._root.get(len(tokens))
        for token in self._levels(tokens):
            if node is None:
                return None
            node = node.children.get(token) or node.children.get(WILDCARD)
        return None if node is None else node.leaf

    def _found(self, tokens: tuple[str, ...]) -> int:
        node = self._root.setdefault(len(tokens), Node())
        for token in self._levels(tokens):
            node = node.children.setdefault(self._branch(node.children, token), Node())
        template_id = len(self)
        self.n_changes += 1
        self._where.append((node.leaf, len(node.leaf.ids)))
        node.leaf.add(template_id, template_of(tokens), self._codes)
        return template_id

    def _branch(self, children: dict[str, Node], token: str) -> str:
        """Name the branch for a new template: tokens with a digit never get one of their own."""
        if token in children:
            return token
        reserved = WILDCARD not in children  # the last free place is the wildcard's
        full = len(children) + reserved >= self._max_children
        return WILDCARD if full or any(map(str.isdigit, token)) else token
