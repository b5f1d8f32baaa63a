"""Bytes to lines: nothing lost, all counted, what cannot be read refused with a reason."""

import bz2
import gzip
import io
import lzma
import sys
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from oddlog.errors import FormatError
from oddlog.formats import lines as lines_module
from oddlog.formats import read_events
from oddlog.formats.lines import Repairs, iter_lines


def read(path: Path, data: bytes) -> tuple[list[str], Repairs]:
    path.write_bytes(data)
    blocks = list(iter_lines(str(path)))
    found = Repairs()
    for _, repairs, _ in blocks:
        found = found + repairs
    return [line for block, *_ in blocks for line in block.to_list()], found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.log"


def test_the_last_line_needs_no_end(path: Path) -> None:
    assert read(path, b"a\nb")[0] == ["a", "b"]


def test_an_empty_line_is_a_line(path: Path) -> None:
    assert read(path, b"\na\n\n")[0] == ["", "a", ""]


def test_an_empty_file_has_no_lines(path: Path) -> None:
    assert read(path, b"") == ([], Repairs())


def test_carriage_returns_before_a_line_end_belong_to_it_and_are_counted(path: Path) -> None:
    assert read(path, b"a\r\nb\r\r\nc\n") == (["a", "b", "c"], Repairs(n_cr=2))


def test_a_carriage_return_within_a_line_stays(path: Path) -> None:
    assert read(path, b"50%\r100%\n")[0] == ["50%\r100%"]


def test_a_file_without_line_feeds_ends_its_lines_with_carriage_returns(path: Path) -> None:
    assert read(path, b"a\rb\rc")[0] == ["a", "b", "c"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_line_feeds_end_lines(path: Path, mark: str) -> None:
    assert read(path, f"a{mark}b\n".encode())[0] == [f"a{mark}b"]


def test_a_byte_order_mark_is_no_text(path: Path) -> None:
    assert read(path, b"\xef\xbb\xbfa\n")[0] == ["a"]


def test_bytes_that_are_not_utf8_are_written_out_and_their_lines_counted(path: Path) -> None:
    assert read(path, b"caf\xe9 \xff\nok\n\xe9\n") == (
        ["caf\\xe9 \\xff", "ok", "\\xe9"],
        Repairs(n_repaired=2),
    )


def test_valid_text_beside_bad_bytes_is_not_changed(path: Path) -> None:
    assert read(path, "é ✓ ".encode() + b"\xff\n")[0] == ["é ✓ \\xff"]


def test_nul_is_kept_and_its_lines_counted(path: Path) -> None:
    assert read(path, b"a\0b\0\nc\n") == (["a\0b\0", "c"], Repairs(n_nul=1))


def test_colours_of_a_terminal_are_taken_out_and_their_lines_counted(path: Path) -> None:
    data = b"\x1b[32m12:00:00\x1b[0m \x1b[1;31mERROR\x1b[m up\nplain\n\x1b[2J\x1b]0;t\x07 moved\n"
    lines = ["12:00:00 ERROR up", "plain", "\x1b[2J\x1b]0;t\x07 moved"]
    assert read(path, data) == (lines, Repairs(n_coloured=1))


def test_a_coloured_header_is_found_like_a_plain_one(path: Path) -> None:
    plain = b"2026-03-01 00:00:02 INFO app: worker %d done\n"
    path.write_bytes(b"".join(plain % i for i in range(2000)))
    expected, _ = read_events(path)
    path.write_bytes(b"".join(b"\x1b[2m" + (plain % i)[:-1] + b"\x1b[0m\n" for i in range(2000)))
    found, report = read_events(path)
    assert found.equals(expected)
    assert "2,000 freed of colour codes" in report.summary()


@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")]
)
def test_utf16_without_a_mark_is_named_too(path: Path, encoding: str, name: str) -> None:
    path.write_bytes("2026-03-01 00:00:02 größer INFO\n".encode(encoding) * 100)
    with pytest.raises(FormatError, match=rf"iconv -f {name} "):
        list(iter_lines(str(path)))


def test_a_line_of_ten_megabytes_is_read_whole(path: Path) -> None:
    lines, _ = read(path, b"a\n" + b"x" * 10_000_000 + b"\nb\n")
    assert [len(line) for line in lines] == [1, 10_000_000, 1]


