"""Drain: the algorithm beside drain3, exact matching, ids that stay, bounds and saved state."""

import csv
import json
import logging
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from drain3.drain import Drain
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.drain.index import Index
from oddlog.drain.tree import CROWDED, Tree, template_of
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.masks import Masks, mask, masks_for

SYSTEMS = (
    *("Android", "Apache", "BGL", "HDFS", "HPC", "Hadoop", "HealthApp", "Linux"),
    *("Mac", "OpenSSH", "OpenStack", "Proxifier", "Spark", "Thunderbird", "Windows", "Zookeeper"),
)
BARE = Masks(names=())  # Drain alone: messages go to the tree as they are
# Few words, so that random messages meet; a digit, a logged wildcard and different lengths.
WORDS = st.sampled_from(["a", "b", "c", "d", "x1", "<*>"])
MESSAGE = st.lists(WORDS, max_size=6).map(" ".join)
MESSAGES = st.lists(MESSAGE, max_size=40)
SETTINGS = st.builds(
    DrainConfig,
    depth=st.integers(3, 6),
    similarity=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    max_children=st.integers(1, 5),
    masks=st.just(BARE),
)
relaxed = settings(max_examples=60)


def column(messages):
    return pl.Series("message", messages, dtype=pl.String)


def learned(messages, config=None):
    templates = Templates(config or DrainConfig(masks=BARE))
    templates.learn(column(messages))
    return templates


def matched(templates, messages, novel=None):
    return templates.match(column(messages), novel or Novelties(templates.config)).to_list()


def drain3_ids(messages, config):
    drain = Drain(config.depth, config.similarity, config.max_children)
    return [drain.add_log_message(message)[0].cluster_id - 1 for message in messages]


# The algorithm


def test_unlike_tokens_become_a_wildcard_where_enough_are_equal():
    templates = learned(["send a to b", "send a to c"], DrainConfig(similarity=0.5, masks=BARE))
    assert (templates.n_templates, templates.text(0)) == (1, "send a to <*>")


def test_too_few_equal_tokens_found_a_second_template():
    # 2 of 4 tokens are equal: less than 0.7
    config = DrainConfig(depth=4, similarity=0.7, masks=BARE)
    assert learned(["send a to b", "send c to d"], config).ids() == [0, 1]


def test_the_most_similar_template_wins_over_an_older_one():
    config = DrainConfig(depth=4, similarity=0.5, masks=BARE)
    templates = learned(["s a b x y", "s c d e y"], config)
    assert templates.learn(column(["s a b z y"])).to_list() == [0]
    assert templates.text(1) == "s c d e y"


def test_messages_of_other_lengths_never_share_a_template():
    assert learned(["a b", "a b c"]).ids() == [0, 1]


def test_a_token_with_a_digit_shares_the_wildcard_branch():
    config = DrainConfig(depth=4, similarity=0.5, masks=BARE)
    assert learned(["t1 is up", "t2 is up"], config).text(0) == "<*> is up"


def test_branches_beyond_the_most_allowed_share_the_wildcard():
    config = DrainConfig(depth=4, similarity=0.5, max_children=2, masks=BARE)
    templates = learned(["a is up", "b is up", "c is up"], config)
    assert [templates.text(i) for i in templates.ids()] == ["a is up", "<*> is up"]


@settings(max_examples=300)
@given(MESSAGES, SETTINGS)
def test_the_tree_gives_every_message_the_id_that_drain3_gives(messages, config):
    tree = Tree(config.depth, config.similarity, config.max_children, config.max_templates)
    ours = [tree.learn(tuple(message.split())) for message in messages]
    assert ours == drain3_ids(messages, config)


