"""What a person reads: safe, within the width, and saying what was expected."""

from io import StringIO

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from rich.cells import cell_len
from rich.console import Console

from oddlog.drift import Unknown, UnknownTemplate
from oddlog.evaluate import ClassRecall, Estimate, evaluate
from oddlog.run import silent
from oddlog.terminal import (
    escape,
    progress_bars,
    shorten,
    show_counts,
    show_detectors,
    show_evaluations,
    show_next,
    show_notes,
    show_recall_by_class,
    show_templates,
    show_unknown,
    show_verdicts,
)

WIDTH = 80
NASTY = "\x1b[2J\x1b]0;owned\x07[bold red]hello[/] \u202e\u2028 line one\nline two\r\t"


@pytest.fixture
def console():
    return Console(width=WIDTH, file=StringIO(), record=True, force_terminal=True, highlight=False)


def text_of(console):
    return console.export_text()


def culprit(**changes):
    return {
        "source": "a.log",
        "line": 17,
        "time": "2026-03-02T08:00:34.640529000+00:00",
        "text": "08:00:34 ERROR disk on fire",
        "message": "disk on fire",
        "template": "disk on fire",
        "template_id": 3,
        "score": 9.0,
        "position": 4,
        "missing": False,
        "expected": [{"template": "disk is fine", "probability": 0.97}],
    } | changes


def record(*culprits, **changes):
    return {
        "key": "req_1",
        "score": 9.0,
        "p_value": 0.001,
        "flagged": True,
        "n_events": 30,
        "source": "a.log",
        "n_sources": 1,
        "first_line": 1531,
        "last_line": 3718,
        "first_time": "2026-03-02T08:00:15.1",
        "last_time": "2026-03-02T08:00:34.1",
        "culprits": list(culprits),
    } | changes


def shown(console, *records, n_shown=10):
    show_verdicts(console, records, n_shown=n_shown, n_sequences=1000)
    return text_of(console)


