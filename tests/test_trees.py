import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from oddlog.trees import LEAF, Trees

HAND = {
    "roots": np.array([0, 3]),
    "left": np.array([1, LEAF, LEAF, LEAF]),
    "right": np.array([2, LEAF, LEAF, LEAF]),
    "column": np.array([1, 0, 0, 0]),
    "threshold": np.array([2.5, 0, 0, 0]),
}


def test_a_row_goes_left_up_to_the_threshold_and_a_lone_root_is_a_leaf():
    rows = np.array([[9, 2], [0, 3]])
    assert Trees(**HAND).leaves(rows).tolist() == [[1, 3], [2, 3]]


def test_no_rows_end_nowhere():
    assert Trees(**HAND).leaves(np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)


def test_leaves_are_scikit_learns():
    dice = np.random.default_rng(0)
    rows = dice.integers(0, 6, (200, 5))
    trees = [
        DecisionTreeRegressor(max_depth=depth, random_state=0).fit(rows, dice.random(200)).tree_
        for depth in (1, 4, None)
    ]
    found = Trees.of(trees)
    expected = [tree.apply(rows.astype(np.float32)) for tree in trees]
    assert (found.leaves(rows) - found.roots).T.tolist() == np.array(expected).tolist()


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("left", [1, LEAF, LEAF]),
        ("right", [4, LEAF, LEAF, LEAF]),
        ("left", [0, LEAF, LEAF, LEAF]),
        ("roots", [4]),
        ("roots", []),
    ],
)
def test_nodes_that_lead_nowhere_are_refused(table, values):
    with pytest.raises(ValueError, match=r"node"):
        Trees(**HAND | {table: np.array(values, dtype=np.int64)})
