"""A server from settings: load the model, put the service together, listen until told to end."""

from __future__ import annotations

import gc
import hashlib
import logging
import sys
import time as clocks
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from oddlog.alerts import parse_budget
from oddlog.alerts.sinks import Webhook, WebhookConfig
from oddlog.config import build
from oddlog.errors import ConfigError
from oddlog.follow import Follower
from oddlog.journald import Journal, find_journalctl
from oddlog.pipeline import Pipeline
from oddlog.serve.access import LOCAL_HOSTS, Access, read_token
from oddlog.serve.alerting import Streams
from oddlog.serve.app import create_app
from oddlog.serve.delivery import Sink
from oddlog.serve.following import FollowReader
from oddlog.serve.inbox import Room
from oddlog.serve.kafka import KafkaConfig, KafkaReader, read_settings
from oddlog.serve.metrics import Metrics
from oddlog.serve.service import Service, ServiceConfig
from oddlog.watch import WatchConfig

SWITCH_S = 5e-4  # what works in C comes back to Python often, and would wait so long each time
MOST_REQUESTS = 256
GRACE_S = 10
OTHERS_BITS = 0o077
JOURNALD = "journald"
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What is served, and whence and whither.

    Attributes:
        model: The model folder.
        state: Folder of journal, state and, without ``db``, the database.
        db: URL of the database.
        inputs: What is read besides HTTP: URLs of Kafka (see ``KafkaConfig.parse``), files to
            follow, ``journald``.
        from_start: Read what files and journal hold already.
        kafka_config: File of librdkafka's settings.
        webhooks: Where alerts are posted, each a style and a URL; see ``alerts.WebhookConfig``.
        budget: Alerts to be expected of normal windows, such as "20/day".
        false_alarm_rate: Another than the model was fitted for.
        queue_lines: Lines that may wait to be judged.
        device: Of a detector's network.
    """

    model: Path
    state: Path
    db: str | None = field(default=None, repr=False)
    inputs: tuple[str, ...] = ()
    from_start: bool = False
    kafka_config: Path | None = None
    webhooks: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    budget: str | None = None
    false_alarm_rate: float | None = None
    queue_lines: int = 200_000
    device: str = "auto"


@dataclass(frozen=True)
class Address:
    """Where to listen, and under which names.

    Attributes:
        host: Address of an interface.
        port: Its port; 0 for any that is free.
        token_file: Holds the token, or None.
        certificate: Certificates and key in PEM, or None for no TLS.
        names: Further names under which the service is reached.
    """

    host: str = "127.0.0.1"
    port: int = 8400
    token_file: Path | None = None
    certificate: tuple[Path, Path] | None = None
    names: tuple[str, ...] = ()

    def access(self) -> Access:
        """Return who may ask what there.

        Raises:
            ConfigError: Others than this machine could reach it, and there is no token; or the
                token's file is of no use.
        """
        local = _is_local(self.host)
        token = None if self.token_file is None else _token(self.token_file)
        if token is None and not local:
            raise ConfigError(
                f"--host {self.host}: others can reach it; give --token-file, or listen on "
                "127.0.0.1 behind a proxy that asks who they are"
            )
        hosts = frozenset(name.lower() for name in self.names)
        own = LOCAL_HOSTS | {self.host.lower()}
        return Access(
            token=token,
            hosts=hosts | own if local or hosts else frozenset(),
            secure=self.certificate is not None,
        )


def run(settings: Settings, address: Address, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; what was accepted is judged first.

    Args:
        settings: What is served.
        address: Where.
        ready: Told the URL once lines are taken.

    Raises:
        ConfigError: Settings that cannot be.
        ArtifactError: A model, state or journal that is damaged.
    """
    access, metrics, streams = address.access(), Metrics(), Streams()
    service = make_service(settings, metrics)
    app = create_app(service, access, metrics=metrics, streams=streams)
    files = address.certificate or (None, None)
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_REQUESTS,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=None if files[0] is None else str(files[0]),
        ssl_keyfile=None if files[1] is None else str(files[1]),
    )
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # libraries and model stay; looking through them again takes a fifth of a second
    _Server(config, streams, ready).run()


def make_service(settings: Settings, metrics: Metrics) -> Service:
    """Load the model and put the service together, not yet started."""
    kafka = _kafka(settings)
    _check_inputs(settings)
    pipeline = Pipeline.load(settings.model, settings.device)
    pipeline.check_can_flag(settings.false_alarm_rate)
    budget = None if settings.budget is None else parse_budget(settings.budget)
    service = Service(
        pipeline,
        ServiceConfig(
            settings.state,
            db=settings.db,
            room=Room(n_lines=settings.queue_lines),
            watch=WatchConfig(budget=budget, false_alarm_rate=settings.false_alarm_rate),
        ),
        sinks=make_sinks(settings.webhooks),
        latencies=metrics.took,
    )
    for config in kafka:
        service.add_feed(KafkaReader(config, service))
    _follow(settings, service)
    return service


def make_sinks(webhooks: Sequence[tuple[str, str]]) -> dict[str, Sink]:
    """Return where alerts are delivered, by a name that holds no secret but tells them apart.

    Args:
        webhooks: Each a style and a URL.

    Raises:
        ConfigError: A URL that is none.
    """
    sinks: dict[str, Sink] = {}
    for style, url in webhooks:
        config = build(WebhookConfig, {"url": url, "style": style}, f"--{style}")
        digest = hashlib.sha256(url.encode()).hexdigest()[:8]  # a path may be a secret
        sinks[f"{style} {urlsplit(url).hostname} {digest}"] = Webhook(config, clocks.time)
    return sinks


class _Server(uvicorn.Server):
    """Says when it listens, and lets go of those who follow the alerts when it is to end."""

    def __init__(
        self, config: uvicorn.Config, streams: Streams, ready: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._streams = streams
        self._ready = ready

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            scheme = "https" if self.config.is_ssl else "http"
            self._ready(f"{scheme}://{name}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._streams.closing = True
        super().handle_exit(sig, frame)


def _kafka(settings: Settings) -> list[KafkaConfig]:
    urls = [url for url in settings.inputs if "://" in url]
    more = {} if settings.kafka_config is None or not urls else read_settings(settings.kafka_config)
    return [KafkaConfig.parse(url, more) for url in urls]


def _check_inputs(settings: Settings) -> None:
    """Refuse at once what could not be followed."""
    for name in settings.inputs:
        if name == JOURNALD:
            find_journalctl()
        elif Path(name).is_dir():
            raise ConfigError(f"--from {name}: is a folder; name the files in it")


def _follow(settings: Settings, service: Service) -> None:
    """Have the service read files, and the journal."""
    names = [name for name in settings.inputs if "://" not in name]
    files, start = [name for name in names if name != JOURNALD], settings.from_start

    def open_files(place: Mapping[str, Any] | None) -> Follower:
        return Follower(files, from_start=start, state=place)

    def open_journal(place: Mapping[str, Any] | None) -> Journal:
        return Journal(from_start=start, state=place)

    if files:
        service.add_feed(FollowReader("files", open_files, service))
    if JOURNALD in names:
        service.add_feed(FollowReader(JOURNALD, open_journal, service))


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        others = path.stat().st_mode & OTHERS_BITS
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the token: {error}") from None
    if others:
        LOGGER.warning("%s: others on this machine can read the token; chmod 600 it", path)
    return read_token(text, str(path))
