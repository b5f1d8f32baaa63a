"""What a service keeps in a database: alerts, what people said of them, deliveries, offsets.

SQLite in a file (WAL, so that readers never wait for the writer) or PostgreSQL by URL, the same
tables through SQLAlchemy. The tables have a version, which is checked: there are no migrations.
Times are seconds since 1970. Alerts are kept by their id: one that comes again, as after a replay,
replaces itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from oddlog.alerts import Feedback, Verdict
from oddlog.errors import ArtifactError, ConfigError, OddlogError
from oddlog.findings import Alert
from oddlog.serve import tables

NO_VERDICT = "none"
BUSY_MS = 10_000


class StoreError(OddlogError):
    """The database gives no answer, or a refusal; what was asked of it was not done."""


@dataclass(frozen=True)
class StoredAlert:
    """An alert as the database has it.

    Attributes:
        id: Its stable name.
        revision: Rises with every change of any alert.
        raised: When it was first raised.
        updated: When it last changed.
        source: Where its first line came from.
        session: Key of the window.
        kind: Likely kind of anomaly, or None.
        signature: What its story is; alerts of one signature are alike.
        score: The detector's.
        p_value: Share of normal windows that would score as high.
        count: How often the story came.
        verdict: What a person said last; "none" for nothing.
        until: When a snooze ends, or None.
        record: All there is to show, as ``Alert.to_dict`` gives it.
    """

    id: str
    revision: int
    raised: float
    updated: float
    source: str
    session: str
    kind: str | None
    signature: str
    score: float
    p_value: float
    count: int
    verdict: Verdict | str
    until: float | None
    record: dict[str, Any]

    @property
    def alert(self) -> Alert:
        """The alert itself."""
        return Alert.from_dict(self.record)


@dataclass(frozen=True)
class Wanted:
    """Which alerts are asked for; None for no condition.

    Attributes:
        since: Raised at or after.
        until: Raised before.
        source: Of this source.
        session: Of this key.
        kind: Of this kind.
        signature: Of this signature.
        verdict: With this verdict; "none" for those without.
        text: Holding this text anywhere in what is shown, whatever its case.
        before: Revisions lower than it: the page after one that ended there.
    """

    since: float | None = None
    until: float | None = None
    source: str | None = None
    session: str | None = None
    kind: str | None = None
    signature: str | None = None
    verdict: str | None = None
    text: str | None = None
    before: int | None = None


class Store:
    """The database of one service.

    Args:
        url: SQLAlchemy's, such as ``sqlite:////var/lib/oddlog/alerts.db`` or
            ``postgresql://user@host/name``.

    Raises:
        ConfigError: The database cannot be used.
        ArtifactError: Its tables are of another version.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._writing = threading.Lock()
        try:
            tables.metadata.create_all(self._engine)
            self._check_version()
        except exc.DBAPIError as error:
            self.close()
            raise ConfigError(f"{self.name}: cannot use the database: {_cause(error)}") from None
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The database's URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def put(
        self,
        alerts: Iterable[Alert],
        now: float,
        *,
        sinks: Sequence[str] = (),
        offsets: Mapping[str, int] | None = None,
    ) -> int:
        """Keep alerts and offsets, in one transaction; return how many alerts are new.

        Args:
            alerts: Those that were raised or have changed.
            now: Seconds since 1970.
            sinks: Names of where each new alert is to be delivered.
            offsets: How far sources have been read, by name; others stay as they are.

        Raises:
            StoreError: Nothing was kept.
        """
        latest = {alert.id: alert for alert in alerts}
        places = [{"name": name, "value": value} for name, value in (offsets or {}).items()]
        if not latest and not places:
            return 0
        with self._writing, self._transaction() as connection:
            fresh = self._put_alerts(connection, list(latest.values()), now)
            due = [{"alert_id": i, "sink": sink, "added": now} for i in fresh for sink in sinks]
            for table, rows in ((tables.deliveries, due), (tables.offsets, places)):
                if rows:
                    connection.execute(self._upsert(table), rows)
        return len(fresh)

    def _put_alerts(
        self, connection: sa.Connection, alerts: Sequence[Alert], now: float
    ) -> list[str]:
        """Write alerts, and return the ids of those that were not there."""
        if not alerts:
            return []
        ids = [alert.id for alert in alerts]
        found = connection.scalars(sa.select(tables.alerts.c.id).where(tables.alerts.c.id.in_(ids)))
        known, revision = set(found), _revision(connection)
        rows = [_row(alert, revision + i, now) for i, alert in enumerate(alerts, 1)]
        kept = ("raised", "verdict", "until")
        connection.execute(self._upsert(tables.alerts, keep=kept), rows)
        return [name for name in ids if name not in known]

    def alerts(self, wanted: Wanted | None = None, *, limit: int = 100) -> list[StoredAlert]:
        """Return alerts, those that changed last first."""
        query = sa.select(tables.alerts).where(*_conditions(wanted or Wanted()))
        return self._read(query.order_by(tables.alerts.c.revision.desc()).limit(limit))

    def changed(self, after: int, *, limit: int = 100) -> list[StoredAlert]:
        """Return alerts whose revision is above ``after``, in the order of their changes."""
        query = sa.select(tables.alerts).where(tables.alerts.c.revision > after)
        return self._read(query.order_by(tables.alerts.c.revision).limit(limit))

    def alert(self, alert_id: str) -> StoredAlert | None:
        """Return one alert, or None."""
        found = self._read(sa.select(tables.alerts).where(tables.alerts.c.id == alert_id))
        return found[0] if found else None

    def counts(self) -> dict[str, int]:
        """Return how many alerts have each verdict."""
        verdict = tables.alerts.c.verdict
        with self._transaction() as connection:
            rows = connection.execute(sa.select(verdict, sa.func.count()).group_by(verdict))
            return {row[0]: row[1] for row in rows}

    @property
    def revision(self) -> int:
        """The highest revision."""
        with self._transaction() as connection:
            return _revision(connection)

    def put_feedback(self, feedback: Feedback) -> None:
        """Keep what a person said of an alert."""
        until = feedback.until.timestamp() if feedback.until else None
        row = {
            "alert_id": feedback.alert_id,
            "verdict": feedback.verdict,
            "until": until,
            "given": feedback.given.timestamp(),
            "signature": _storable(feedback.signature),
            "scores": json.dumps(feedback.scores),
        }
        self._say(row)

    def withdraw_feedback(self, alert_id: str, now: float) -> None:
        """Keep that what was said of an alert no longer holds."""
        row = {"alert_id": alert_id, "verdict": NO_VERDICT, "until": None, "given": now}
        self._say({**row, "signature": "", "scores": "[]"})

    def _say(self, row: Mapping[str, Any]) -> None:
        with self._writing, self._transaction() as connection:
            changes = {
                "verdict": row["verdict"],
                "until": row["until"],
                "updated": row["given"],
                "revision": _revision(connection) + 1,
            }
            chosen = tables.alerts.c.id == row["alert_id"]
            done = connection.execute(sa.update(tables.alerts).where(chosen).values(changes))
            if done.rowcount:
                connection.execute(sa.insert(tables.feedback).values(row))

    def feedback(self) -> list[Feedback]:
        """Return what was said last of each alert, and not taken back, in the order it was said."""
        own = tables.feedback.c
        last = sa.select(sa.func.max(own.number)).group_by(own.alert_id)
        query = sa.select(tables.feedback).where(own.number.in_(last), own.verdict != NO_VERDICT)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(own.number)).mappings().all()
        return [_feedback(row) for row in rows]

    def feedback_of(self, alert_id: str) -> list[dict[str, Any]]:
        """Return all that was said of an alert, oldest first: verdict, until, given."""
        own = tables.feedback.c
        query = sa.select(own.verdict, own.until, own.given).where(own.alert_id == alert_id)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(own.number)).mappings()
            return [dict(row) for row in rows]

    def offsets(self) -> dict[str, int]:
        """Return the offsets that were kept, by name."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(tables.offsets)).mappings()
            return {row["name"]: row["value"] for row in rows}

    def due(self, sink: str, *, limit: int = 100) -> list[StoredAlert]:
        """Return the alerts that a sink lacks, oldest first."""
        alerts, due = tables.alerts, tables.deliveries
        query = sa.select(alerts).join_from(due, alerts, due.c.alert_id == alerts.c.id)
        query = query.where(due.c.sink == sink).order_by(due.c.added, alerts.c.revision)
        return self._read(query.limit(limit))

    def delivered(self, sink: str, alert_ids: Sequence[str]) -> None:
        """Note that a sink has alerts."""
        own = tables.deliveries.c
        with self._writing, self._transaction() as connection:
            done = (own.sink == sink) & own.alert_id.in_(alert_ids)
            connection.execute(sa.delete(tables.deliveries).where(done))

    def n_due(self) -> dict[str, int]:
        """Return how many alerts each sink lacks, those that lack none left out."""
        sink = tables.deliveries.c.sink
        with self._transaction() as connection:
            rows = connection.execute(sa.select(sink, sa.func.count()).group_by(sink))
            return {row[0]: row[1] for row in rows}

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _read(self, query: sa.Select[Any]) -> list[StoredAlert]:
        with self._transaction() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def _transaction(self) -> _Transaction:
        return _Transaction(self._engine)

    def _check_version(self) -> None:
        meta, version = tables.meta, tables.SCHEMA_VERSION
        with self._writing, self._engine.begin() as connection:
            found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
            if found is None:
                row = {"name": "schema", "value": version}
                connection.execute(self._upsert(meta), [row])
            elif found != version:
                raise ArtifactError(
                    f"{self.name}: its tables are of version {found}, this oddlog reads {version}; "
                    "use another database"
                )

    def _upsert(self, table: sa.Table, keep: Sequence[str] = ()) -> Any:
        return tables.upsert(table, self._engine.dialect.name, keep)


class _Transaction:
    """A connection in a transaction, whose failures are ``StoreError``."""

    def __init__(self, engine: sa.Engine) -> None:
        self._name = engine.url.render_as_string(hide_password=True)
        self._context = engine.begin()

    def __enter__(self) -> sa.Connection:
        try:
            return self._context.__enter__()
        except exc.DBAPIError as error:
            raise self._explained(error) from None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._context.__exit__(kind, error, trace)
        except exc.DBAPIError as failed:
            raise self._explained(failed) from None
        if isinstance(error, exc.DBAPIError):
            raise self._explained(error) from None

    def _explained(self, error: exc.DBAPIError) -> StoreError:
        return StoreError(f"{self._name}: {_cause(error)}")


class StoredFeedback:
    """``FeedbackStore`` over a ``Store``.

    Args:
        store: The database.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(self, store: Store, clock: Any) -> None:
        self._store = store
        self._clock = clock

    def put(self, feedback: Feedback) -> None:
        """Keep feedback; what was said of the same alert before no longer counts."""
        self._store.put_feedback(feedback)

    def withdraw(self, alert_id: str) -> None:
        """Forget what was said of an alert, if anything was."""
        self._store.withdraw_feedback(alert_id, self._clock())

    def all(self) -> list[Feedback]:
        """Return what is kept, in the order in which it was given."""
        return self._store.feedback()


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ConfigError(f"--db {parsed.drivername}: give a sqlite or postgresql URL")
        engine = sa.create_engine(parsed, pool_pre_ping=True)
    except exc.ArgumentError:
        raise ConfigError("--db: no URL such as sqlite:///alerts.db") from None
    except ModuleNotFoundError:
        raise ConfigError("--db: needs psycopg: pip install 'oddlog[postgres]'") from None
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_pragmas)
    return engine


