"""The report: whole, self-contained, and unable to do anything that a log wants it to do."""

import base64
import hashlib
import re
import tomllib
from dataclasses import replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from markupsafe import Markup

import oddlog
from oddlog.events import Sequences
from oddlog.pipeline import make_config
from oddlog.report import Limits, render
from oddlog.report.html import _percent, page, plain, shown
from oddlog.visible import escape

USUAL = ("open", "copy", "close")
ODD = ("open", "disk burns at", "close")
HOSTILE = (
    '</script><script>alert(1)</script></style></title><img src=x onerror="alert(1)">'
    "'\" onclick=alert(1) {{ 7 * 7 }} {% raw %} <!-- https://evil.example/a.js --> "
    "\x1b[31m\x00\u202e\u2066\u200b &lt; \ufffe"
)


class Seen(HTMLParser):
    """What a browser would make of the page: its elements, attributes and texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    def all(self, tag, name):
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]

    def elements(self):
        return [tag for tag in self.tags if tag != "i"]  # what is spelled out is set apart


def log(n, odd=()):
    lines = [
        f"2026-03-02 {8 + i // 60:02}:{i % 60:02}:{10 + k} {step} req_{1000 + i}"
        for i in range(n)
        for k, step in enumerate(ODD if i in odd else USUAL)
    ]
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "normal.log").write_text(log(500))
    config = make_config({"detector": "new_event", "session_by": r"req_\d+"}, "test")
    return oddlog.fit([folder / "normal.log"], config, model=folder / "model")


@pytest.fixture(scope="module")
def result(pipeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "today.log"
    path.write_text(log(60, odd=(3, 7, 41)))
    return pipeline.score([path])


@pytest.fixture(scope="module")
def text(result):
    return html_of(result)


@pytest.fixture(scope="module")
def calm(result):
    return Seen(html_of(saying(result, "calm"), about={"model": "calm"}))


def html_of(result, **options):
    return render(result.judged(), **options)


def saying(result, word):
    """Return the result as if every text of the log were that word."""
    events = result.sequences.events.with_columns(
        **dict.fromkeys(("source", "raw", "message", "label"), pl.lit(word))
    )
    series = pl.Series("key", [word], dtype=pl.String).new_from_index(0, len(result))
    sequences = replace(result.sequences, events=events, keys=series, labels=series)
    return replace(result, sequences=sequences, text_of=lambda number: word, notes=(word,))


def policy_of(text):
    return next(v for v in Seen(text).all("meta", "content") if "default-src" in v)


def hash_of(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_lets_nothing_in_but_one_style_and_one_script_by_hash(text):
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    rules = dict(rule.split(" ", 1) for rule in policy_of(text).split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'{hash_of(script)}'",
        "style-src": f"'{hash_of(style)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_policy_comes_before_anything_that_it_rules(text):
    assert text.index("Content-Security-Policy") < text.index("<title>") < text.index("<style>")


def test_nothing_is_loaded_and_no_link_leaves_the_page(text):
    seen = Seen(text)
    assert not {name for _, name, _ in seen.attributes} & {"src", "srcset", "action", "style"}
    assert all(re.fullmatch(r"#s\d+", link) for link in seen.all("a", "href"))
    assert not re.search(r"https?:|//\w|@import|url\(", text)


def test_no_attribute_runs_a_script(text):
    assert not [name for _, name, _ in Seen(text).attributes if name.startswith("on")]


def test_what_the_page_is_made_of_is_packaged():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["oddlog"]
    parts = [
        f"report/page/{path.name}" for path in files("oddlog.report").joinpath("page").iterdir()
    ]
    assert "report/page/page.html.jinja" in parts
    assert all(any(fnmatch(part, pattern) for pattern in patterns) for part in parts)


def test_the_script_cannot_make_html_of_text():
    script = files("oddlog.report").joinpath("page", "script.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|eval|Function\(|document.write", script
    )
    assert "</" not in script


@settings(max_examples=15)
@given(st.text(min_size=1, max_size=100) | st.just(HOSTILE))
def test_a_log_adds_no_element_and_no_attribute_whatever_it_says(result, calm, word):
    odd = Seen(html_of(saying(result, word), about={"model": word}))
    assert odd.elements() == calm.elements()
    assert [(t, n) for t, n, _ in odd.attributes] == [(t, n) for t, n, _ in calm.attributes]


@settings(max_examples=15)
@given(st.text(min_size=1, max_size=100) | st.just(HOSTILE))
def test_what_a_log_says_is_there_to_be_read(result, word):
    seen = Seen(html_of(saying(result, word), about={"model": word}))
    assert "\n".join(map(escape, word.split("\n"))) in seen.text


@given(st.text(st.characters()))
def test_shown_text_is_text_and_nothing_else(word):
    seen = Seen(f"<p>{shown(word)}</p>")
    assert seen.elements() == ["p"]
    assert seen.text == "\n".join(map(escape, word.split("\n")))


@given(st.text(st.characters()))
def test_text_in_an_attribute_stays_in_it(word):
    assert Seen(f'<p title="{plain(word)}">').attributes == [("p", "title", escape(word))]


def test_an_escape_differs_from_the_characters_that_spell_it():
    assert shown("\x1b") != shown("\\x1b")


def test_what_is_html_already_is_not_escaped_twice():
    assert shown(Markup("<b>&lt;</b>")) == "<b>&lt;</b>"


def test_a_value_that_the_page_forgot_is_an_error():
    with pytest.raises(Exception, match="Undefined"):
        page({})


def test_the_headline_says_how_much_is_odd(text):
    seen = Seen(text)
    assert "3 of 60 sequences are odd" in seen.text
    assert "3 odd of 60" in seen.text


def test_flagged_sequences_are_listed_worst_first(text, result):
    found = re.findall(r'<span class="who">(.*?)</span>', text)
    assert found == result.verdicts()["key"].to_list()


def test_the_culprit_is_marked_among_the_lines_of_its_sequence(text):
    assert re.findall(r"<mark>.{20}(.*?)</mark>", text) == [
        f"disk burns at req_{number}" for number in (1003, 1007, 1041)
    ]
    assert Seen(text).text.count("template never seen in training") == 3


def test_each_row_says_which_simple_rules_flag_it_too(text, result):
    also = result.also_flagged(result.flagged())
    n = sum(int(flags.sum()) for flags in also.values())
    assert n == text.count('<span class="tag">') > 0


def test_simple_rules_are_asked_at_the_rate_of_the_result(result):
    strict = result.at(1e-6).also_flagged(np.arange(5))
    assert [*strict] == ["key_set", "counts"]
    assert not any(f.any() for f in strict.values())


def test_what_is_over_the_limit_is_counted(result):
    text = html_of(result, limits=Limits(sequences=2))
    assert text.count('<span class="who">') == 2
    assert "1 more flagged sequences, less odd than these, are not in this file" in text


def test_bars_lead_to_the_worst_sequence_of_their_time(text):
    seen = Seen(text)
    assert seen.all("a", "href") == ["#s1", "#s2", "#s3"]
    assert set(seen.all("a", "data-bin")) == set(re.findall(r'<li id=.*?data-bin="(\d+)"', text))


def test_the_drift_of_the_log_is_shown(text, result):
    assert f"{result.drift.unknown.n_unknown_events} events in" in text
    assert "Does the log still look like the calibration" in text


def test_a_warning_of_drift_stands_in_the_head(pipeline, tmp_path):
    (tmp_path / "new.log").write_text(log(300, odd=range(300)))
    seen = html_of(pipeline.score([tmp_path / "new.log"]))
    assert seen.index("Has the system changed?") < seen.index("<main>")


def test_without_a_warning_there_is_none(text):
    assert "Has the system changed?" not in text


def test_what_made_the_report_is_shown(result):
    assert "oddlog score x" in html_of(result, about={"command": "oddlog score x"})


def test_notes_on_the_log_are_shown(text, result):
    assert all(str(escape(note)) in Seen(text).text for note in result.lines())


def test_a_calm_log_says_that_nothing_is_odd(pipeline, tmp_path):
    (tmp_path / "calm.log").write_text(log(20))
    seen = Seen(html_of(pipeline.score([tmp_path / "calm.log"])))
    assert "Nothing odd in 20 sequences" in seen.text
    assert ("dd", "class", "odd") not in seen.attributes
    assert "input" not in seen.tags


def test_a_log_without_sequences_has_a_report(pipeline, tmp_path):
    (tmp_path / "idle.log").write_text("2026-03-02 08:00:00 still alive\n")
    seen = Seen(html_of(pipeline.score([tmp_path / "idle.log"])))
    assert "no sequences: nothing in this log" in seen.text
    assert "svg" not in seen.tags


def test_too_small_a_calibration_is_told(result):
    seen = Seen(html_of(result.at(1e-6)))
    assert "more calibration sequences needed" in seen.text


def test_where_nothing_can_be_flagged_what_scores_highest_is_shown_without_a_verdict(result):
    text = Seen(html_of(result.at(1e-6))).text
    assert f"No verdict on {len(result)} sequences" in text
    assert "What scores highest, odd or not" in text
    worst = result.explain(result.highest(1))[0][0]["message"]
    assert worst[:20] in text


def test_what_the_rate_supposes_is_told(result):
    trimmed = replace(result, calibration=replace(result.calibration, n_trimmed=7))
    assert "the 7 sequences left out of the calibration as anomalies" in html_of(trimmed)


def test_sequences_without_times_have_a_report(result):
    sequences = Sequences.from_ids([[0, 1, 2], [0, -1, 2]])
    bare = replace(
        result, sequences=sequences, scores=result.detector.score(sequences), text_of=str
    )
    seen = Seen(html_of(bare))
    assert "Where in the log" in seen.text
    assert "1 of 2 sequences is odd" in seen.text


def test_a_report_is_written_whole(result, tmp_path):
    result.to_html(tmp_path / "new" / "r.html")
    written = (tmp_path / "new" / "r.html").read_text(encoding="utf-8")
    assert written == html_of(result)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["r.html"]


@pytest.mark.parametrize(
    ("share", "told"),
    [(0, "0 %"), (1, "100 %"), (0.083, "8.3 %"), (0.19, "19 %"), (0.0009, "0.09 %"),
     (0.9984, "99.84 %"), (0.99999, "99.99 %"), (0.00001, "0.001 %")],
)  # fmt: skip
def test_shares_are_told_from_none_and_from_all(share, told):
    assert _percent(share) == told