def test_a_line_without_bound_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 1_000)
    with pytest.raises(FormatError, match="a line of more than 1,000 bytes"):
        read(path, b"x" * 2_000)


@given(text=st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r\0"))))
def test_lines_come_back_as_written_whatever_the_block_size(
    text: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "x.log"
    path.write_bytes("".join(f"{line}\n" for line in ["start", *text]).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "BLOCK_BYTES", 7)
        patch.setattr(lines_module, "PACKED_BYTES", 5)
        patch.setattr(lines_module, "SNIFF_BYTES", 3)
        patch.setattr(lines_module, "N_CONTROLS", 10_000)
        found = [line for block, *_ in iter_lines(str(path)) for line in block.to_list()]
    assert found == ["start", *text]


@given(raw=st.lists(st.binary().map(lambda b: b.translate(None, b"\n\r"))))
def test_any_bytes_are_kept_as_escapes(
    raw: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.log"
    path.write_bytes(b"".join(line + b"\n" for line in [b"start", *raw]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "N_CONTROLS", 10_000)
        found = [line for block, *_ in iter_lines(str(path)) for line in block.to_list()]
    assert found == ["start", *(line.decode(errors="backslashreplace") for line in raw)]


PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
NOISY = b"".join(b"line %d %x\n" % (i, i * 2654435761) for i in range(20_000))


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_files_are_known_by_their_bytes(path: Path, kind: str) -> None:
    assert read(path, PACKERS[kind](b"a\nb\n"))[0] == ["a", "b"]


@pytest.mark.parametrize("kind", PACKERS)
def test_packed_files_may_have_several_members(path: Path, kind: str) -> None:
    pack = PACKERS[kind]
    assert read(path, pack(b"a\nb") + pack(b"c\n"))[0] == ["a", "bc"]


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_file_that_ends_too_early_is_refused(path: Path, kind: str) -> None:
    with pytest.raises(FormatError, match=f"{path}.* {kind} data ends too early"):
        read(path, PACKERS[kind](NOISY)[:-20])


@pytest.mark.parametrize("kind", PACKERS)
def test_a_damaged_packed_file_is_refused(path: Path, kind: str) -> None:
    packed = bytearray(PACKERS[kind](NOISY))
    middle = len(packed) // 2
    packed[middle : middle + 40] = bytes(40)
    with pytest.raises(FormatError, match=f"damaged {kind} data"):
        read(path, bytes(packed))


def test_zeros_after_a_gzip_member_are_padding(path: Path) -> None:
    assert read(path, gzip.compress(b"a\n") + bytes(512))[0] == ["a"]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FormatError, match=r"nowhere\.log: no such file"):
        read_events("nowhere.log")


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is a folder; name the files in it"):
        read_events(tmp_path)


def test_a_binary_file_is_refused(path: Path) -> None:
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 64)
    with pytest.raises(FormatError, match="looks binary"):
        read_events(path)


def test_utf16_is_refused_with_what_to_do(path: Path) -> None:
    path.write_text("a line\n", encoding="utf-16")
    with pytest.raises(FormatError, match=r"UTF-16.*iconv"):
        read_events(path)


def test_nuls_before_a_log_do_not_make_it_binary(path: Path) -> None:
    assert read(path, bytes(500) + b"and then a log line\n" * 50)[1].n_nul == 1


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"a\nb\n"))))
    events, report = read_events("-", "plain")
    assert (events["raw"].to_list(), report.source) == (["a", "b"], "-")


def test_an_empty_source_gives_an_empty_table(path: Path) -> None:
    path.write_bytes(b"")
    events, report = read_events(path)
    assert (events.height, report.n_lines, events.schema["time"]) == (
        0,
        0,
        pl.Datetime("us", "UTC"),
    )


def test_carriage_returns_of_a_large_block_are_counted_and_gone(path: Path, monkeypatch) -> None:
    monkeypatch.setattr("oddlog.shapes.FEW_BYTES", 0)
    assert read(path, b"a\r\nb\r\r\nc\r\rd\ne\r") == (["a", "b", "c\r\rd", "e"], Repairs(n_cr=3))
