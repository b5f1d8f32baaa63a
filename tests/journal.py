"""A journal of systemd without systemd: entries as journalctl prints them, and a journalctl.

The fake takes the options of the real one that matter here, and refuses others. As the real one
does, it shows ten entries of what it follows unless it is told ``--no-tail``, and of a message of
more than 4,096 characters nothing unless it is told ``--all``.
"""

import json
import sys
from pathlib import Path

FAKE = """#!{python} -IS
import json, sys, time
from pathlib import Path

NAMES = ("--follow", "--no-tail", "--all", "--boot=all", "--output=json")
options, entries = sys.argv[1:], Path({entries!r})
(entries.parent / "asked").open("a").write(json.dumps(options) + "\\n")
valued = dict(name.split("=", 1) for name in options if name not in NAMES)
if set(valued) - {{"--lines", "--cursor"}} or "--output=json" not in options:
    sys.exit(f"journalctl: unrecognized option in {{options}}")
follow, place, shown = "--follow" in options, 0, 0
lines = entries.read_text().splitlines() if entries.exists() else []
if "--cursor" in valued:
    cursors = [json.loads(line)["__CURSOR"] for line in lines]
    place = cursors.index(valued["--cursor"]) if valued["--cursor"] in cursors else 0
    most = None if "--no-tail" in options else 10 if follow else None
    lines = lines[: place + most] if most else lines
elif not (follow and "--no-tail" in options):
    place = max(0, len(lines) - int(valued.get("--lines", 10)))
while True:
    for line in lines[place:]:
        entry = json.loads(line)
        if len(str(entry["MESSAGE"])) > 4096 and "--all" not in options:
            entry["MESSAGE"] = None
        print(json.dumps(entry, separators=(",", ":")), flush=True)
    place = max(place, len(lines))
    if not follow:
        break
    if (entries.parent / "crash").exists():
        sys.exit(1)
    time.sleep(0.01)
    text = entries.read_text() if entries.exists() else ""
    lines = text[: text.rfind("\\n") + 1].splitlines()
"""


class FakeJournal:
    """A folder with entries and a program called journalctl, to be put on the path."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        self.n_entries = 0
        self._entries = folder / "entries"
        program = folder / "journalctl"
        program.write_text(FAKE.format(python=sys.executable, entries=str(self._entries)))
        program.chmod(0o755)

    def write(self, *messages, since_us=1_772_438_400_000_000):
        """Add entries, a second apart."""
        with self._entries.open("a") as file:
            file.write("".join(f"{self._entry(m, since_us)}\n" for m in messages))

    def crash(self):
        """End what follows, with an error."""
        (self.folder / "crash").touch()

    @property
    def asked(self):
        """The options of every call."""
        return [json.loads(line) for line in (self.folder / "asked").read_text().splitlines()]

    def _entry(self, message, since_us):
        self.n_entries += 1
        return entry(message, self.n_entries, since_us)


def entry(message, number, since_us=1_772_438_400_000_000):
    """Return what ``journalctl -o json`` prints of a service's line."""
    time, boot = since_us + 1_000_000 * number, "b5d9e2f0c1a34c7e8f60718293a4b5c6"
    return json.dumps(
        {
            "__CURSOR": f"s=3341e4ee124344fa;i={number:x};b={boot};m={number:x};t={time:x};x=e8f4",
            "__REALTIME_TIMESTAMP": str(time),
            "__MONOTONIC_TIMESTAMP": str(1_000_000 * number),
            "_BOOT_ID": boot,
            "PRIORITY": "6",
            "_TRANSPORT": "stdout",
            "SYSLOG_IDENTIFIER": "copier",
            "_PID": "4711",
            "_HOSTNAME": "web-1",
            "_SYSTEMD_UNIT": "copier.service",
            "MESSAGE": message,
        }
    )


def messages(sessions, first=1000):
    """Return the messages of sessions, lists of steps, one after the other."""
    return [f"{step} req_{n}" for n, steps in enumerate(sessions, first) for step in steps]


def write_log(path: Path, sessions):
    """Write what ``journalctl -o json > path`` would, to learn from."""
    told = [entry(m, n) for n, m in enumerate(messages(sessions))]
    path.write_text("".join(f"{line}\n" for line in told))
