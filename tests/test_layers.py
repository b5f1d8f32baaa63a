"""What importing oddlog costs, and what it offers."""

import subprocess
import sys
from importlib import import_module

import pytest

import oddlog
from oddlog.pipeline import fit, make_config

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


SCORE = """
import contextlib, sys
sys.argv = ["oddlog", "score", {log!r}, "--model", {model!r}, "--all"]
from oddlog.cli import main
with contextlib.suppress(SystemExit):
    main()
"""


def imported_by(code, names=HEAVY):
    """Run code in a new process and return the heavy packages that it imported."""
    found = f"' '.join(name for name in {names} if name in sys.modules)"
    report = f"\nimport sys; sys.stderr.write('\\nimported:' + {found})"
    done = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    _, told, imported = done.stderr.rpartition("\nimported:")
    assert told, "the code left before it was done"
    return imported.split()


def test_importing_oddlog_imports_nothing_heavy():
    assert imported_by(IMPORT) == []


def test_showing_the_help_imports_nothing_heavy():
    assert imported_by(HELP) == []


def test_the_check_sees_what_is_heavy():
    assert imported_by("import polars") == ["polars"]


def test_listing_the_detectors_imports_no_network():
    assert set(imported_by("import oddlog.detectors")) <= {"polars"}


TAKES_SECONDS = (
    *("transformers", "peft", "accelerate", "huggingface_hub", "sklearn", "scipy", "sympy"),
    *("torch._dynamo", "torch._inductor", "torch.onnx", "onnx", "onnxruntime"),
)


def scoring(folder, detector, **settings):
    """Fit a small log, and return the code that scores it from the command line."""
    log, model = folder / "app.log", folder / "model"
    log.write_text("".join(f"session s{i} open\nsession s{i} shut\n" for i in range(40)))
    given = {"detector": detector, "session_by": r"session (\S+)", detector: settings}
    fit([log], make_config(given, "test"), model=model)
    return SCORE.format(log=str(log), model=str(model))


def test_a_network_that_scores_imports_torch_and_nothing_that_takes_as_long(tmp_path):
    code = scoring(tmp_path, "loggpt", layers=1, epochs=1, reads="order")
    assert imported_by(code, ("torch", *TAKES_SECONDS)) == ["torch"]


def test_other_networks_are_imported_without_what_takes_as_long_as_torch():
    names = ("logbert", "deeplog", "gpt2_classifier")
    code = f"import oddlog.detectors as d; [d.detector_class(name) for name in {names}]"
    assert imported_by(code, ("torch", *TAKES_SECONDS)) == ["torch"]


def test_a_rule_that_scores_imports_no_network(tmp_path):
    assert imported_by(scoring(tmp_path, "key_set"), ("torch", *TAKES_SECONDS)) == []


@pytest.mark.parametrize("name", ["length", "ngram", "edit_distance"])
def test_what_has_no_network_imports_none(name):
    found = imported_by(f"import oddlog.detectors as d; d.detector_class({name!r})")
    assert not {"torch", "transformers", "sklearn"} & set(found)


def test_every_public_name_can_be_imported():
    for name in oddlog.__all__:
        assert getattr(import_module("oddlog"), name) is not None


def test_public_names_are_listed_once():
    assert len(set(oddlog.__all__)) == len(oddlog.__all__)
