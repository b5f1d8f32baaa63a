"""Session ids are masked out of messages, whether a regex or a field names them."""

import json

import polars as pl
import pytest

import oddlog
from oddlog.config import build
from oddlog.errors import ConfigError
from oddlog.masks import GENERIC, Masks, mask, masks_for, name_sessions
from oddlog.pipeline import PipelineConfig, score_log
from oddlog.session_ids import SESSION_WORD, session_pattern, session_step, write_word

N = 120
NAMES = ["".join("abcdefghij"[int(digit)] for digit in f"{i:03d}") for i in range(N)]
KINDS = {
    "regex": (r"req_\d+", [f"req_{i}" for i in range(N)]),
    "group": (r"(?:start|done|api/) ?(\w+)", NAMES),
    "nested group": (r"(?:(?:start |done |api/)(\w+))", NAMES),
    "field": ("rid", [f"r-{name}" for name in NAMES]),
}


def write_log(path, kind):
    lines = []
    for i, name in enumerate(KINDS[kind][1]):
        for message in (f"start {name}", f"GET http://h/api/{name}/x", f"done {name} in 3 ms"):
            time = f"2026-01-01 {i // 60:02d}:{i % 60:02d}:00"
            record = {"time": time, "rid": name, "msg": message}
            lines.append(json.dumps(record) if kind == "field" else f"{time} INFO {message}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("log") / "some.log", request.param)
    settings = {"session_by": KINDS[request.param][0], "detector": "key_set"}
    return log, oddlog.fit([log], build(PipelineConfig, settings, "test"))


def test_a_session_has_no_templates_of_its_own(fitted):
    texts = fitted[1].templates.table()["template"].sort().to_list()
    assert texts == ["GET <URL>", "done <SESSION> in <NUM> ms", "start <SESSION>"]


def test_a_log_read_in_parts_knows_the_templates_of_all_sessions(fitted):
    assert score_log(fitted[1], [fitted[0]], part_events=50).drift.unknown.n_templates == 0


def test_a_stream_knows_the_templates_of_all_sessions(fitted):
    watcher = oddlog.Watcher(fitted[1])
    watcher.push(fitted[0].read_text().splitlines(), source="some.log", now=1.0)
    watcher.flush(now=2.0)
    assert (watcher.stats.n_windows, watcher.stats.n_unknown) == (N, 0)


def test_a_model_folder_keeps_how_sessions_are_masked(fitted, tmp_path):
    fitted[1].save(tmp_path / "model")
    loaded = oddlog.load(tmp_path / "model")
    assert loaded.templates.config == fitted[1].templates.config


def test_what_hides_an_id_with_more_around_it_is_looked_for_first():
    masks = Masks(session=r"req_\d+")
    assert mask(pl.Series(["/data/req_5/x req_5_12 req_512"]), masks).item() == (
        "<PATH> <SESSION> <SESSION>"
    )


def test_a_layouts_own_mask_of_its_sessions_stays():
    masks = masks_for("hdfs").model_copy(update={"session": r"blk_-?\d+"})
    assert mask(pl.Series(["got blk_-7"]), masks).item() == "got <BLOCK>"


@pytest.mark.parametrize(
    ("regex", "text", "wanted"),
    [
        (r"user=(\w+)", "user=ann met bob", "user=<SESSION> met bob"),
        (r"(?i)USER=(?P<who>[^)]+)\)", "(user=ann lee) ok", "(user=<SESSION>) ok"),
        (r"\((\w+)\)|x", "(ann)", "(ann)"),
        (r"[(](?:a|b)(c+)[)]", "(bcc)", "(b<SESSION>)"),
    ],
)
def test_of_a_regex_with_a_group_the_group_is_masked(regex, text, wanted):
    masks = Masks(names=(), session=session_pattern(regex))
    assert mask(pl.Series([text]), masks).item() == wanted


@pytest.mark.parametrize(
    "by", ["request_id", r"\d*", r"(?:a=(\w+))", r"a(\w)+", r"a(b)|c", "a(?i)b"]
)
def test_what_is_no_mask_by_itself_is_masked_by_the_ids_that_it_gives(by):
    assert session_pattern(by) == SESSION_WORD


def test_an_id_in_a_longer_word_stays():
    assert write_word(pl.Series(["ab a b a.b"]), pl.Series(["a"])).item() == (
        f"ab {SESSION_WORD} b {SESSION_WORD}.b"
    )


def test_an_id_that_the_masks_hide_is_left_to_them():
    sessions = pl.Series([["17"], ["a-b"], None, ["x"]], dtype=pl.List(pl.String))
    masks = Masks(session=SESSION_WORD)
    named = name_sessions(pl.Series(["job 17", "job a-b", "job", "job 1"]), sessions, masks)
    assert named.to_list() == ["job 17", f"job {SESSION_WORD}", "job", "job 1"]


def test_each_id_of_a_message_is_named():
    masks = Masks(session=SESSION_WORD)
    named = name_sessions(pl.Series(["from a to b"]), pl.Series([["a", "b"]]), masks)
    assert named.item() == f"from {SESSION_WORD} to {SESSION_WORD}"


def test_a_mask_of_sessions_that_cannot_be_one_is_refused():
    with pytest.raises(ConfigError, match="the group is in another"):
        build(Masks, {"session": r"(?:a=(\w+))"}, "test")


def test_a_regex_without_a_group_is_masked_with_what_goes_on_behind_it():
    assert session_step("req_[0-9]+") == r"(?:req_[0-9]+)\w*"


def test_session_masks_stand_before_those_that_see_some_ids_only():
    patterns = [pattern for pattern, _ in Masks(session="x").steps()]
    assert patterns.index(r"(?:x)\w*") == GENERIC.index("id")
