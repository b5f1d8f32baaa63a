"""The tables of ``store``, and how a row is written whether or not it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

SCHEMA_VERSION = "1"
"""Rises when a table changes; a database of another version is refused."""
metadata = sa.MetaData()
meta = sa.Table(
    "oddlog_meta",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
alerts = sa.Table(
    "oddlog_alerts",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False, unique=True),
    sa.Column("raised", sa.Float, nullable=False, index=True),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("kind", sa.Text),
    sa.Column("signature", sa.Text, nullable=False, index=True),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("p_value", sa.Float, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False, index=True),
    sa.Column("until", sa.Float),
    sa.Column("record", sa.Text, nullable=False),  # JSON: all there is to show
)
feedback = sa.Table(
    "oddlog_feedback",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alert_id", sa.String(64), sa.ForeignKey("oddlog_alerts.id"), nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False),  # "none" takes back what was said
    sa.Column("until", sa.Float),
    sa.Column("given", sa.Float, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("scores", sa.Text, nullable=False),  # JSON: of the windows folded into the alert
)
offsets = sa.Table(
    "oddlog_offsets",
    metadata,
    sa.Column("name", sa.String(300), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
deliveries = sa.Table(
    "oddlog_deliveries",
    metadata,
    sa.Column("alert_id", sa.String(64), primary_key=True),
    sa.Column("sink", sa.String(300), primary_key=True),
    sa.Column("added", sa.Float, nullable=False),
)


def upsert(table: sa.Table, dialect: str, keep: Sequence[str] = ()) -> Any:
    """Return ``Store``'s upsert for a dialect: SQLite's or PostgreSQL's."""
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {
        column.name: insert.excluded[column.name]
        for column in table.columns
        if column.name not in keys and column.name not in keep
    }
    if not changed:
        return insert.on_conflict_do_nothing(index_elements=keys)
    return insert.on_conflict_do_update(index_elements=keys, set_=changed)
