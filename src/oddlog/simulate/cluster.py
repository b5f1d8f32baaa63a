"""The storage cluster: how it writes a block, what each step says, and what only faults say.

A block is written to three replicas at once, registered, committed, completed; then it lives: it
is read, cached, verified, repaired when a node is lost, perhaps deleted. One block in eight is a
scratch block, another workflow that shares no template with the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oddlog.simulate.process import Step, compile_process

# Weights are thousandths. The three branches marked "rare" happen in one or two normal sessions of
# a hundred each, and each leads back to where it left, so that what tells a faulty one is only
# where it stands.
_WRITE = (
    Step("allocate", "start", "to_open*3 committing", 880),
    Step("open", "to_open", "receiving", 3000),
    Step("packet_retry", "receiving", "receiving", 90, optional=True),
    Step("disk_slow", "receiving", "moving", 14, optional=True),  # rare
    Step("volume_moved", "moving", "receiving", 3000),
    Step("pipeline_broken", "receiving", "broken", 14, optional=True),
    Step("recover", "broken", "to_open", 3000),
    Step("received", "receiving", "closing to_register", 2500),
    Step("close", "closing", "closed", 2000),
    Step("register", "to_register", "registered", 2000),
    Step("quota_held", "committing", "held", 6, optional=True),  # rare
    Step("quota_raised", "held", "committing", 2000),
    Step("commit", "committing registered*2", "committed registered*2", 1500),
    Step(
        "complete",
        "committed registered*3 closed*3",
        "live read_slot*2 scrub_slot repair_slot cache_slot",
        3000,
    ),
)
_LIFE = (
    Step("read_begin", "live read_slot", "live serving", 1000, optional=True),
    Step("read_end", "serving", "read_slot", 2500),
    Step("cache_fill", "live serving cache_slot", "live serving cached", 400, optional=True),
    Step("cache_hit", "live cached", "live cached", 700, optional=True),
    Step("cache_drop", "live cached", "live cache_slot", 250, optional=True),
    Step("verify_begin", "live scrub_slot", "live verifying", 500, optional=True),
    Step("verify_held", "verifying", "paused", 100, optional=True),  # rare
    Step("verify_resumed", "paused", "verifying", 2000),
    Step("verify_good", "verifying", "scrub_slot", 2000),
    Step("verify_bad", "verifying repair_slot", "scrub_slot to_repair", 90, optional=True),
    Step("node_lost", "live repair_slot", "live to_repair", 90, optional=True),
    Step("repair_ask", "to_repair", "transferring to_open", 2500),
    Step("transfer_end", "transferring closed", "transferred", 2500),
    Step("repair_end", "transferred registered", "repair_slot", 2500),
    Step(
        "delete_ask",
        "live read_slot*2 scrub_slot repair_slot cache_slot",
        "to_delete*3",
        600,
        optional=True,
    ),
    Step("deleted", "to_delete", "gone", 3000),
    Step("forget", "gone*3", "forgotten", 3000),
)
_SCRATCH = (
    Step("pin", "start", "pinned to_mirror*2", 120),
    Step("mirror", "to_mirror", "mirrored", 1500),
    Step("append", "pinned", "pinned unsynced", 1200),
    Step("sync", "pinned unsynced*2", "pinned synced", 1500),
    Step("seal", "pinned synced*2 mirrored*2", "sealed", 900),
    Step("expire", "sealed", "expired", 1000),
)
STEPS = _WRITE + _LIFE + _SCRATCH
PROCESS = compile_process(
    STEPS,
    resting=(
        "live read_slot scrub_slot repair_slot cache_slot cached forgotten unsynced synced expired"
    ),
    end_weight=900,
)
LONG = 26  # steps after which a session begins nothing optional; what is begun adds at most 14

REPLICATED = frozenset(step.name for step in _WRITE + _LIFE)
SCRATCH = frozenset(step.name for step in _SCRATCH)
LOOPS = (  # the step that leaves, the one that returns, and one that leads there
    ("disk_slow", "volume_moved", "open"),
    ("quota_held", "quota_raised", "allocate"),
    ("verify_held", "verify_resumed", "verify_begin"),
)

INFO, WARNING, ERROR = 134, 132, 131  # facility local0


@dataclass(frozen=True)
class Line:
    """How a step is logged.

    Attributes:
        app: The daemon that logs it: ``metad`` runs on the metadata node, others on a data node.
        text: The message with its variables in braces.
        low_ms: Shortest wait before it.
        doublings: How long the wait's tail is: it doubles up to so many times.
        priority: The header's PRI.
        replica: Stage that the step takes a replica from ("" for a new one), and the stages that
            it moves it to.
        trace: Whether a stack trace follows the line.
    """

    app: str
    text: str
    low_ms: int = 2
    doublings: int = 5
    priority: int = INFO
    replica: tuple[str, str] | None = None
    trace: bool = False


LINES: Mapping[str, Line] = {
    "allocate": Line("metad", "allocated {block} for {path}, 3 replicas, client {client}"),
    "open": Line(
        "blockd",
        "receiving {block} src=/{peer}:{port} dest=/{ip}:9866",
        replica=("to_open", "receiving"),
    ),
    "packet_retry": Line(
        "blockd",
        "packet {number} of {block} not acknowledged after {ms} ms, sending it again",
        priority=WARNING,
        replica=("receiving", "receiving"),
    ),
    "disk_slow": Line(
        "blockd",
        "write of {block} to {volume} took {ms} ms, choosing another volume",
        priority=WARNING,
        replica=("receiving", "moving"),
    ),
    "volume_moved": Line(
        "blockd",
        "moved {size} bytes of {block} to {volume}, going on",
        replica=("moving", "receiving"),
    ),
    "pipeline_broken": Line(
        "blockd",
        "pipeline of {block} broken at {ip}:{port}, {size} bytes acknowledged",
        priority=ERROR,
        replica=("receiving", "broken"),
        trace=True,
    ),
    "recover": Line(
        "metad",
        "recovering {block} with generation {number}, new target {ip}",
        priority=WARNING,
        replica=("", "to_open"),
    ),
    "received": Line(
        "blockd",
        "received {block} of size {size} from /{peer} in {ms} ms",
        replica=("receiving", "closing to_register"),
    ),
    "close": Line(
        "blockd", "responder {number} for {block} closing", replica=("closing", "stored")
    ),
    "register": Line(
        "metad",
        "replica of {block} stored on {ip}:9866, size {size}",
        replica=("to_register", "registered"),
    ),
    "quota_held": Line(
        "metad", "commit of {block} held, quota of {path} used to {percent} %", priority=WARNING
    ),
    "quota_raised": Line("metad", "quota of {path} raised, commit of {block} goes on"),
    "commit": Line("metad", "commit of {block} with generation {number}, {size} bytes"),
    "complete": Line("metad", "block {block} complete after {ms} ms, 3 of 3 replicas"),
    "read_begin": Line("blockd", "serving {block} to /{client}", 300, 6),
    "read_end": Line("blockd", "served {block} to /{client}, {size} bytes in {ms} ms", 5, 7),
    "cache_fill": Line("blockd", "cached {block} in memory, {percent} % of the cache in use", 5, 5),
    "cache_hit": Line("blockd", "cache hit on {block}, {size} bytes to /{client}", 100, 6),
    "cache_drop": Line("blockd", "dropped {block} from the cache after {ms} ms idle", 300, 6),
    "verify_begin": Line("scrubd", "verifying {block} on {volume}", 500, 6),
    "verify_held": Line("scrubd", "verification of {block} held, load {percent} %", 10, 5),
    "verify_resumed": Line("scrubd", "verification of {block} resumed at offset {size}", 500, 5),
    "verify_good": Line("scrubd", "verification of {block} succeeded, checksum {hex}", 20, 6),
    "verify_bad": Line(
        "scrubd", "checksum mismatch in {block} at offset {size} on {volume}", 20, 6, ERROR
    ),
    "node_lost": Line("metad", "{block} has 2 of 3 replicas, {host} is gone", 500, 6, WARNING),
    "repair_ask": Line("metad", "asking {peer} to copy {block} to {ip}", replica=("", "to_open")),
    "transfer_end": Line("blockd", "copied {block} to /{peer}:9866 in {ms} ms"),
    "repair_end": Line("metad", "repair of {block} done after {ms} ms"),
    "delete_ask": Line("metad", "deleting {block} of {path}, asking 3 nodes", 500, 6),
    "deleted": Line("blockd", "deleted {block} file {volume}/{hex}"),
    "forget": Line("metad", "removed {block} from the block map"),
    "pin": Line("scratchd", "pinned {block} in memory for {client}, ttl {number} s"),
    "mirror": Line("scratchd", "mirroring {block} to /{peer}:{port}"),
    "append": Line("scratchd", "appended {size} bytes to {block}", 20, 6),
    "sync": Line("scratchd", "synced {block} to its mirrors, sequence {number}", 5, 5),
    "seal": Line("scratchd", "sealed {block} at {size} bytes", 10, 6),
    "expire": Line("scratchd", "expired {block} after {number} s", 500, 6),
}

# What no normal session says. Their priority and their traces occur in normal sessions too.
ERRORS: Mapping[str, Line] = {
    "error_volume": Line("blockd", "{volume} failed while writing {block}: errno 5", 2, 5, ERROR),
    "error_space": Line("blockd", "no space left on {volume} for {block}", 2, 5, ERROR),
    "error_refused": Line("blockd", "connection to {peer}:{port} refused, {block}", 2, 5, ERROR),
    "error_meta": Line("metad", "unexpected length {size} reported for {block}", 2, 5, WARNING),
    "error_token": Line("blockd", "access token for {block} expired, rejecting", 2, 5, WARNING),
    "error_memory": Line("scrubd", "uncorrectable memory near buffer of {block}", 2, 5, ERROR),
}
CRASHES: Mapping[str, Line] = {
    "crash_handler": Line(
        "blockd", "uncaught exception in handler {number} of {block}", 2, 5, ERROR, trace=True
    ),
    "crash_journal": Line("metad", "journal rejected an edit of {block}", 2, 5, ERROR, trace=True),
    "crash_index": Line(
        "blockd", "index of {volume} inconsistent at {block}", 2, 5, ERROR, trace=True
    ),
}

# Lines without a session, from the machines themselves.
NOISE = (
    Line("blockd", "heartbeat {number} sent, {percent} % of {volume} used"),
    Line("CRON", "(root) CMD (/usr/lib/sysstat/sa1 {percent} 1)", priority=78),
    Line("chronyd", "selected source {peer}, offset {ms} us", priority=30),
    Line("metad", "checkpoint {number} of the journal written in {ms} ms"),
)
