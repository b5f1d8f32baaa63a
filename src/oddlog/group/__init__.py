"""Cut log events into windows: one rule, ``Window``, for whole tables and for streams.

``group`` cuts a table; ``Grouper`` cuts the same lines as they arrive and gives, whatever the
chunks, the same windows, as long as it evicts none. Both follow these rules:

- *Order.* Events of a window stand in the order of their rows, not of their times: times tie, run
  backwards and are missing, and a stream cannot wait for stragglers. Sources that ran side by
  side and share sessions should be merged by time before they are cut with ``gap_s``.
- *Time.* A source's clock is the latest time seen in it so far. An event counts as happening when
  its clock stands: one that is out of order is late and takes the time of those before it, and so
  does one without a time. Events before the first time of their source have none.
- *Sessions.* Every distinct id of a line puts the line into that session; the same id in two
  sources is one session. ``gap_s`` closes a window once its session was idle for longer, by the
  clock of the source of its last event (or by the next event's own); ``age_s`` lays a grid over
  what follows, a new window for each ``age_s`` since the first event; ``max_length`` counts. A
  later event opens the next window. Keys: ``<id>``, then ``<id>~2``, ``<id>~3`` ...
- *Begin and end.* A session's first window holds its start; the last one, and each one that a gap
  closed, holds its end. Without ``gap_s`` the log is taken as complete. With it, a session whose
  first event comes within the gap of its source's beginning, or whose last one comes within the
  gap of its source's end, is not known to have started or ended there. Windows of lines and of
  time hold neither.
- *Lines.* ``size`` events of one source or host, every ``step`` events; the last window may be
  shorter, but is only made if it holds an event that the one before does not. Key:
  ``<source>:<first line>``.
- *Time.* Half-open ``[k * step, k * step + size)`` since 1970, so that cutting or joining files
  moves no boundary; empty windows are not made. Key: ``<source or host>@<start>``.
- *Label.* The most frequent class among the lines (the first seen, if several), else normal if
  every line is known to be, else unknown.
"""

from oddlog.group.batch import LogClock, group
from oddlog.group.packed import plain
from oddlog.group.report import GroupReport
from oddlog.group.stream import Grouper, Tails
from oddlog.group.window import Window

__all__ = ["GroupReport", "Grouper", "LogClock", "Tails", "Window", "group", "plain"]
