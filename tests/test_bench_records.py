"""Records of benchmarks: whole lines or none, and figures of several as one."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oddlog
from oddlog.bench.config import PaperConfig, chosen_configs, config_names, read_config
from oddlog.bench.curves import N_BINS, histogram, precision_recall
from oddlog.bench.records import append, read, source
from oddlog.bench.render import insert, spread
from oddlog.errors import ConfigError, FormatError


def test_a_record_names_the_version_and_the_commit():
    found = source()
    assert found["version"] == oddlog.__version__
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}( dirty)?", found["commit"])


def test_a_line_that_a_kill_cut_off_is_no_record_and_makes_room(tmp_path):
    path = tmp_path / "a" / "b.jsonl"
    append(path, [{"seed": 0}])
    with path.open("a") as file:
        file.write('{"seed": 1, "figu')
    assert read(path) == [{"seed": 0}]
    append(path, [{"seed": 2}])
    assert path.read_text() == '{"seed": 0}\n{"seed": 2}\n'


def test_a_damaged_line_is_refused_with_its_number(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text('{"seed": 0}\n{"se\n')
    with pytest.raises(FormatError, match=r"b\.jsonl:2: not a record"):
        read(path)


def test_what_several_add_at_once_is_all_there(tmp_path):
    path = tmp_path / "b.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: append(path, [{"seed": seed, "pad": "x" * 20_000}]), range(40)))
    assert sorted(record["seed"] for record in read(path)) == list(range(40))


def test_a_spread_is_the_mean_and_the_deviation_of_what_is_known():
    assert [spread([0.5, None, 1.5]), spread([0.25, None]), spread([None])] == [
        "1.000 ± 0.707",
        "0.250",
        "-",
    ]


def test_text_goes_between_its_marks_alone(tmp_path):
    document = tmp_path / "a.md"
    document.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n")
    insert(document, "x", "new")
    assert document.read_text() == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"


def test_a_document_without_the_marks_is_refused(tmp_path):
    document = tmp_path / "a.md"
    document.write_text("<!-- x:begin -->")
    with pytest.raises(ConfigError, match="no marks"):
        insert(document, "x", "new")


@pytest.mark.parametrize("name", config_names())
def test_every_config_of_the_package_can_be_read(name):
    config = read_config(name)
    assert config.title
    assert isinstance(config, PaperConfig) == name.startswith("paper/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('detectors = ["counts"]\nseed = 1', "unknown setting 'seed'; did you mean 'seeds'"),
        ('detectors = ["count"]', "no detector 'count'; did you mean 'counts'"),
        ('detectors = ["counts"]\nseeds = 0', "seeds"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, text, said):
    path = tmp_path / "own.toml"
    path.write_text(f'title = "t"\nabout = ""\nprotocol = "adfa"\n{text}\n')
    with pytest.raises(ConfigError, match=said):
        chosen_configs([str(path)])


def test_a_word_may_be_a_whole_track():
    assert set(chosen_configs(["honest"])) == set(config_names("honest"))


def test_settings_of_a_config_are_told_as_one_would_give_them():
    config = chosen_configs(["adfa"])["honest/adfa"]
    assert config.assignments(["loggpt"]) == [
        "loggpt.attention_dropout=0.1",
        "loggpt.context=64",
        "loggpt.max_steps=1000",
        "loggpt.count_steps=300",
    ]


def test_precision_is_read_at_each_hundredth_of_recall():
    found = precision_recall(np.array([4.0, 3, 2, 1]), np.array([True, False, True, False]))
    assert found == [1.0] * 50 + [0.66667] * 50


def test_equal_scores_are_flagged_together():
    scores = np.array([np.inf, np.inf, 0, 0])
    assert set(precision_recall(scores, np.array([True, False, True, False]))) == {0.5}


@given(st.lists(st.tuples(st.floats(allow_nan=False, width=32), st.booleans()), min_size=1))
def test_a_histogram_counts_every_sequence_once(drawn):
    scores, odd = (np.array(column) for column in zip(*drawn, strict=True))
    found = histogram(scores, odd, np.inf)
    assert [sum(found[name]) for name in ("normal", "anomalous")] == [(~odd).sum(), odd.sum()]
    assert len(found["edges"]) == N_BINS + 1
    assert found["threshold"] is None
