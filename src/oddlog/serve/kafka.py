"""Lines from Kafka: a consumer group whose offsets are committed once alerts are stored.

A message goes the way of every line, through the journal and the worker. Its offset is committed
when the worker has stored what came of it; so after a crash the broker sends again what was not
judged. What the journal has of that already is passed over, so that no line is judged twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import polars as pl

from oddlog.errors import ConfigError
from oddlog.serve import otlp, plain
from oddlog.serve.following import LONGEST_S, WAIT_S, Reader, hand_over
from oddlog.serve.lines import Limits, Received, RefusedError, table_of
from oddlog.serve.service import Service

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

LOGGER = logging.getLogger(__name__)
AT_ONCE = 5_000
DEFAULTS = {
    "auto.offset.reset": "earliest",
    "partition.assignment.strategy": "cooperative-sticky",
    "max.poll.interval.ms": 1_800_000,  # a full inbox may hold the next poll up for long
}
FORMATS = ("text", "json", "otlp", "otlp_json")
OWN = {"enable.auto.commit": False, "enable.auto.offset.store": False}


@dataclass(frozen=True)
class KafkaConfig:
    """What is read, and how.

    Attributes:
        brokers: ``host:port``, several with commas.
        topics: Names; one that begins with ^ is a regex.
        group: The consumer group.
        format: What a message holds: one of ``FORMATS``. Of text each line is one, of JSON see
            ``plain``.
        more: Settings of librdkafka, such as ``security.protocol``.
    """

    brokers: str
    topics: tuple[str, ...]
    group: str = "oddlog"
    format: str = "text"
    more: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str, more: Mapping[str, str] | None = None) -> KafkaConfig:
        """Read a URL such as ``kafka://host:9092/topic?group=oddlog&format=json``.

        Raises:
            ConfigError: It is no such URL.
        """
        parts = urlsplit(url)
        topics = tuple(filter(None, parts.path.strip("/").split(",")))
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        wrong = sorted(set(asked) - {"group", "format"})
        if parts.scheme != "kafka" or not parts.netloc or not topics or wrong:
            raise ConfigError(
                f"--from {url!r}: write kafka://HOST:9092/TOPIC,TOPIC?group=NAME&format=text"
            )
        if asked.get("format", "text") not in FORMATS:
            raise ConfigError(f"--from {url!r}: format is one of {', '.join(FORMATS)}")
        return cls(parts.netloc, topics, more=more or {}, **asked)


def read_settings(path: Path) -> dict[str, str]:
    """Read a file of ``name=value`` lines, as Kafka's own tools take them.

    Raises:
        ConfigError: It cannot be read, or a line is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read it: {error}") from None
    settings = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, found, value = line.partition("=")
            if not found:
                raise ConfigError(f"{path}:{number}: no name=value")
            settings[name.strip()] = value.strip()
    return settings


class KafkaReader(Reader):
    """Reads topics into a service; ``close`` commits what was judged.

    Args:
        config: What is read.
        service: What takes the lines.
        limits: What a message may hold.

    Raises:
        ConfigError: confluent-kafka is missing, or refuses the settings.
    """

    def __init__(self, config: KafkaConfig, service: Service, limits: Limits | None = None) -> None:
        super().__init__("kafka", service)
        self._config = config
        self._limits = limits or Limits()
        self._known: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        self.n_refused = 0
        self._consumer = _consumer(config)

    def close(self) -> None:
        """Commit what the service has judged, and leave the group."""
        self._commit(wait=True)
        self._consumer.close()

    def _read(self) -> None:
        self._known = {**self._service.store.offsets(), **self._service.worker.marks}
        self._consumer.subscribe(list(self._config.topics), on_assign=self._assigned)
        while not self._stopping.is_set():
            self._take(self._consumer.consume(AT_ONCE, WAIT_S))
            self._commit()

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Forget how far a topic was read that was made anew since."""
        for partition in partitions:
            name = _name(partition.topic, partition.partition)
            if name in self._known:
                _, end = consumer.get_watermark_offsets(partition, timeout=LONGEST_S)
                if self._known[name] > end:
                    LOGGER.warning("%s: ends before what was read of it; begins anew", name)
                    del self._known[name]

    def _take(self, messages: Sequence[Message]) -> None:
        """Hand messages to the service, and wait until it has written them down."""
        tables, marks = [], {}
        for message in messages:
            if message.error():
                LOGGER.warning("kafka: %s", message.error())
                continue
            name, offset = _name(message.topic(), message.partition()), message.offset() or 0
            if offset < self._known.get(name, 0):
                continue
            marks[name] = offset + 1
            if (table := self._table(message)) is not None:
                tables.append(table)
        lines = pl.concat(tables) if tables else _nothing()
        if marks and hand_over(self._service, lines, marks, self._stopping):
            self._known |= marks

    def _table(self, message: Message) -> pl.DataFrame | None:
        value, topic = message.value() or b"", message.topic() or "kafka"
        try:
            table = READERS[self._config.format](value, self._limits, topic).table
        except RefusedError as error:
            self.n_refused += 1
            LOGGER.warning("%s: message %s passed over: %s", topic, message.offset(), error)
            return None
        kind, milliseconds = message.timestamp()
        if not kind or milliseconds <= 0:
            return table
        time = pl.from_epoch(pl.lit(milliseconds), "ms").dt.cast_time_unit("us")
        zoned = time.dt.replace_time_zone("UTC")
        return table.with_columns(time=pl.coalesce("time", zoned))

    def _commit(self, *, wait: bool = False) -> None:
        """Tell the broker how far the worker has come."""
        from confluent_kafka import KafkaException, TopicPartition

        judged = dict(self._service.worker.marks)
        held = {_name(p.topic, p.partition) for p in self._consumer.assignment()}
        new = {n: o for n, o in judged.items() if n in held and o != self._committed.get(n)}
        if not new:
            return
        places = [(name.rpartition("/"), offset) for name, offset in new.items()]
        offsets = [TopicPartition(topic, int(part), offset) for (topic, _, part), offset in places]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as error:
            LOGGER.warning("kafka: offsets wait to be committed: %s", error)
        else:
            self._committed |= new


def _consumer(config: KafkaConfig) -> Consumer:
    try:
        from confluent_kafka import Consumer, KafkaException
    except ModuleNotFoundError:
        raise ConfigError(
            "--from kafka://: needs confluent-kafka: pip install 'oddlog[kafka]'"
        ) from None
    settings = {"bootstrap.servers": config.brokers, "group.id": config.group}
    try:
        return Consumer({**DEFAULTS, **config.more, **settings, **OWN}, logger=LOGGER)
    except (KafkaException, ValueError, TypeError) as error:
        raise ConfigError(f"--from kafka://{config.brokers}: {error}") from None


def _name(topic: str | None, partition: int | None) -> str:
    return f"{topic}/{partition}"


def _nothing() -> pl.DataFrame:
    return table_of({"source": [], "text": [], "time": [], "template": []}, Limits()).table


def _read_otlp(body: bytes, limits: Limits, topic: str) -> Received:
    return otlp.read_protobuf(body, limits)


def _read_otlp_json(body: bytes, limits: Limits, topic: str) -> Received:
    return otlp.read_json(body, limits)


READERS: dict[str, Callable[[bytes, Limits, str], Received]] = {
    "text": plain.read_text,
    "json": plain.read_json_lines,
    "otlp": _read_otlp,
    "otlp_json": _read_otlp_json,
}