@pytest.mark.parametrize("similarity", [0.4, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_a_crowded_leaf_gives_the_ids_that_drain3_gives(seed, similarity):
    words = np.array(["a", "b", "c", "d", "e", "f", "g", "x1", "<*>"])
    messages = np.random.default_rng(seed).choice(words, size=(600, 6)).tolist()
    tree = Tree(3, similarity, 100, 10_000)
    ours = [tree.learn(tuple(tokens)) for tokens in messages]
    config = DrainConfig(depth=3, similarity=similarity, masks=BARE)
    assert len(tree) > 2 * CROWDED
    assert ours == drain3_ids([" ".join(tokens) for tokens in messages], config)


@relaxed
@given(MESSAGES, SETTINGS)
def test_learning_a_column_is_drain_on_its_distinct_messages(messages, config):
    distinct = list(dict.fromkeys(messages))
    expected = dict(zip(distinct, drain3_ids(distinct, config), strict=True))
    ours = Templates(config).learn(column(messages)).to_list()
    assert ours == [expected[message] for message in messages]


def test_drain_itself_may_split_a_message_from_its_repeat():
    # Why distinct messages go in once. "a b c d" joins the wildcard branch of "5 b c d"; then
    # "a x y z" opens a branch for "a", in which the repeat of "a b c d" finds nothing alike.
    messages = ["5 b c d", "a b c d", "a x y z", "a b c d"]
    config = DrainConfig(depth=4, similarity=0.5, masks=BARE)
    assert drain3_ids(messages, config) == [0, 0, 1, 2]
    assert Templates(config).learn(column(messages)).to_list() == [0, 0, 1, 0]


# Chunks, counts, examples


@relaxed
@given(MESSAGES, SETTINGS, st.integers(0, 40))
def test_how_a_log_is_cut_into_chunks_changes_nothing(messages, config, cut):
    whole, parts = Templates(config), Templates(config)
    ids = whole.learn(column(messages)).to_list()
    in_parts = [
        *parts.learn(column(messages[:cut])).to_list(),
        *parts.learn(column(messages[cut:])).to_list(),
    ]
    assert (in_parts, parts.to_json()) == (ids, whole.to_json())


def test_learned_ids_are_int32_in_line_order():
    ids = Templates(DrainConfig()).learn(column(["b 1", "a c", "b 2", None]))
    assert (ids.dtype, ids.to_list()) == (pl.Int32, [0, 1, 0, 2])


def test_counts_are_lines_and_examples_are_the_first_as_logged():
    templates = Templates(DrainConfig())
    templates.learn(column(["lost 10.0.0.1", "up", "lost 10.0.0.2"]))
    templates.learn(column(["lost 10.0.0.3"]))
    assert (templates.count(0), templates.count(1)) == (3, 1)
    assert templates.example(0) == "lost 10.0.0.1"


def test_the_table_lists_the_most_frequent_first():
    table = learned(["up", "down now", "down now"]).table()
    assert table.rows() == [(1, 2, "down now", "down now"), (0, 1, "up", "up")]


# Matching


@relaxed
@given(MESSAGES, SETTINGS)
@example(["5 b c d", "a b c d", "a x y z"], DrainConfig(depth=4, similarity=0.5, masks=BARE))
def test_nothing_that_was_learned_is_ever_novel(messages, config):
    templates = learned(["a", *messages], config)
    templates.freeze()
    novel = Novelties(config)
    assert min(matched(templates, messages, novel), default=0) >= 0
    assert novel.n_templates == 0


@relaxed
@given(MESSAGES, MESSAGES, SETTINGS)
def test_later_learning_leaves_nothing_learned_novel(first, later, config):
    templates = learned(["a", *first], config)
    templates.learn(column(later))
    assert min(matched(templates, first), default=0) >= 0


@relaxed
@given(MESSAGES, MESSAGES, SETTINGS)
def test_a_message_matches_the_most_specific_template_that_covers_it(messages, others, config):
    templates = learned(["a", *messages], config)
    texts = {i: templates.text(i).split() for i in templates.ids()}
    for message, found in zip(others, matched(templates, others), strict=True):
        tokens = message.split()
        covering = [
            (text.count("<*>"), i)
            for i, text in texts.items()
            if len(text) == len(tokens)
            and all(a in ("<*>", b) for a, b in zip(text, tokens, strict=True))
        ]
        assert (found if found >= 0 else None) == (min(covering)[1] if covering else None)


def test_a_learned_message_may_match_a_template_more_specific_than_its_own():
    # Drain put "a b c d" into template 0 before template 1 came nearer to it.
    messages = ["a b c d", "a x y d", "a b c z", "a b c y"]
    templates = Templates(DrainConfig(depth=4, similarity=0.5, masks=BARE))
    assert templates.learn(column(messages)).to_list() == [0, 0, 1, 1]
    assert [templates.text(i) for i in (0, 1)] == ["a <*> <*> d", "a b c <*>"]
    assert matched(templates, messages) == [1, 0, 1, 1]


def test_an_error_half_like_a_template_is_novel():
    templates = learned(["send block to disk", "send block to tape"])
    assert matched(templates, ["send block to moon", "send error to moon"]) == [0, -1]


def test_matching_changes_nothing_but_the_novelties():
    templates = learned(["a b", "a c"])
    before = json.dumps(templates.to_json())
    matched(templates, ["x y z", "a d"])
    assert json.dumps(templates.to_json()) == before


def test_matching_before_learning_is_refused():
    with pytest.raises(NotFittedError, match="call learn first"):
        matched(Templates(DrainConfig()), ["a"])


def test_frozen_templates_do_not_learn():
    templates = learned(["a"])
    templates.freeze()
    templates.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        templates.learn(column(["b"]))


def test_equal_templates_are_the_oldest_one():
    index = Index({3: template_of(["a", "<*>"]), 1: template_of(["a", "<*>"])})
    assert index.find(("a", "z")) == 1


# Novelties


def test_two_novelties_stay_two_and_keep_their_ids_across_chunks():
    templates, novel = learned(["known"]), Novelties(DrainConfig(masks=BARE))
    assert matched(templates, ["disk is full", "known", "fan has died now"], novel) == [-1, 0, -2]
    assert matched(templates, ["fan has died now", "disk is full"], novel) == [-2, -1]


def test_a_novel_template_generalises_and_shows_text_and_example():
    templates, novel = learned(["known"]), Novelties(DrainConfig(masks=BARE))
    assert matched(templates, ["disk a b is full", "disk a c is full"], novel) == [-1, -1]
    assert (novel.text(-1), novel.example(-1)) == ("disk a <*> is full", "disk a b is full")
    assert (novel.n_templates, novel.n_lines) == (1, 2)


@relaxed
@given(MESSAGES, SETTINGS, st.integers(0, 40))
def test_chunks_change_no_provisional_id(messages, config, cut):
    templates, whole, parts = learned(["a"], config), Novelties(config), Novelties(config)
    ids = matched(templates, messages, whole)
    in_parts = matched(templates, messages[:cut], parts) + matched(templates, messages[cut:], parts)
    assert in_parts == ids


def test_novelties_beyond_the_limit_share_one_id():
    config = DrainConfig(max_templates=2, masks=BARE)
    templates, novel = learned(["known"], config), Novelties(config)
    messages = ["a", "b c", "d e f", "g h i j", "a"]
    assert matched(templates, messages, novel) == [-1, -2, -3, -3, -1]
    assert (novel.text(-3), novel.example(-3)) == ("<*>", "d e f")


def test_an_id_that_no_novelty_has_is_a_key_error():
    with pytest.raises(KeyError, match="no novel template -1"):
        Novelties(DrainConfig()).text(-1)


def test_adopted_novelties_get_the_next_ids_and_old_messages_keep_theirs():
    templates = learned(["send a to b", "send a to c"])
    novel = Novelties(templates.config)
    messages = ["send a to d", "disk is full", "send x y z", "fan died"]
    before = matched(templates, messages, novel)
    grown = templates.adopt(novel)
    expected = [i if i >= 0 else templates.next_id - 1 - i for i in before]
    assert matched(grown, messages) == expected == [0, 1, 2, 3]
    assert grown.frozen
    assert not templates.frozen


def test_of_the_novelties_only_those_chosen_are_adopted():
    templates = learned(["send a to b", "send a to c"])
    novel = Novelties(templates.config)
    messages = ["disk is full", "fan died", "no route found here at all"]
    assert matched(templates, messages, novel) == [-1, -2, -3]
    grown = templates.adopt(novel, [-3, -1])
    first = templates.next_id
    assert matched(grown, messages, Novelties(templates.config)) == [first, -1, first + 1]


@relaxed
@given(MESSAGES, MESSAGES, SETTINGS)
def test_adopting_moves_no_message_that_had_a_template(first, later, config):
    templates = learned(["a", *first], config)
    novel = Novelties(config)
    before = matched(templates, later, novel)
    after = matched(templates.adopt(novel), later)
    assert [b for a, b in zip(before, after, strict=True) if a >= 0] == [
        a for a in before if a >= 0
    ]
    assert min(after, default=0) >= 0


# Bounds


def test_beyond_the_most_templates_lines_are_counted_and_reported_without_their_text(caplog):
    templates = Templates(DrainConfig(max_templates=1, masks=BARE))
    with caplog.at_level(logging.WARNING):
        ids = templates.learn(column(["a", "secret thing", "a", "secret thing"]))
    assert ids.to_list() == [0, -1, 0, -1]
    assert templates.n_not_learned == 2
    assert "2 lines not learned" in caplog.text
    assert "secret" not in caplog.text


def test_tokens_after_the_limit_are_not_looked_at_but_counted():
    config = DrainConfig(max_tokens=3, masks=BARE)
    templates = Templates(config)
    assert templates.learn(column(["a b c d", "a b c e f", "a b c"])).to_list() == [0, 0, 0]
    assert (templates.text(0), templates.n_cut) == ("a b c", 2)


def test_characters_after_the_limit_are_not_looked_at_but_counted():
    config = DrainConfig(max_chars=5, masks=BARE)
    templates, novel = Templates(config), Novelties(config)
    assert templates.learn(column(["aä bc and more", "aä bc"])).to_list() == [0, 0]
    assert templates.match(column(["aä bcd", "aä bc"]), novel).to_list() == [0, 0]
    assert (templates.n_cut, novel.n_cut) == (1, 1)


def test_ten_megabytes_in_one_message_are_learned_as_their_head():
    templates = Templates(DrainConfig())
    templates.learn(column(["word " * 2_000_000, "x" * 10_000_000]))
    assert len(templates.text(0).split()) == templates.config.max_tokens
    assert len(templates.example(1)) <= 1_000
    assert templates.n_cut == 2


@pytest.mark.parametrize("empty", ["", "   ", "\t\n", None])
def test_an_empty_message_has_a_template_of_its_own(empty):
    templates = learned(["a", empty])
    assert (templates.text(1), matched(templates, [""])) == ("", [1])


def test_the_ids_of_an_empty_column_have_the_type_of_ids():
    assert learned(["a"]).match(column([]), Novelties(DrainConfig(masks=BARE))).dtype == pl.Int32


def test_an_empty_column_is_learned_and_matched():
    templates = learned(["a"])
    assert templates.learn(column([])).to_list() == []
    assert matched(templates, []) == []


def test_a_message_of_wildcards_alone_founds_one_template_however_often_it_comes():
    templates = learned(["<*> <*>"] * 5)
    templates.learn(column(["<*> <*>"] * 5))
    assert templates.n_templates == 1


# Saved state


@relaxed
@given(MESSAGES, MESSAGES, SETTINGS)
def test_saved_and_loaded_templates_match_the_same(messages, others, config):
    templates = learned(["a", *messages], config)
    loaded = Templates.from_json(json.loads(json.dumps(templates.to_json())))
    assert matched(loaded, others) == matched(templates, others)
    assert loaded.to_json() == templates.to_json()


def test_adopted_templates_keep_their_order_when_saved():
    templates = learned(["send a to b", "send a to c"])
    novel = Novelties(templates.config)
    matched(templates, ["send x to q", "send x to r"], novel)
    grown = templates.adopt(novel)
    loaded = Templates.from_json(json.loads(json.dumps(grown.to_json())))
    assert loaded.to_json() == grown.to_json()
    assert matched(loaded, ["send x to s"]) == matched(grown, ["send x to s"]) == [1]


def test_another_process_gives_the_same_ids(tmp_path):
    messages = ["lost 10.0.0.1 at 3", "lost 10.0.0.2 at 4", "fan x died", "fan y died", "odd"]
    templates = Templates(DrainConfig())
    templates.learn(column(messages[:-1]))
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"state": templates.to_json(), "messages": messages}))
    code = (
        "import json, sys, polars as pl\n"
        "from oddlog.drain import Novelties, Templates\n"
        "read = json.load(open(sys.argv[1]))\n"
        "t = Templates.from_json(read['state'])\n"
        "print(t.match(pl.Series(read['messages']), Novelties(t.config)).to_list())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == matched(templates, messages)


def damaged(change):
    state = json.loads(json.dumps(learned(["a b", "c"]).to_json()))
    change(state)
    return state


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("generations"),
        lambda state: state.update(more=1),
        lambda state: state["generations"][0][0].update(id=-1),
        lambda state: state["generations"][0][0].update(id=1),
        lambda state: state["generations"][0][0].update(text=7),
        lambda state: state["generations"][0][0].update(count="many"),
        lambda state: state["config"].update(depth=1),
        lambda state: state["config"]["masks"].update(own={"job": "("}),
        lambda state: state["config"]["masks"].update(names=["no_such_mask"]),
    ],
)
def test_a_damaged_state_is_refused(change):
    with pytest.raises(ArtifactError, match=r"templates: damaged.*fit the model again"):
        Templates.from_json(damaged(change))


