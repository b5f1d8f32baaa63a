"""Decision trees as plain arrays, walked by whole batches of rows.

A row goes left where its count is at most the node's threshold. scikit-learn grows the trees; what
it has grown is stored and walked without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog.vectors import Rows

LEAF = -1


@dataclass(frozen=True, eq=False)
class Trees:
    """T trees with all their nodes in one table.

    Attributes:
        roots: (T,) int64 node at which each tree begins.
        left: (nodes,) int64 node for counts up to the threshold; ``LEAF`` at a leaf.
        right: (nodes,) int64 node for the others.
        column: (nodes,) int64 which count is asked for; 0 at a leaf.
        threshold: (nodes,) float64.
    """

    roots: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: NDArray[np.float64]

    def __post_init__(self) -> None:
        n = len(self.left)
        if {len(self.right), len(self.column), len(self.threshold)} != {n} or not len(self.roots):
            raise ValueError("tables of nodes of different lengths")
        inner = np.flatnonzero(self.left != LEAF)
        after = np.stack([self.left[inner], self.right[inner]])
        # Children stand behind their parents: no walk can go round in a circle.
        if self.roots.max() >= n or (after <= inner).any() or after.max(initial=0) >= n:
            raise ValueError("a node of a tree leads nowhere")

    @staticmethod
    def of(fitted: Sequence[Any]) -> Trees:
        """Take the nodes of scikit-learn's fitted trees (their ``tree_``)."""
        sizes = [tree.node_count for tree in fitted]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        leaf = np.concatenate([tree.children_left < 0 for tree in fitted])
        first = np.repeat(roots, sizes)

        def table(name: str) -> NDArray:
            return np.concatenate([getattr(tree, name) for tree in fitted])

        return Trees(
            roots=roots,
            left=np.where(leaf, LEAF, table("children_left") + first),
            right=np.where(leaf, LEAF, table("children_right") + first),
            column=np.where(leaf, 0, table("feature")).astype(np.int64),
            threshold=table("threshold").astype(np.float64),
        )

    def leaves(self, rows: Rows) -> NDArray[np.int64]:
        """Return (rows, T) the leaf at which each row ends in each tree."""
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        row = np.arange(len(rows))[:, None]
        while (inner := self.left[node] != LEAF).any():
            goes_left = rows[row, self.column[node]] <= self.threshold[node]
            child = np.where(goes_left, self.left[node], self.right[node])
            node = np.where(inner, child, node)
        return node
