import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from oddlog import artifact
from oddlog.artifact import (
    FORMAT_VERSION,
    MANIFEST,
    check_digests,
    kept_name,
    load_arrays,
    new_folder,
    read_json,
    read_manifest,
    save_arrays,
    write_digests,
    write_json,
    write_text,
)
from oddlog.errors import ArtifactError

INTERRUPTS = [KeyboardInterrupt, SystemExit, ValueError]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def write_model(folder, note="old"):
    with new_folder(folder) as staging:
        manifest = {"format_version": FORMAT_VERSION, "oddlog": "0.1.0", "note": note}
        write_json(staging / MANIFEST, manifest)
    return folder


def let_a_rename_fail(monkeypatch, number, error):
    """Let the rename of that number, from 0, fail as an interrupt or a full disk would make it."""
    move, errors = Path.replace, [None] * number + [error]

    def replace(self, target):
        due = errors.pop(0) if errors else None
        if due:
            raise due
        return move(self, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_new_folder_holds_what_the_block_wrote(tmp_path):
    with new_folder(tmp_path / "models" / "first") as staging:
        write_text(staging / "a.txt", "ä\n")
    assert (tmp_path / "models" / "first" / "a.txt").read_text(encoding="utf-8") == "ä\n"


def test_nothing_is_under_the_name_before_the_block_ends(tmp_path):
    with new_folder(tmp_path / "model") as staging:
        write_text(staging / "a.txt", "a")
        assert not (tmp_path / "model").exists()


def test_a_finished_block_leaves_no_other_folder_behind(tmp_path):
    write_model(tmp_path / "model")
    write_model(tmp_path / "model", "new")
    assert names_in(tmp_path) == ["model"]


def test_a_new_folder_can_be_entered_by_other_users(tmp_path):
    assert write_model(tmp_path / "model").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", INTERRUPTS)
def test_an_interrupt_leaves_nothing_of_a_new_folder(tmp_path, error):
    with pytest.raises(error), new_folder(tmp_path / "model") as staging:  # noqa: PT012 -- the block
        write_text(staging / "a.txt", "half")
        raise error
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("error", INTERRUPTS)
def test_an_interrupt_leaves_the_old_model_whole(tmp_path, error):
    model = write_model(tmp_path / "model")
    with pytest.raises(error), new_folder(model) as staging:  # noqa: PT012 -- the block
        write_json(staging / MANIFEST, {"note": "new"})
        raise error
    assert (read_manifest(model)["note"], names_in(tmp_path)) == ("old", ["model"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
@pytest.mark.parametrize("number", [0, 1])
def test_a_swap_that_fails_midway_puts_the_old_model_back(tmp_path, monkeypatch, number, error):
    model = write_model(tmp_path / "model")
    with pytest.raises(type(error)), new_folder(model) as staging:  # noqa: PT012 -- the block
        write_json(staging / MANIFEST, {"note": "new"})
        let_a_rename_fail(monkeypatch, number, error)
    assert (read_manifest(model)["note"], names_in(tmp_path)) == ("old", ["model"])


def test_the_old_model_is_kept_under_the_name_asked_for(tmp_path):
    model = write_model(tmp_path / "model")
    with new_folder(model, kept_name(model)) as staging:
        write_json(staging / MANIFEST, {"note": "new"})
    assert read_json(tmp_path / "model.1" / MANIFEST)["note"] == "old"
    assert read_json(model / MANIFEST)["note"] == "new"
    assert kept_name(model) == tmp_path / "model.2"


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "model").mkdir()
    assert read_manifest(write_model(tmp_path / "model"))["note"] == "old"


def test_an_old_model_goes_with_all_its_files(tmp_path):
    model = write_model(tmp_path / "model")
    write_text(model / "detector" / "left_over.txt", "x")
    write_model(model, "new")
    assert names_in(model) == [MANIFEST]


def test_a_model_beside_which_someone_keeps_a_file_is_refused(tmp_path):
    model = write_model(tmp_path / "model")
    write_text(model / "notes.txt", "x")
    with pytest.raises(ArtifactError, match="no oddlog model"):
        write_model(model, "new")
    assert names_in(model) == [MANIFEST, "notes.txt"]


@pytest.mark.parametrize("manifest", ["{}", '{"name": "web app"}', "[1]", "not json"])
def test_a_folder_with_another_manifest_is_refused(tmp_path, manifest):
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(ArtifactError, match="no oddlog model"), new_folder(tmp_path):
        pass
    assert names_in(tmp_path) == [MANIFEST]


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter one")
    with pytest.raises(ArtifactError, match="no oddlog model"), new_folder(tmp_path):
        pass
    assert names_in(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    path = tmp_path / "model"
    path.write_text("not a folder")
    with pytest.raises(ArtifactError, match="name another folder"), new_folder(path):
        pass


def test_a_text_replaces_the_one_before(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "one")
    write_text(tmp_path / "deep" / "a.txt", "two")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "two"


def test_a_text_that_cannot_be_encoded_leaves_the_one_before(tmp_path):
    write_text(tmp_path / "a.txt", "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert (names_in(tmp_path), (tmp_path / "a.txt").read_text()) == (["a.txt"], "one")


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), {"a": float("inf")}])
def test_what_json_cannot_hold_leaves_the_file_before(tmp_path, value):
    write_json(tmp_path / "a.json", [1])
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "a.json", value)
    assert (names_in(tmp_path), read_json(tmp_path / "a.json")) == (["a.json"], [1])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # lone surrogates are no text: the encoder refuses them
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("aé\n\"\\"), inner),
    max_leaves=8,
)  # fmt: skip


