"""What importing oddlog costs, and what it offers."""

import subprocess
import sys
from importlib import import_module

import pytest

import oddlog

HEAVY = ("torch", "transformers", "polars", "rapidfuzz", "sklearn")
IMPORT = "import oddlog"
HELP = """
import contextlib, io, sys
sys.argv = ["oddlog", "--help"]
from oddlog.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main()
assert "Usage" in out.getvalue() or "usage" in out.getvalue(), "no help was printed"
"""


def imported_by(code):
    """Run code in a new process and return the heavy packages that it imported."""
    report = f"\nimport sys; sys.stderr.write(' '.join(n for n in {HEAVY} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


def test_importing_oddlog_imports_nothing_heavy():
    assert imported_by(IMPORT) == []


def test_showing_the_help_imports_nothing_heavy():
    assert imported_by(HELP) == []


def test_the_check_sees_what_is_heavy():
    assert imported_by("import polars") == ["polars"]


def test_listing_the_detectors_imports_no_network():
    assert set(imported_by("import oddlog.detectors")) <= {"polars"}


@pytest.mark.parametrize("name", ["length", "ngram", "edit_distance"])
def test_what_has_no_network_imports_none(name):
    found = imported_by(f"import oddlog.detectors as d; d.detector_class({name!r})")
    assert not {"torch", "transformers", "sklearn"} & set(found)


def test_every_public_name_can_be_imported():
    for name in oddlog.__all__:
        assert getattr(import_module("oddlog"), name) is not None


def test_public_names_are_listed_once():
    assert len(set(oddlog.__all__)) == len(oddlog.__all__)