def test_control_characters_are_spelled_out():
    assert escape("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"


def test_what_can_be_printed_is_left_as_it_is():
    assert escape("größe 日本 [bold]") == "größe 日本 [bold]"


@given(st.text(max_size=200), st.integers(3, 60))
def test_a_shortened_text_never_exceeds_its_width(text, width):
    assert cell_len(shorten(text, width)) <= width


@given(st.text(max_size=200))
def test_a_shortened_text_holds_nothing_that_a_terminal_acts_on(text):
    assert shorten(text, 40).isprintable()


def test_a_text_that_fits_is_not_shortened():
    assert shorten("disk on fire", 12) == "disk on fire"


def test_a_long_text_keeps_both_its_ends():
    cut = shorten("begin" + "x" * 10_000 + "end", 20)
    assert (cut[:5], cut[-3:], len(cut)) == ("begin", "end", 20)


def test_wide_characters_count_for_two_cells():
    assert cell_len(shorten("日本" * 40, 21)) <= 21


def test_nothing_odd_is_good_news(console):
    assert shown(console) == "nothing odd in 1,000 sequences\n"


def test_no_sequences_are_no_news(console):
    show_verdicts(console, [], n_shown=10, n_sequences=0)
    assert text_of(console) == "nothing was judged: there are no sequences\n"


def test_what_could_not_be_flagged_is_not_called_odd(console):
    told = shown(console, record(flagged=False))
    assert told.startswith("no verdict on 1,000 sequences; those that score highest, odd or not")


def test_more_unknown_templates_than_fit_are_counted(console):
    templates = tuple(UnknownTemplate(-i, 9, 10 - i, f"novelty {i}") for i in range(1, 8))
    show_unknown(console, Unknown(100, 63, 9, 40, templates))
    lines = text_of(console).splitlines()
    assert lines[2] == "        9 | novelty 1"
    assert lines[-2:] == ["        5 | novelty 5", "          ... and 35 more"]


def test_a_log_without_unknown_templates_needs_no_list(console):
    show_unknown(console, Unknown(100, 0, 0, 0, ()))
    assert text_of(console) == ""


def test_a_verdict_says_what_was_odd_where_and_what_was_expected(console):
    assert shown(console, record(culprit())).splitlines() == [
        "1 of 1,000 sequences are odd, worst first",
        "",
        "  1  req_1  2026-03-02 08:00:15 to 08:00:34",
        "     a.log lines 1,531-3,718, 30 events; score 9, p 0.001",
        "       17 | 08:00:34 disk on fire",
        "          | expected  97% disk is fine",
    ]


def test_a_new_template_is_called_one(console):
    assert "| never seen in training" in shown(console, record(culprit(template_id=-1)))


def test_a_session_in_which_something_is_missing_is_called_that(console):
    assert "| something is missing" in shown(console, record(culprit(missing=True)))


def test_several_expectations_stand_under_one_another(console):
    expected = [{"template": f"step {i}", "probability": 0.3} for i in range(5)]
    assert shown(console, record(culprit(expected=expected))).splitlines()[-3:] == [
        "          | expected  30% step 0",
        "          |       or  30% step 1",
        "          |       or  30% step 2",
    ]


def test_what_was_hardly_expected_is_not_mentioned(console):
    expected = [
        {"template": "step 1", "probability": 0.999},
        {"template": "step 2", "probability": 0.001},
    ]
    assert "step 2" not in shown(console, record(culprit(expected=expected)))


def test_culprits_far_less_odd_than_the_worst_are_left_out(console):
    told = shown(console, record(culprit(), culprit(line=18, score=8.0), culprit(line=19, score=1)))
    assert [" 18 |" in told, " 19 |" in told] == [True, False]


def test_a_culprit_of_another_file_names_it(console):
    told = shown(console, record(culprit(source="b.log"), n_sources=2))
    assert "| in b.log" in told
    assert "a.log and 1 more, lines" in told


def test_a_log_without_times_shows_none(console):
    told = shown(console, record(culprit(time=None), first_time=None, last_time=None))
    assert "  1  req_1\n" in told
    assert "17 | disk on fire\n" in told


def test_records_without_culprits_are_shown_too(console):
    assert "req_1" in shown(console, record(culprits=None))


def test_more_than_asked_for_are_counted_and_not_shown(console):
    told = shown(console, *[record(key=f"req_{i}") for i in range(5)], n_shown=2)
    assert "req_2" not in told
    assert "... and 3 more" in told


@pytest.mark.parametrize("text", [NASTY, "x" * 10_000, "日本" * 100, "word " * 3000])
def test_whatever_a_log_holds_no_line_is_wider_than_the_terminal(console, text):
    expected = [{"template": text, "probability": 0.5}]
    told = shown(
        console,
        record(culprit(message=text, source=text, expected=expected), key=text, source=text),
    )
    assert max(cell_len(line) for line in told.splitlines()) <= WIDTH


def test_whatever_a_log_holds_nothing_of_it_reaches_the_terminal_as_a_command():
    plain = Console(width=WIDTH, file=StringIO(), color_system=None, force_terminal=True)
    expected = [{"template": NASTY, "probability": 0.5}]
    one = record(culprit(message=NASTY, source=NASTY, expected=expected), key=NASTY, source=NASTY)
    show_verdicts(plain, [one], n_shown=1, n_sequences=1)
    show_templates(plain, [{"template_id": 1, "count": 2, "template": NASTY}], 10)
    show_notes(plain, [NASTY])
    show_recall_by_class(plain, [ClassRecall(NASTY, 3, Estimate(1.0))])
    told = plain.file.getvalue().replace("\n", "")
    assert told.isprintable()


def test_markup_in_a_log_is_shown_as_it_stands(console):
    assert "[bold red]hello[/]" in shown(console, record(culprit(message="[bold red]hello[/]")))


def test_a_note_is_folded_under_itself_where_a_person_watches(console):
    show_notes(console, ["word " * 30])
    lines = text_of(console).splitlines()
    assert [line[:3] for line in lines] == ["wor", "  w"]
    assert max(map(len, lines)) <= WIDTH


def test_a_note_is_one_line_where_nobody_watches():
    pipe = Console(width=WIDTH, file=StringIO(), force_terminal=False)
    show_notes(pipe, ["word " * 30])
    assert pipe.file.getvalue().count("\n") == 1


def test_the_next_command_stays_whole(console):
    command = "oddlog score " + "folder/" * 20
    show_next(console, command)
    assert text_of(console) == f"next: {command}\n"


def test_templates_are_shown_with_their_counts(console):
    rows = [{"template_id": i, "count": 1000 * i, "template": f"step {i}"} for i in (3, 2, 1)]
    show_templates(console, rows, 2)
    assert text_of(console).splitlines() == [
        "     3       3,000  step 3",
        "     2       2,000  step 2",
        "... and 1 more; --out keeps them all",
    ]


def test_evaluations_fit_the_width(console):
    judged = evaluate([0.1, 0.2, 0.9, 0.8], [0, 0, 1, 0], [0, 0, 1, 1], p_values=[0.5] * 4)
    show_evaluations(console, {"gpt2_classifier": judged, "new_event": judged})
    told = text_of(console)
    assert max(map(len, told.splitlines())) <= WIDTH
    assert told.splitlines()[0].startswith("4 sequences, 1 of them anomalous")


def test_recall_by_class_is_shown_as_bars(console):
    show_recall_by_class(
        console, [ClassRecall("truncated", 4, Estimate(0.5)), ClassRecall("fire", 9, Estimate(1.0))]
    )
    assert text_of(console).splitlines() == [
        f"  truncated  {'█' * 10}{' ' * 12}50% of 4",
        f"  fire       {'█' * 20} 100% of 9",
    ]


def test_detectors_are_shown_with_settings_or_with_what_is_missing(console):
    known = {"detector": "a", "learns_from": "normal", "about": "Count.", "settings": {"k": 3}}
    bare = {"detector": "b", "learns_from": "labelled", "about": "Ask.", "settings": {}}
    show_detectors(console, [known, bare, {"detector": "c", "missing": "needs torch"}])
    assert text_of(console).splitlines() == [
        "a  learns from normal sequences",
        "  Count.",
        "  k=3",
        "b  learns from labelled sequences",
        "  Ask.",
        "  no settings",
        "c",
        "  needs torch",
    ]


def test_progress_is_silent_where_nobody_watches():
    with progress_bars(Console(file=StringIO(), force_terminal=False)) as progress:
        assert progress is silent


def test_progress_is_drawn_where_a_person_watches(console):
    with progress_bars(console) as progress:
        progress("reading", 1, 2)
        progress("training", 0, 0)
    assert "training" in console.file.getvalue()


def test_stages_that_go_on_side_by_side_have_a_bar_each_until_they_end(console):
    with progress_bars(console) as progress:
        for stage, done, total in [("reading", 1, 1), ("order", 1, 2), ("counts", 1, 4)]:
            progress(stage, done, total)
        console.file.truncate(0)
        progress("order", 2, 2)
    drawn = console.file.getvalue()
    assert "order" in drawn
    assert "counts" in drawn
    assert "reading" not in drawn


def test_the_counts_behind_a_decision_are_told():
    truth = np.array([True, True, False, False, False])
    flags = np.array([True, False, True, False, False])
    found = evaluate(flags.astype(float), truth, flags)
    console = Console(width=80, record=True, file=StringIO())
    show_counts(console, found.decision, 0.01)
    assert "1 of 2 anomalous flagged, 1 of 3 normal" in " ".join(console.export_text().split())
