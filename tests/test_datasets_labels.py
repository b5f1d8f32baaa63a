"""Label files, and labels attached to sequences."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.datasets import LabelReport, attach_labels, read_labels
from oddlog.errors import LabelsError
from oddlog.events import Sequences
from oddlog.simulate import simulate, write


def save_text(folder: Path, text: str | bytes) -> Path:
    path = folder / "set.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestReadLabels:
    def test_loghub_names_become_ours(self, tmp_path: Path) -> None:
        table = read_labels(save_text(tmp_path, "BlockId,Label\nblk_1,Normal\nblk_-2,Anomaly\n"))
        assert table.rows() == [("blk_1", ""), ("blk_-2", "anomaly")]

    @pytest.mark.parametrize(
        ("word", "label"),
        [
            ("Normal", ""),
            ("normal", ""),
            ("0", ""),
            ("-", ""),
            ("", ""),
            ("Anomaly", "anomaly"),
            ("1", "anomaly"),
            ("disk_full", "disk_full"),
            ("Web_Shell", "Web_Shell"),
        ],
    )
    def test_words_become_classes(self, tmp_path: Path, word: str, label: str) -> None:
        table = read_labels(save_text(tmp_path, f"session,label\ns,{word}\n"))
        assert table["label"].to_list() == [label]

    def test_the_same_label_twice_counts_once(self, tmp_path: Path) -> None:
        table = read_labels(save_text(tmp_path, "session,label\na,1\nb,0\na,Anomaly\n"))
        assert table.rows() == [("a", "anomaly"), ("b", "")]

    def test_bom_crlf_quotes_blank_lines_and_other_columns_are_fine(self, tmp_path: Path) -> None:
        text = '\ufeffn,Session,Label\r\n1,"a,b",x\r\n\r\n2,c,0\r\n'
        assert read_labels(save_text(tmp_path, text)).rows() == [("a,b", "x"), ("c", "")]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("session,label\na,0\n\nb,0\na,1\n", r"csv:5: session a is anomaly here and normal"),
            ("id,label\na,0\n", r"csv:1: columns \['id', 'label'\]"),
            ("session,kind\na,0\n", "labels need 'session'"),
            ("", "no labels in it"),
            ("session,label\n", "no labels in it"),
            ("session,label\na,0\nb\n", "csv:3: 1 fields where the header has 2"),
            ("session,label\na,0,1\n", "csv:2: 3 fields"),
            ("session,label\n,1\n", "csv:2: no session"),
            ('session,label\n"a"b,0\n', "csv:2: not CSV"),
            (b"session,label\na,0\n\xff\xfe,1\n", "csv:3: not UTF-8"),
        ],
    )
    def test_what_does_not_fit_is_said_with_its_line(
        self, tmp_path: Path, text: str | bytes, said: str
    ) -> None:
        with pytest.raises(LabelsError, match=said):
            read_labels(save_text(tmp_path, text))

    def test_a_missing_file_is_a_labels_error(self, tmp_path: Path) -> None:
        with pytest.raises(LabelsError, match="No such file"):
            read_labels(tmp_path / "none.csv")

    def test_labels_that_a_simulation_wrote_are_read_back(self, tmp_path: Path) -> None:
        simulation = simulate(40, anomaly_share=0.5, seed=3)
        _, path, _ = write(simulation, tmp_path)
        assert read_labels(path).equals(simulation.labels)


def keyed(keys: list[str], labels: list[str | None] | None = None) -> Sequences:
    n = len(keys)
    return Sequences.from_arrays(np.ones(n, int), np.arange(n + 1), labels or [None] * n, keys=keys)


def labels_of(**labels: str | None) -> pl.DataFrame:
    schema = {"session": pl.String, "label": pl.String}
    return pl.DataFrame({"session": [*labels], "label": [*labels.values()]}, schema=schema)


class TestAttachLabels:
    def test_each_part_of_a_long_session_gets_its_label(self) -> None:
        labelled, _ = attach_labels(keyed(["a", "b", "a~2", "a~13"]), labels_of(a="x", b=""))
        assert labelled.labels.to_list() == ["x", "", "x", "x"]

    def test_a_suffix_that_no_part_can_have_belongs_to_the_id(self) -> None:
        labelled, _ = attach_labels(keyed(["a", "a~1", "a~x", "a~02"]), labels_of(a="x"))
        assert labelled.labels.to_list() == ["x", None, None, None]

    def test_an_id_that_the_labels_name_as_it_stands_is_taken_so(self) -> None:
        labels = pl.DataFrame({"session": ["a", "a~2"], "label": ["x", "y"]})
        assert attach_labels(keyed(["a~2", "a"]), labels)[0].labels.to_list() == ["y", "x"]

    def test_a_session_that_the_labels_do_not_name_keeps_its_label(self) -> None:
        labelled, _ = attach_labels(keyed(["a", "b", "c"], ["old", "old", None]), labels_of(a=""))
        assert labelled.labels.to_list() == ["", "old", None]

    def test_everything_is_counted_by_session(self) -> None:
        sequences = keyed(["a", "a~2", "b", "c", "c~2"])
        _, report = attach_labels(sequences, labels_of(a="", b="x", d="", e="", f=""))
        assert report == LabelReport(n_labels=5, n_labelled=2, n_unlabelled=1, n_unused=3)

    def test_the_summary_says_what_did_not_meet(self) -> None:
        said = LabelReport(n_labels=5, n_labelled=2, n_unlabelled=1, n_unused=3).summary()
        assert said == (
            "2 sessions labelled, 1 without a label, "
            "3 of 5 labels for sessions that are not in the log"
        )

    def test_labels_of_another_log_are_refused(self) -> None:
        with pytest.raises(LabelsError, match="ids like 'z', the log like 'a'"):
            attach_labels(keyed(["a"]), labels_of(z=""))

    @given(st.permutations(["a", "a~2", "b", "c", "d~7"]))
    def test_order_of_the_sequences_changes_nothing(self, keys: list[str]) -> None:
        wanted = {"a": "x", "a~2": "x", "b": "", "c": None, "d~7": "y"}
        labelled, _ = attach_labels(keyed(keys), labels_of(d="y", b="", a="x"))
        assert labelled.labels.to_list() == [wanted[key] for key in keys]
