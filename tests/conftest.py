"""Fixtures that several test modules share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import known_logllm

# No time limit for an example: on a busy machine it says nothing of the code.
settings.register_profile("oddlog", deadline=None)
settings.load_profile("oddlog")

# Of what a shell runs in its background interrupts are ignored, and tests of them would fail.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real logs that ODDLOG_DATA names, or skip the test."""
    name = os.environ.get("ODDLOG_DATA")
    if not name:
        pytest.skip("real logs are not here: set ODDLOG_DATA to their folder")
    folder = Path(name)
    if not folder.is_dir():
        pytest.skip(f"real logs are not here: ODDLOG_DATA={name} is no folder")
    return folder


@pytest.fixture(scope="session")
def tiny_models() -> Iterator[Path]:
    """Write the two tiny models that LogLLM is tested with, for as long as the tests run."""
    known_logllm.write_tiny_models()
    yield known_logllm.FOLDER
    shutil.rmtree(known_logllm.FOLDER)
