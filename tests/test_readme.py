"""What a newcomer reads is true: README's commands and code run, links lead somewhere."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from oddlog import cli, demo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATED_FROM_CODE = (
    "detectors",
    "settings",
    "formats",
    "limits",
)  # within seconds; others run the demo
# The default run takes the same commands on less, with a rule in the network's place; those that
# load the network's libraries run in this process, where other tests need them too.
SMALLER = {"oddlog demo": " --sessions 700", "oddlog fit": " --detector new_event"}
HERE = ("oddlog demo", "oddlog detectors")
SMALLER_DEMO = {"session_by": demo.SESSION, "detector": "new_event"}
SMALLER_CODE = ("PipelineConfig(", 'PipelineConfig(detector="new_event", ')


def blocks(language):
    """Return the README's code blocks of one language."""
    return [body for name, body in BLOCK.findall(README) if name == language]


def commands():
    """Return the README's console commands in order, without the prompt."""
    lines = "".join(blocks("console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def shell(command, folder):
    """Run a command as a newcomer would, in a folder, with this environment's oddlog."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def here(command, folder):
    """Run an oddlog command in this process."""
    out = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.chdir(folder)
        patch.setattr(demo, "SETTINGS", SMALLER_DEMO)
        patch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as leaving:
            cli.main()
    assert not leaving.value.code, command
    return out.getvalue()


def on_less(command, folder):
    """Run a command on less data and with less to learn."""
    more = next((more for head, more in SMALLER.items() if command.startswith(head)), "")
    return (here if command.startswith(HERE) else shell)(command + more, folder)


def run_readme(folder, run: Callable[[str, Path], str], of_code):
    """Run the README's oddlog commands, then its Python code; return what each printed."""
    told = {command: run(command, folder) for command in commands() if command.startswith("oddlog")}
    for number, code in enumerate(blocks("python")):
        (folder / f"readme_{number}.py").write_text(of_code(code), encoding="utf-8")
        told[code] = shell(f"python readme_{number}.py", folder)
    return told


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return what the README's commands and code print when run in order, on less."""
    return run_readme(
        tmp_path_factory.mktemp("readme"), on_less, lambda code: code.replace(*SMALLER_CODE)
    )


def test_every_oddlog_command_and_the_code_run_in_order(told):
    assert len(told) >= 8


def test_scoring_finds_something_odd(told):
    assert '"flagged": true' in told["oddlog score demo/today/cluster.log --model model"]


def test_the_python_code_prints_alerts(told):
    assert "blk_" in told[blocks("python")[0]]


def test_the_code_can_be_made_smaller():
    assert any(SMALLER_CODE[0] in code for code in blocks("python"))


@pytest.mark.slow
def test_every_command_and_the_code_run_as_they_stand(tmp_path):
    told = run_readme(tmp_path, shell, str)
    assert '"flagged": true' in told["oddlog score demo/today/cluster.log --model model"]


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("oddlog")])
def test_every_other_command_is_make_or_pip(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = [f"make {target}" for target in targets]
    assert command in [*known, "pip install -c constraints.txt '.[torch]'"]


def test_the_test_command_is_named():
    assert "$ make test\n" in README


def test_what_is_generated_from_code_is_up_to_date():
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert not generate["outdated"](GENERATED_FROM_CODE), "run: make docs"


def test_what_is_told_of_data_sets_that_are_not_there_stays(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ODDLOG_DATA", str(tmp_path))
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    assert not generate["outdated"](["data"])
    assert "data: left as it is: data set 'hdfs_log':" in capsys.readouterr().err


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    files = [link for link in links if not link.startswith("http")]
    assert [name for name in files if not (document.parent / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_generated_block_has_its_end(document):
    text = document.read_text(encoding="utf-8")
    assert re.findall(r"<!-- (\w+):begin -->", text) == re.findall(r"<!-- (\w+):end -->", text)


def test_the_design_names_every_module():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "oddlog"
    modules = [path.stem for path in package.iterdir() if not path.name.startswith("__")]
    unnamed = {name for name in modules if not re.search(rf"\b{name}\b", text)}
    assert unnamed - {"py"} == set()  # py.typed