@given(json_values)
def test_json_comes_back_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"a": 1} x'])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "vocab.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"vocab\.json: damaged: .*fit the model again"):
        read_json(tmp_path / "vocab.json")


def test_absent_json_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"vocab\.json: cannot read it: No such file"):
        read_json(tmp_path / "vocab.json")


def test_arrays_come_back_as_they_were_written(tmp_path):
    arrays = {
        "strided": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "narrow": np.array([-1, 2], dtype=np.int32),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), dtype=np.int64),
    }
    save_arrays(tmp_path / "new" / "a.safetensors", arrays)
    found = load_arrays(tmp_path / "new" / "a.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_arrays_leave_no_other_file_behind(tmp_path):
    save_arrays(tmp_path / "a.safetensors", {"a": np.zeros(3)})
    assert names_in(tmp_path) == ["a.safetensors"]


def test_arrays_interrupted_leave_those_before(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"a": np.zeros(3)})

    def interrupted(_, file):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_arrays(path, {"a": np.ones(3)})
    assert (names_in(tmp_path), load_arrays(path)["a"].tolist()) == (["a.safetensors"], [0, 0, 0])


def test_arrays_that_cannot_be_written_are_told_with_the_reason(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(artifact, "save_file", full)
    with pytest.raises(ArtifactError, match=r"a\.safetensors: cannot write it: No space left"):
        save_arrays(tmp_path / "a.safetensors", {"a": np.ones(3)})
    assert names_in(tmp_path) == []


def digested(folder):
    write_json(folder / "a.json", [1, 2])
    save_arrays(folder / "inner" / "b.safetensors", {"b": np.arange(50.0)})
    write_digests(folder)
    return folder


def test_files_as_they_were_written_pass(tmp_path):
    check_digests(digested(tmp_path))


@pytest.mark.parametrize("position", [8, 200, -1])
def test_one_byte_that_has_changed_is_noticed(tmp_path, position):
    path = digested(tmp_path) / "inner" / "b.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"b\.safetensors: damaged: .*fit the model again"):
        check_digests(tmp_path)


def test_a_file_that_has_gone_is_noticed(tmp_path):
    (digested(tmp_path) / "a.json").unlink()
    with pytest.raises(ArtifactError, match=r"a\.json: cannot read it: No such file"):
        check_digests(tmp_path)


def test_files_can_be_checked_apart(tmp_path):
    (digested(tmp_path) / "a.json").unlink()
    check_digests(tmp_path, "inner/")
    check_digests(tmp_path, but=("a",))


def test_a_folder_without_digests_passes_as_older_ones_have_none(tmp_path):
    write_json(tmp_path / "a.json", [1, 2])
    check_digests(tmp_path)


def test_digests_that_are_none_are_refused(tmp_path):
    write_json(tmp_path / "digests.json", [1, 2])
    with pytest.raises(ArtifactError, match=r"digests\.json: damaged"):
        check_digests(tmp_path)


@pytest.mark.parametrize("name", ["a.json", "a.safetensors"])
def test_files_of_a_model_can_be_read_by_other_users(tmp_path, name):
    write_json(tmp_path / "a.json", {})
    save_arrays(tmp_path / "a.safetensors", {"a": np.zeros(3)})
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:4], lambda b: b"", lambda b: b + b]
)
def test_damaged_arrays_are_named(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    save_arrays(path, {"a": np.zeros(3)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot read it.*fit the model"):
        load_arrays(path)


def test_absent_arrays_are_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot read it"):
        load_arrays(tmp_path / "model.safetensors")


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_a_manifest_is_no_model(tmp_path, folder):
    with pytest.raises(ArtifactError, match="no oddlog model there; `oddlog fit` makes one"):
        read_manifest(tmp_path / folder)


@pytest.mark.parametrize("manifest", [{"format_version": FORMAT_VERSION + 1}, {}, [1], None])
def test_a_model_of_another_format_version_is_refused(tmp_path, manifest):
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    readable = f"this oddlog reads {FORMAT_VERSION}; fit the model again"
    with pytest.raises(ArtifactError, match=rf"model format .*, {readable}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../elsewhere.json", "/etc/hostname"])
def test_digests_name_nothing_outside_their_folder(tmp_path, name):
    write_json(tmp_path / "digests.json", {name: "0"})
    with pytest.raises(ArtifactError, match="names a file outside the model"):
        check_digests(tmp_path)