@pytest.mark.parametrize("state", [None, [], "templates", 3])
def test_a_state_that_is_no_table_is_refused(state):
    with pytest.raises(ArtifactError, match="templates: damaged"):
        Templates.from_json(state)


# Templates known elsewhere


def test_templates_with_known_ids_keep_them():
    templates = Templates.from_texts({5: "Receiving block <*>", 22: "up"}, DrainConfig(masks=BARE))
    assert (templates.text(5), templates.ids(), templates.next_id) == (
        "Receiving block <*>",
        [5, 22],
        23,
    )
    assert matched(templates, ["up", "Receiving block x", "down"]) == [22, 5, -1]


def test_negative_ids_belong_to_novelties_alone():
    with pytest.raises(ConfigError, match="have to be >= 0, got -1"):
        Templates.from_texts({-1: "a"})


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("template_id", [-1, 1])
def test_an_id_that_no_template_has_is_a_key_error(template_id, freeze):
    templates = learned(["a"])
    if freeze:
        templates.freeze()
    with pytest.raises(KeyError, match=f"no template {template_id}"):
        templates.text(template_id)


# Real logs


@pytest.mark.data
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("layout", ["generic", "none"])
def test_real_lines_fall_into_the_groups_of_drain3(data_folder, system, layout):
    path = data_folder / "loghub_2k" / system / f"{system}_2k.log_structured.csv"
    with path.open(encoding="utf-8", newline="") as file:
        messages = column([row["Content"] for row in csv.DictReader(file)])
    config = DrainConfig(depth=4, similarity=0.5, masks=masks_for(layout))
    # Every line, repeats included: on these logs remembering repeats changes no group.
    oracle = drain3_ids(mask(messages, config.masks).to_list(), config)
    assert Templates(config).learn(messages).to_list() == oracle
