"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No time limit for an example: on a busy machine it says nothing of the code.
settings.register_profile("oddlog", deadline=None)
settings.load_profile("oddlog")


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