def _set_pragmas(connection: Any, record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # an alert has to outlive what the journal then forgets
        f"busy_timeout={BUSY_MS}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _cause(error: exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no answer"


def _revision(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(tables.alerts.c.revision))) or 0


def _row(alert: Alert, revision: int, now: float) -> dict[str, Any]:
    return {
        "id": alert.id,
        "revision": revision,
        "raised": now if alert.raised is None else alert.raised.timestamp(),
        "updated": now,
        "source": _storable(alert.sources[0] if alert.sources else ""),
        "session": _storable(alert.key),
        "kind": None if alert.kind is None else _storable(alert.kind),
        "signature": _storable(alert.signature),
        "score": alert.score,
        "p_value": alert.p_value,
        "count": alert.count,
        "verdict": NO_VERDICT,
        "until": None,
        "record": json.dumps(alert.to_dict(), ensure_ascii=False),
    }


def _storable(text: str) -> str:
    """Return text without NUL, which PostgreSQL takes nowhere."""
    return text.replace("\0", "\\x00")


def _stored(row: Mapping[Any, Any]) -> StoredAlert:
    values = {field.name: row[field.name] for field in fields(StoredAlert)}
    return StoredAlert(**{**values, "record": json.loads(values["record"])})


def _feedback(row: Mapping[Any, Any]) -> Feedback:
    return Feedback(
        alert_id=row["alert_id"],
        verdict=row["verdict"],
        signature=row["signature"],
        scores=tuple(json.loads(row["scores"])),
        given=datetime.fromtimestamp(row["given"], UTC),
        until=None if row["until"] is None else datetime.fromtimestamp(row["until"], UTC),
    )


def _conditions(wanted: Wanted) -> list[Any]:
    c = tables.alerts.c
    equal = {c.source: wanted.source, c.session: wanted.session, c.kind: wanted.kind}
    equal |= {c.signature: wanted.signature, c.verdict: wanted.verdict}
    found = [column == _storable(value) for column, value in equal.items() if value is not None]
    if wanted.since is not None:
        found.append(c.raised >= wanted.since)
    if wanted.until is not None:
        found.append(c.raised < wanted.until)
    if wanted.before is not None:
        found.append(c.revision < wanted.before)
    if wanted.text:
        found.append(c.record.icontains(_storable(wanted.text), autoescape=True))
    return found
