"""Follow systemd's journal through its own ``journalctl``, from where the reading stood.

The journal's entries have cursors. The reading begins at an entry, not after it, and that entry is
left out here: ``--after-cursor`` leaves out one more where the machine was booted anew (systemd's
issue 38912). Without ``--no-tail`` only ten entries would follow a cursor, without ``--boot=all``
maybe none of before the last boot, and without ``--all`` a long message would be null.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import polars as pl

from oddlog.errors import ArtifactError, ConfigError, FormatError
from oddlog.follow import Pipe

JOURNAL = "journal"
FOLLOW = ("--follow", "--no-tail", "--boot=all", "--all", "--output=json")
LAST = ("--lines=1", "--boot=all", "--output=json")


class Journal:
    """Follows the journal: an entry a line of JSON.

    Args:
        from_start: Read what the journal holds already; else only what is added from now on.
        state: What ``state`` gave, to go on there.

    Raises:
        ArtifactError: The state is damaged.
        ConfigError: There is no journalctl here, or it fails.

    Attributes:
        ended: Never: a journal may always go on.
    """

    ended = False

    def __init__(self, *, from_start: bool = False, state: Mapping[str, Any] | None = None) -> None:
        program = find_journalctl()
        self._cursor = _saved_cursor(state)
        if state is None and not from_start:
            self._cursor = _last_cursor(program)
        self._left_out = self._cursor
        place = [f"--cursor={self._cursor}"] if self._cursor else []
        self._process = subprocess.Popen(  # noqa: S603 -- found by which
            [program, *FOLLOW, *place],
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt at the terminal is for the watch to answer
        )
        assert self._process.stdout is not None  # noqa: S101 -- a pipe was asked for
        self._pipe = Pipe(self._process.stdout, JOURNAL)

    @property
    def behind(self) -> bool:
        """Tell whether there is more to read at once."""
        return self._pipe.behind

    def poll(self, now: float) -> pl.DataFrame:
        """Return the entries that were added, columns source and text; waits for none.

        Args:
            now: Seconds since 1970; makes no difference.

        Raises:
            FormatError: journalctl has ended, which it does not do where all is well.
        """
        lines = self._pipe.poll(now)
        if self._pipe.ended:
            raise FormatError(f"journalctl ended, with status {self._process.wait()}; start anew")
        if lines.height and self._left_out is not None:
            if _cursor_of(lines["text"][0]) == self._left_out:
                lines = lines[1:]
            self._left_out = None
        if lines.height:
            self._cursor = _cursor_of(lines["text"][-1]) or self._cursor
        return lines

    def state(self) -> dict[str, Any]:
        """Return where the reading stands, as plain values that JSON can carry."""
        return {"cursor": self._cursor}

    def close(self) -> None:
        """Let go of it."""
        self._process.terminate()
        self._pipe.close()
        self._process.wait()


def find_journalctl() -> str:
    """Return the path of journalctl.

    Raises:
        ConfigError: There is none on this machine.
    """
    program = shutil.which("journalctl")
    if program is None:
        raise ConfigError("the journal: there is no journalctl on this machine")
    return program


def _saved_cursor(state: Mapping[str, Any] | None) -> str | None:
    cursor = None if state is None else state.get("cursor", state)
    if cursor is not None and not isinstance(cursor, str):
        raise ArtifactError("state of a journal: damaged; begin without it")
    return cursor


def _last_cursor(program: str) -> str | None:
    """Return the cursor of the journal's last entry, None where it has none."""
    done = subprocess.run([program, *LAST], stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        raise ConfigError(f"journalctl failed, with status {done.returncode}")
    return _cursor_of(done.stdout.decode("utf-8", "replace"))


def _cursor_of(entry: str) -> str | None:
    try:
        return json.loads(entry)["__CURSOR"]
    except (KeyError, TypeError, ValueError):
        return None
