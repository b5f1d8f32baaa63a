"""The command ``oddlog serve``: its options, and a server that runs until it is told to end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from oddlog.errors import ConfigError

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The model folder.")]
State = Annotated[
    Path,
    typer.Option("--state", metavar="DIR", help="Journal, state and, without --db, the database."),
]
Rate = Annotated[
    float | None, typer.Option("--false-alarm-rate", metavar="RATE", help="Another than fitted.")
]


def serve(
    model: Model,
    state: State = Path("oddlog-state"),
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535)] = 8400,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the token that clients show.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Their key, PEM.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which it is reached; repeat."),
    ] = None,
    db: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="ODDLOG_DB", help="sqlite:///... or postgresql://..."),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="WHAT",
            help="A file to follow, journald, or kafka://HOST:9092/TOPIC?group=oddlog; repeat.",
        ),
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Read what files and journal hold already.")
    ] = False,
    kafka_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="librdkafka's settings, name=value.")
    ] = None,
    webhook: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Post alerts there as JSON; repeat.")
    ] = None,
    slack: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A Slack-compatible webhook; repeat.")
    ] = None,
    alertmanager: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Alertmanager's base URL; repeat.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="N/day", help="Alerts to expect of normal windows.")
    ] = None,
    false_alarm_rate: Rate = None,
    queue_lines: Annotated[
        int, typer.Option(metavar="N", min=1, help="Lines that may wait to be judged.")
    ] = 200_000,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Take lines as they come, and show alerts on a page."""
    try:
        from oddlog.serve.run import Address, Settings, run
    except ModuleNotFoundError as error:
        raise ConfigError(f"oddlog serve needs {error.name}: pip install 'oddlog[serve]'") from None

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("--tls-cert and --tls-key: give both, or neither")
    certificate = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
    run(
        Settings(
            model=model,
            state=state,
            db=db,
            inputs=tuple(inputs or ()),
            from_start=from_start,
            kafka_config=kafka_config,
            webhooks=(
                *(("generic", url) for url in webhook or ()),
                *(("slack", url) for url in slack or ()),
                *(("alertmanager", url) for url in alertmanager or ()),
            ),
            budget=budget,
            false_alarm_rate=false_alarm_rate,
            queue_lines=queue_lines,
            device=device,
        ),
        Address(host, port, token_file, certificate, tuple(allow_host or ())),
        ready=lambda url: typer.echo(f"oddlog serves {model} at {url}", err=True),
    )
