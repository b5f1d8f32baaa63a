"""Getting a public set: from a server that misbehaves, from lying archives, from a folder."""

import errno
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from oddlog.cli import app
from oddlog.datasets import ORIGINS, Origin, fetch, open_dataset, read_receipts, wrong_files
from oddlog.datasets.unpack import unpack
from oddlog.errors import ConfigError, EndpointError, FormatError

LOG = b"".join(b"line %d of a log\n" % i for i in range(20_000))


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


ARCHIVE = zipped(**{"set.log": LOG, "labels/labels.csv": b"a,b\n", "README.md": b"read me"})
MEMBERS = {"set.log": "set/set.log", "labels/labels.csv": "set/labels.csv"}


class Server(ThreadingHTTPServer):
    """A file server whose faults are set by a test."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.breaks_at, self.ranges, self.asked = ARCHIVE, "v1", None, True, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if self.path != "/files/set.zip":
            self.send_error(404)
            return
        begin = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(server.body) - begin))
        self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(server.body[begin : server.breaks_at])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def one_set(monkeypatch):
    """Let there be one set, of a known digest."""
    digest = "md5:" + hashlib.md5(ARCHIVE, usedforsecurity=False).hexdigest()
    origin = Origin(
        "http://127.0.0.1:1/set.zip", most=10**7, terms="free", members=MEMBERS, digest=digest
    )
    monkeypatch.setattr("oddlog.datasets.download.ORIGINS", {"set": origin})
    return origin


def test_a_set_is_fetched_checked_and_unpacked_without_the_rest(server, tmp_path):
    files = fetch("set", tmp_path, mirror=server.url)
    assert [f.relative_to(tmp_path).as_posix() for f in files] == ["set/labels.csv", "set/set.log"]
    assert (tmp_path / "set/set.log").read_bytes() == LOG
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"set.log", "labels.csv", "downloads.json"}


def test_what_was_fetched_is_written_down_and_not_fetched_again(server, tmp_path):
    fetch("set", tmp_path, mirror=server.url)
    receipt = read_receipts(tmp_path)["set"]
    assert receipt["files"]["set/set.log"] == hashlib.sha256(LOG).hexdigest()
    assert receipt["archive"] == hashlib.sha256(ARCHIVE).hexdigest()
    fetch("set", tmp_path, mirror=server.url)
    assert len(server.asked) == 1


def test_a_download_that_breaks_off_is_continued(server, tmp_path):
    server.breaks_at = 5000
    with pytest.raises(EndpointError, match=r"5,000 of [\d,]+ bytes arrived.*are kept"):
        fetch("set", tmp_path, mirror=server.url)
    assert not (tmp_path / "set").exists()
    server.breaks_at = None
    fetch("set", tmp_path, mirror=server.url)
    assert server.asked == [None, "bytes=5000-"]
    assert (tmp_path / "set/set.log").read_bytes() == LOG


def test_a_file_that_changed_meanwhile_is_begun_anew(server, tmp_path):
    server.breaks_at, server.body = 5000, b"?" * len(ARCHIVE)
    with pytest.raises(EndpointError):
        fetch("set", tmp_path, mirror=server.url)
    server.breaks_at, server.body, server.tag = None, ARCHIVE, "v2"
    fetch("set", tmp_path, mirror=server.url)
    assert (tmp_path / "set/set.log").read_bytes() == LOG


def test_a_server_that_cannot_continue_is_asked_for_the_whole(server, tmp_path):
    server.breaks_at = 5000
    with pytest.raises(EndpointError):
        fetch("set", tmp_path, mirror=server.url)
    server.breaks_at, server.ranges = None, False
    fetch("set", tmp_path, mirror=server.url)
    assert (tmp_path / "set/set.log").read_bytes() == LOG


def test_a_part_that_is_whole_is_not_asked_for_again(server, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.unlink", lambda *a, **k: None)
        patched.setattr("oddlog.datasets.download._check", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch("set", tmp_path, mirror=server.url)
    fetch("set", tmp_path, mirror=server.url)
    assert len(server.asked) == 1


def test_another_file_than_the_published_one_is_refused_and_removed(server, tmp_path):
    server.body = zipped(**{"set.log": b"forged", "labels/labels.csv": b"a,b\n"})
    with pytest.raises(FormatError, match=r"md5 is .* and should be"):
        fetch("set", tmp_path, mirror=server.url)
    assert not list(tmp_path.rglob("*.zip"))
    assert not (tmp_path / "set").exists()


def test_without_a_published_digest_a_later_download_is_held_against_the_first(
    server, tmp_path, monkeypatch, one_set
):
    nameless = Origin(one_set.url, most=10**7, terms="free", members=MEMBERS)
    monkeypatch.setattr("oddlog.datasets.download.ORIGINS", {"set": nameless})
    fetch("set", tmp_path, mirror=server.url)
    (tmp_path / "set/set.log").unlink()
    server.body = zipped(**{"set.log": b"forged", "labels/labels.csv": b"a,b\n"})
    with pytest.raises(FormatError, match="sha256 is"):
        fetch("set", tmp_path, mirror=server.url)


def test_a_damaged_archive_that_no_digest_vouches_for_is_fetched_again(
    server, tmp_path, monkeypatch, one_set
):
    nameless = Origin(one_set.url, most=10**7, terms="free", members=MEMBERS)
    monkeypatch.setattr("oddlog.datasets.download.ORIGINS", {"set": nameless})
    server.body = ARCHIVE[: len(ARCHIVE) // 2]
    with pytest.raises(FormatError, match="damaged"):
        fetch("set", tmp_path, mirror=server.url)
    server.body = ARCHIVE
    fetch("set", tmp_path, mirror=server.url)
    assert (tmp_path / "set/set.log").read_bytes() == LOG


def test_a_file_that_is_taken_as_it_is_stands_at_its_place(server, tmp_path, monkeypatch, one_set):
    whole = Origin(one_set.url, most=10**7, terms="free", place="set/packed.zip")
    monkeypatch.setattr("oddlog.datasets.download.ORIGINS", {"set": whole})
    assert fetch("set", tmp_path, mirror=server.url) == [tmp_path / "set/packed.zip"]
    assert (tmp_path / "set/packed.zip").read_bytes() == ARCHIVE
    assert not wrong_files(tmp_path, read_receipts(tmp_path)["set"])


def test_a_server_that_has_no_such_file_is_told(server, tmp_path):
    with pytest.raises(EndpointError, match="404"):
        fetch("set", tmp_path, mirror=server.url + "/elsewhere")


def test_a_server_that_is_not_there_is_told_with_the_way_out(tmp_path):
    with pytest.raises(EndpointError, match="--from names a mirror"):
        fetch("set", tmp_path)


def test_a_disk_without_room_is_told_before_a_byte_is_written(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(OSError, match="bytes are needed and 10 free") as caught:
        fetch("set", tmp_path, mirror=server.url)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / ".downloads/set.zip").exists()


def test_a_disk_that_fills_up_while_unpacking_leaves_the_archive_and_no_half_file(
    server, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("oddlog.datasets.unpack._copy", full)
        with pytest.raises(OSError, match="No space left"):
            fetch("set", tmp_path, mirror=server.url)
    assert not (tmp_path / "set").exists()
    fetch("set", tmp_path, mirror=server.url)
    assert len(server.asked) == 1


def test_a_folder_stands_in_for_a_server(tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/set.zip").write_bytes(ARCHIVE)
    fetch("set", tmp_path / "data", mirror=str(tmp_path / "mirror"))
    assert (tmp_path / "data/set/set.log").read_bytes() == LOG
    assert (tmp_path / "mirror/set.zip").exists()


def test_a_mirror_without_the_file_and_a_set_without_a_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"set\.zip: not there"):
        fetch("set", tmp_path, mirror=str(tmp_path))
    with pytest.raises(ConfigError, match="no set named 'sett'"):
        fetch("sett", tmp_path)


@pytest.mark.parametrize("name", ["../set.log", "/etc/set.log", "a/../../set.log", "C:\\set.log"])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(zipped(**{name: b"x", "set.log": b"y"}))
    with pytest.raises(FormatError, match="leaves its folder"):
        unpack(tmp_path / "a.zip", {"": "out/"}, tmp_path / "out", 100)
    assert {p.name for p in tmp_path.rglob("*")} == {"a.zip"}


def test_a_link_is_no_file(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("set.log")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(FormatError, match=r"nothing called 'set\.log'"):
        unpack(tmp_path / "a.tar.gz", {"set.log": "set.log"}, tmp_path / "out", 100)


def test_an_archive_that_unpacks_to_more_than_its_set_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(**{"set.log": b"0" * 10**6}))
    with pytest.raises(FormatError, match="more than 999,999 bytes"):
        unpack(tmp_path / "a.zip", {"set.log": "set.log"}, tmp_path / "out", 999_999)


def test_an_archive_that_lies_about_a_size_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped(**{"set.log": b"0" * 10**6}))
    lying = _opened_with_size(tmp_path / "a.zip", size=1)
    monkeypatch.setattr("oddlog.datasets.unpack._opened", lying)
    with pytest.raises(FormatError, match="more than 1,000 bytes"):
        unpack(tmp_path / "a.zip", {"set.log": "set.log"}, tmp_path / "out", 1000)


def _opened_with_size(path, size):
    @contextmanager
    def opened(_):
        with zipfile.ZipFile(path) as archive:
            yield iter([("set.log", size, lambda: archive.open("set.log"))])

    return opened


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(ARCHIVE[: len(ARCHIVE) // 2])
    with pytest.raises(FormatError, match="damaged"):
        unpack(tmp_path / "a.zip", MEMBERS, tmp_path / "out", 10**7)


def test_all_files_below_a_path_keep_their_own(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(**{"x/1.log": b"1", "x/y/2.log": b"2", "z": b"3"}))
    places = unpack(tmp_path / "a.zip", {"x/": "got/"}, tmp_path / "out", 100)
    assert [p.as_posix() for p in places] == ["got/1.log", "got/y/2.log"]


def test_a_changed_file_is_found(server, tmp_path):
    fetch("set", tmp_path, mirror=server.url)
    (tmp_path / "set/set.log").write_bytes(LOG[:-1])
    assert wrong_files(tmp_path, read_receipts(tmp_path)["set"]) == ["set/set.log"]


def test_the_command_checks_what_it_fetched(server, tmp_path, monkeypatch, one_set):
    monkeypatch.setattr("oddlog.datasets.ORIGINS", {"set": one_set})
    run = CliRunner().invoke
    done = run(app, ["data", "fetch", "set", "--to", str(tmp_path), "--from", server.url])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "set/set.log") in done.stdout
    assert run(app, ["data", "check", "--to", str(tmp_path)]).output == "set: right\n"
    (tmp_path / "set/set.log").unlink()
    wrong = run(app, ["data", "check", "--to", str(tmp_path)])
    assert isinstance(wrong.exception, FormatError)
    assert "set/set.log: missing or changed" in wrong.output


def test_the_list_names_every_set_with_its_terms():
    listed = CliRunner().invoke(app, ["data", "list"]).stdout.splitlines()
    assert [json.loads(line)["name"] for line in listed] == list(ORIGINS)
    assert all(json.loads(line)["terms"] for line in listed)


def test_a_set_that_is_not_there_is_answered_with_the_command_that_gets_it(tmp_path):
    with pytest.raises(ConfigError, match=r"`oddlog data fetch bgl_log --to"):
        open_dataset("bgl_log", tmp_path)


def test_every_set_goes_below_the_data_folder():
    for origin in ORIGINS.values():
        assert origin.url.startswith(("https://zenodo.org/", "http://0b4af6"))
        for place in origin.places:
            assert not place.startswith("/")
            assert ".." not in place
