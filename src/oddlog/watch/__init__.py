"""Watching a log as it is written: the pipeline of files on lines as they arrive.

``Watcher`` takes lines and gives alerts; ``intake`` makes events of lines, ``windows`` says which
windows are to be judged now, ``scoring`` scores each distinct one once, ``raising`` explains what
is flagged, ``drifting`` tells when the log as a whole has changed.
"""

from oddlog.watch.stats import WatchStats
from oddlog.watch.watcher import Listener, WatchConfig, Watcher

__all__ = ["Listener", "WatchConfig", "WatchStats", "Watcher"]
