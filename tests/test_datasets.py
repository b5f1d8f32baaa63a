"""Readers of ids and streams, and the named data sets."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.datasets import (
    DATASETS,
    IdDataset,
    IdStream,
    RawDataset,
    open_dataset,
    read_ids,
    read_labels,
    read_stream,
)
from oddlog.errors import ConfigError, FormatError
from oddlog.events import Sequences

ARRAYS = {
    "events": np.array([5, 22, 5, 7, 7, 7], dtype=np.int8),
    "offsets": np.array([0, 3, 4, 6], dtype=np.int64),
    "labels": np.array([0, 1, -1], dtype=np.int8),
}


def save_npz(folder: Path, **changes: np.ndarray | None) -> Path:
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    np.savez_compressed(folder / "set.npz", **arrays)
    return folder / "set.npz"


def save_text(folder: Path, text: str | bytes) -> Path:
    path = folder / "set.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lists(sequences: Sequences) -> list[list[int]]:
    flat = np.split(sequences.template_ids(), sequences.offsets[1:-1])
    return [ids.tolist() for ids in flat]


class TestReadIds:
    def test_npz_gives_the_sequences_that_its_offsets_cut(self, tmp_path: Path) -> None:
        sequences = read_ids(save_npz(tmp_path)).sequences
        assert lists(sequences) == [[5, 22, 5], [7], [7, 7]]

    def test_npz_labels_0_1_and_minus_1_are_normal_anomaly_and_unknown(
        self, tmp_path: Path
    ) -> None:
        assert read_ids(save_npz(tmp_path)).sequences.labels.to_list() == ["", "anomaly", None]

    def test_npz_without_labels_has_unknown_labels(self, tmp_path: Path) -> None:
        assert not read_ids(save_npz(tmp_path, labels=None)).sequences.labelled.any()

    def test_other_label_numbers_are_classes(self, tmp_path: Path) -> None:
        path = save_npz(tmp_path, labels=np.array([0, 2, 3]))
        assert read_ids(path).sequences.labels.to_list() == ["", "2", "3"]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"events": None}, "no array 'events'"),
            ({"offsets": None}, "no array 'offsets'; a stream"),
            ({"events": np.array([[1, 2]])}, r"array 'events' is int64 of shape \(1, 2\)"),
            ({"events": np.array([1.0] * 6)}, "array 'events' is float64"),
            ({"events": np.array([1, 2, 3, 4, 5, -1])}, "ids from -1 to 5"),
            ({"events": np.array([1, 2, 3, 4, 5, 2**31])}, "ids from 1 to 2147483648"),
            ({"offsets": np.array([1, 3, 4, 6])}, "offsets run from 1 to 6"),
            ({"offsets": np.array([0, 3, 4, 7])}, "offsets run from 0 to 7.* events, 6"),
            ({"offsets": np.array([0, 3, 3, 6])}, "sequence 1 has 0 events"),
            ({"offsets": np.array([0, 4, 3, 6])}, "sequence 1 has -1 events"),
            ({"offsets": np.array([0])}, "no sequences in it"),
            ({"labels": np.array([0, 1])}, "2 labels for 3 sequences"),
            ({"labels": np.array(["a", "b", "c"])}, "array 'labels' is <U1"),
        ],
    )
    def test_npz_arrays_that_do_not_fit_are_named(
        self, tmp_path: Path, changes: dict, said: str
    ) -> None:
        with pytest.raises(FormatError, match=said):
            read_ids(save_npz(tmp_path, **changes))

    def test_objects_in_an_npz_are_never_unpickled(self, tmp_path: Path) -> None:
        path = save_npz(tmp_path, events=np.array([{}, []], dtype=object))
        with pytest.raises(FormatError, match="no npz of plain arrays"):
            read_ids(path)

    @given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1))
    @settings(max_examples=150)
    def test_a_damaged_npz_is_a_format_error_or_reads_whole(
        self, places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **ARRAYS)
        content = bytearray(buffer.getvalue())
        for place, value in places:
            content[place % len(content)] = value
        path = tmp_path_factory.getbasetemp() / "damaged.npz"
        path.write_bytes(bytes(content))
        try:
            sequences = read_ids(path).sequences
        except FormatError:
            return
        assert sequences.offsets[-1] == len(sequences.rows)

    def test_a_truncated_npz_is_a_format_error(self, tmp_path: Path) -> None:
        path = save_npz(tmp_path)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(FormatError, match="damaged"):
            read_ids(path)

    def test_a_truncated_parquet_is_a_format_error(self, tmp_path: Path) -> None:
        path = tmp_path / "set.parquet"
        pl.DataFrame({"events": [[1]]}).write_parquet(path)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(FormatError, match="damaged parquet"):
            read_ids(path)

    def test_a_missing_file_is_a_format_error(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="No such file"):
            read_ids(tmp_path / "none.npz")

    def test_parquet_takes_lists_and_keeps_the_other_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "set.parquet"
        pl.DataFrame(
            {
                "session": ["a", "b"],
                "events": [[1, 2], [3]],
                "label": ["Normal", "x"],
                "app": [7, 8],
            }
        ).write_parquet(path)
        read = read_ids(path)
        assert lists(read.sequences) == [[1, 2], [3]]
        assert read.sequences.keys.to_list() == ["a", "b"]
        assert read.sequences.labels.to_list() == ["", "x"]
        assert read.columns.to_dict(as_series=False) == {"app": [7, 8]}

    def test_csv_takes_ids_with_blanks_between_them(self, tmp_path: Path) -> None:
        path = save_text(tmp_path, "session,events,label\na, 1  2 3 ,0\nb,4,disk_full\nc,5,\n")
        sequences = read_ids(path).sequences
        assert lists(sequences) == [[1, 2, 3], [4], [5]]
        assert sequences.labels.to_list() == ["", "disk_full", None]

    def test_columns_can_be_named(self, tmp_path: Path) -> None:
        path = save_text(tmp_path, "who,what,kind,label\nx,1 2,a,b\n")
        sequences = read_ids(path, events="what", key="who", label="kind").sequences
        assert (lists(sequences), sequences.keys[0], sequences.labels[0]) == ([[1, 2]], "x", "a")

    def test_sequences_without_names_are_numbered(self, tmp_path: Path) -> None:
        sequences = read_ids(save_text(tmp_path, "events,other\n1 2,-\n3,-\n")).sequences
        assert sequences.keys.to_list() == ["0", "1"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "empty CSV"),
            ("events,label\n", "no sequences in it"),
            ("session,label\na,0\n", "no column of ids"),
            ("session,events\na,1 2\nb,\n", "row 2 has no events"),
            ("session,events\na,1 2\nb,3 x 4\n", "row 2: 'x' is not an id"),
            ("session,events\na,1 2\nb,3 -4\n", "ids from -4 to 3"),
            ("session,events\na,1 2\na,3\n", "row 2: 'a' a second time"),
            ("session,events\na,1 2,3,4\n", "more fields"),
        ],
    )
    def test_a_csv_that_does_not_fit_is_named(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(FormatError, match=said):
            read_ids(save_text(tmp_path, text))

    def test_a_column_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="no column 'nope'; it has session, events"):
            read_ids(save_text(tmp_path, "session,events\na,1\n"), label="nope")

    def test_label_numbers_of_a_table_mean_what_those_of_an_npz_mean(self, tmp_path: Path) -> None:
        path = tmp_path / "set.parquet"
        pl.DataFrame({"events": [[1]] * 5, "label": [0, 1, -1, None, 7]}).write_parquet(path)
        labels = read_ids(path).sequences.labels.to_list()
        assert labels == ["", "anomaly", None, None, "7"]

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"events": [7]}, "column 'events' is Int64, not lists of ids"),
            ({"events": [[7]], "label": [0.5]}, "column 'label' is Float64; labels are"),
        ],
    )
    def test_columns_of_another_type_are_refused(
        self, tmp_path: Path, columns: dict, said: str
    ) -> None:
        pl.DataFrame(columns).write_parquet(tmp_path / "set.parquet")
        with pytest.raises(FormatError, match=said):
            read_ids(tmp_path / "set.parquet")

    def test_ids_that_are_not_whole_numbers_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "set.parquet"
        pl.DataFrame({"events": [[1.5, 2.0]]}).write_parquet(path)
        with pytest.raises(FormatError, match=r"row 1: 1\.5 is not an id"):
            read_ids(path)

    @given(
        wanted=st.lists(st.lists(st.integers(0, 400), min_size=1), min_size=1, max_size=9),
        kind=st.sampled_from(["npz", "parquet", "csv"]),
    )
    @settings(max_examples=60)
    def test_whatever_is_written_is_read_back(
        self, wanted: list[list[int]], kind: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.getbasetemp() / f"back.{kind}"
        if kind == "npz":
            offsets = np.cumsum([0, *map(len, wanted)])
            np.savez(path, events=np.concatenate(wanted), offsets=offsets)
        elif kind == "parquet":
            pl.DataFrame({"events": wanted}).write_parquet(path)
        else:
            pl.DataFrame({"events": [" ".join(map(str, ids)) for ids in wanted]}).write_csv(path)
        assert lists(read_ids(path).sequences) == wanted


class TestReadStream:
    def test_it_is_an_event_table_with_labels_by_line(self, tmp_path: Path) -> None:
        path = tmp_path / "stream.npz"
        np.savez(path, event=np.array([3, 9, 3], np.int16), label=np.array([-1, 0, 1], np.int8))
        events = read_stream(path).events
        assert events["line"].to_list() == [1, 2, 3]
        assert events["template_id"].to_list() == [3, 9, 3]
        assert events["label"].to_list() == [None, "", "anomaly"]

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"events": np.array([1, 2]), "labels": np.array([0])}, "1 labels for 2 events"),
            ({"events": np.array([1, 2])}, "no array 'labels'"),
            ({"events": np.array([], int), "labels": np.array([], int)}, "no events"),
        ],
    )
    def test_arrays_that_do_not_fit_are_named(
        self, tmp_path: Path, arrays: dict, said: str
    ) -> None:
        np.savez(tmp_path / "stream.npz", **arrays)
        with pytest.raises(FormatError, match=said):
            read_stream(tmp_path / "stream.npz")

    def test_another_kind_of_file_is_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "one.npy", np.array([1, 2]))
        with pytest.raises(FormatError, match="not an npz"):
            read_stream(tmp_path / "one.npy")


def lay_out(folder: Path) -> Path:
    """Write tiny data sets in the layout of the real folder."""
    for name in ("hdfs", "bgl", "adfa_ld", "hadoop"):
        (folder / name).mkdir()
    np.savez(folder / "hdfs/hdfs_v1_sessions.npz", **ARRAYS)
    (folder / "hdfs/HDFS.log_templates.csv").write_text(
        "EventId,EventTemplate\nE5,[*]Served block[*]to[*]\nE22,a b\n"
    )
    pl.DataFrame(
        {"application": ["p"], "container": ["c"], "class": ["normal"], "event_ids": ["1 2"]}
    ).write_parquet(folder / "hadoop/hadoop_containers.parquet")
    (folder / "hadoop/Hadoop_templates.csv").write_text('one, "<*>"\ntwo\n')
    np.savez(folder / "bgl/bgl_second_half_first80.npz", event=np.array([4]), label=np.array([1]))
    (folder / "bgl/id_to_text_partial.json").write_text('{"4": {"text": "ciod", "how": "-"}}')
    return folder


class TestOpenDataset:
    def test_hdfs_texts_are_known_by_number(self, tmp_path: Path) -> None:
        opened = open_dataset("hdfs_v1", lay_out(tmp_path))
        assert isinstance(opened, IdDataset)
        assert opened.texts == {5: "<*> Served block <*> to <*>", 22: "a b"}

    def test_hadoop_texts_are_numbered_by_line_and_classes_are_labels(self, tmp_path: Path) -> None:
        opened = open_dataset("hadoop", lay_out(tmp_path))
        assert isinstance(opened, IdDataset)
        assert opened.texts == {1: 'one, "<*>"', 2: "two"}
        assert opened.sequences.labels.to_list() == [""]
        assert opened.columns["application"].to_list() == ["p"]

    def test_bgl_is_a_stream_with_the_texts_that_are_known(self, tmp_path: Path) -> None:
        opened = open_dataset("bgl_stream", lay_out(tmp_path))
        assert isinstance(opened, IdStream)
        assert (opened.texts, opened.events["label"].to_list()) == ({4: "ciod"}, ["anomaly"])

    def test_an_unknown_name_is_answered_with_those_that_exist(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"did you mean 'hdfs_v1'.*adfa_ld, hadoop"):
            open_dataset("hdfs_v2", tmp_path)

    @pytest.mark.parametrize("name", DATASETS)
    def test_a_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError, match=f"data set '{name}': .* is not there"):
            open_dataset(name, tmp_path)

    @pytest.mark.parametrize(
        ("file", "text", "name"),
        [
            ("hdfs/HDFS.log_templates.csv", "a,b\n1,2\n", "hdfs_v1"),
            ("hdfs/HDFS.log_templates.csv", "EventId,EventTemplate\n5,x\n", "hdfs_v1"),
            ("bgl/id_to_text_partial.json", "[1, 2]", "bgl_stream"),
            ("bgl/id_to_text_partial.json", "{", "bgl_stream"),
            ("bgl/id_to_text_partial.json", json.dumps({"4": "ciod"}), "bgl_stream"),
        ],
    )
    def test_texts_of_another_shape_are_a_format_error(
        self, tmp_path: Path, file: str, text: str, name: str
    ) -> None:
        (lay_out(tmp_path) / file).write_text(text)
        with pytest.raises(FormatError, match="not a"):
            open_dataset(name, tmp_path)

    def test_texts_that_are_not_text_are_a_format_error(self, tmp_path: Path) -> None:
        (lay_out(tmp_path) / "hadoop/Hadoop_templates.csv").write_bytes(b"\xff\xfe")
        with pytest.raises(FormatError, match="not UTF-8"):
            open_dataset("hadoop", tmp_path)


@pytest.mark.data
class TestRealData:
    @pytest.mark.parametrize(
        ("name", "n_sessions", "n_events", "classes"),
        [
            ("hdfs_v1", 575_059, 11_175_589, {"": 558_221, "anomaly": 16_838}),
            ("hdfs_v1_logdeep", 575_059, 11_172_157, {"": 558_221, "anomaly": 16_838}),
            (
                "adfa_ld",
                5_951,
                2_747_550,
                {
                    "": 5_205,
                    "Hydra_SSH": 176,
                    "Hydra_FTP": 162,
                    "Java_Meterpreter": 124,
                    "Web_Shell": 118,
                    "Adduser": 91,
                    "Meterpreter": 75,
                },
            ),
            (
                "hadoop",
                978,
                181_865,
                {"machine_down": 523, "": 167, "disk_full": 152, "network_disconnection": 136},
            ),
        ],
    )
    def test_ids_have_the_published_counts(
        self, data_folder: Path, name: str, n_sessions: int, n_events: int, classes: dict
    ) -> None:
        opened = open_dataset(name, data_folder)
        assert isinstance(opened, IdDataset)
        sequences = opened.sequences
        assert (len(sequences), len(sequences.rows)) == (n_sessions, n_events)
        assert dict(sequences.labels.value_counts().rows()) == classes

    @pytest.mark.parametrize("name", ["hdfs_v1", "hadoop"])
    def test_every_id_has_a_text(self, data_folder: Path, name: str) -> None:
        opened = open_dataset(name, data_folder)
        assert isinstance(opened, IdDataset)
        assert set(np.unique(opened.sequences.template_ids()).tolist()) <= set(opened.texts)

    def test_hadoop_has_one_class_for_each_of_55_applications(self, data_folder: Path) -> None:
        opened = open_dataset("hadoop", data_folder)
        assert isinstance(opened, IdDataset)
        pairs = opened.columns.with_columns(opened.sequences.labels).unique(
            ["application", "label"]
        )
        assert pairs.height == pairs["application"].n_unique() == 55

    def test_adfa_attacks_are_in_the_split_of_attacks(self, data_folder: Path) -> None:
        opened = open_dataset("adfa_ld", data_folder)
        assert isinstance(opened, IdDataset)
        split = opened.columns["split"].to_numpy()
        assert ((split == "attack") == opened.sequences.anomalous).all()

    def test_bgl_stream_has_1885300_lines_of_which_20_are_unlabelled(
        self, data_folder: Path
    ) -> None:
        opened = open_dataset("bgl_stream", data_folder)
        assert isinstance(opened, IdStream)
        assert (opened.events.height, opened.events["label"].null_count()) == (1_885_300, 20)
        assert len(opened.texts) == 68

    def test_hdfs_raw_has_labels_of_11501_blocks(self, data_folder: Path) -> None:
        opened = open_dataset("hdfs_raw", data_folder)
        assert isinstance(opened, RawDataset)
        assert opened.labels is not None
        counts = dict(read_labels(opened.labels)["label"].value_counts().rows())
        assert counts == {"": 11_151, "anomaly": 350}

    def test_bgl_raw_carries_its_labels_itself(self, data_folder: Path) -> None:
        opened = open_dataset("bgl_raw", data_folder)
        assert opened == RawDataset(data_folder / "bgl/bgl_100k.log.gz", "bgl", None)


def test_templates_can_stand_for_the_messages_that_were_never_kept() -> None:
    dataset = IdDataset(Sequences.from_ids([[5, 7], [5]]), {5: "Receiving block <*>"})
    messages = dataset.with_messages().messages()
    assert messages.to_list() == ["Receiving block <*>", None, "Receiving block <*>"]
