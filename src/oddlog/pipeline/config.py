"""The settings of a pipeline, and how TOML and ``--set`` become them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from oddlog.config import Config, build
from oddlog.detectors import DETECTORS, detector_class
from oddlog.drain import DrainConfig
from oddlog.ensemble import Ensemble
from oddlog.errors import ConfigError
from oddlog.group import Window

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
MOST_ANOMALIES = 0.2


class PipelineConfig(Config):
    """How a log becomes a fitted pipeline.

    Attributes:
        format: Name of a layout, a regex with named groups, or "auto".
        session_by: Regex or field that gives sessions; None for the layout's own rule.
        window: How events are cut into sequences, as text such as "lines:100" too; None to choose
            by what the log has.
        max_events: Events of a log to hold in memory while learning, about 700 bytes each. Of one
            with more, sessions or windows are drawn at random; see ``pipeline.sample``.
        cut: Cut normal data by time, or sessions at random.
        train_share: Share for weights, vocabulary and templates.
        valid_share: Share for choosing the epoch.
        calibration_share: Share for p-values, seen by nothing else.
        false_alarm_rate: Share of normal sequences that may be flagged.
        assume_anomalies: Share of unlabelled sequences that may be anomalies; the likeliest are
            left out (``pipeline.clean``). Not above ``MOST_ANOMALIES``.
        adopt_share: Share of a new log's sequences that a template unknown at fit time has to be
            in for ``update`` to take it for normal: what only faults write stays unknown.
        drain: Settings of the template miner; its masks are the layout's unless given here.
        templates_from: Model folder whose templates, with their ids and masks, are taken over; what
            training holds besides is added to them. A detector that starts from such a model says
            so itself.
        detector: Name in ``DETECTORS``.
        settings: The detector's own settings.
    """

    format: str = "auto"
    session_by: str | None = None
    window: Window | None = None
    max_events: Annotated[int, Field(ge=1)] = 1_500_000
    cut: Literal["time", "random"] = "time"
    train_share: Share = 0.65
    valid_share: Share = 0.1
    calibration_share: Share = 0.25
    false_alarm_rate: Share = 0.01
    assume_anomalies: float = 0.0
    adopt_share: Share = 0.01
    drain: DrainConfig = Field(default_factory=lambda: DrainConfig.model_validate({}))
    templates_from: str | None = None
    detector: str = "loggpt"
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _shares_fit(self) -> PipelineConfig:
        if sum(self.shares) > 1 + 1e-9:
            raise ValueError(f"the shares {self.shares} sum to more than 1")
        return self

    @field_validator("window", mode="before")
    @classmethod
    def _window_of_text(cls, window: object) -> object:
        if isinstance(window, str):
            return Window.parse(window)
        if window is None or isinstance(window, Window | Mapping):
            return window
        raise ValueError(f"{window!r} is no window, such as lines:100 or time:60s")

    @field_validator("assume_anomalies")
    @classmethod
    def _few_anomalies(cls, share: float) -> float:
        if not 0 <= share <= MOST_ANOMALIES:
            raise ValueError(
                f"{share} is no share from 0 to {MOST_ANOMALIES}, such as 0.03 for 3 %; with more "
                "anomalies than that it is not known what is ordinary"
            )
        return share

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of training, validation and calibration."""
        return self.train_share, self.valid_share, self.calibration_share


def make_config(settings: Mapping[str, Any], where: str) -> PipelineConfig:
    """Build a pipeline's config from TOML values, in which a detector's group bears its name.

    Both ``[loggpt] width = 32`` and ``window = "lines:100"`` are understood; the settings of a
    detector are checked here, not when it is fitted. Those of an ensemble's members stand beside
    its own.

    Raises:
        ConfigError: Unknown settings, or settings of a detector that is not the one chosen.
    """
    check_detector_name(settings, where)
    values = dict(settings)
    groups = {key: values.pop(key) for key in [*values] if key in DETECTORS}
    own = _own_settings(groups, values.get("detector", PipelineConfig().detector), where)
    config = build(PipelineConfig, values, where)
    config = config.model_copy(update={"settings": config.settings | own})
    if config.settings or config.detector not in DETECTORS:  # else no need to import a network
        cls = detector_class(config.detector)
        build(cls.Config, config.settings, f"{where}: {config.detector}")
    return config


def check_detector_name(settings: Mapping[str, Any], where: str) -> None:
    """Refuse settings of "the detector": a group bears the name of one.

    Raises:
        ConfigError: ``detector`` is something other than a name.
    """
    name = settings.get("detector", "")
    if isinstance(name, Mapping):
        raise ConfigError(
            f"{where}: detector: a name, not a group of settings; those of a detector bear its "
            "name, such as loggpt.width=32"
        )
    if not isinstance(name, str):
        raise ConfigError(f"{where}: detector: {name!r} is no name; see `oddlog detectors`")


def _own_settings(groups: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return the chosen detector's settings; an ensemble's hold those of its members by name."""
    for group, given in groups.items():
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where}: {group}: a group of settings, such as {group}.name=value")
    others = {group: given for group, given in groups.items() if group != name}
    own = dict(groups.get(name, {}))
    if others and name == Ensemble.name:
        return own | {"settings": {**own.get("settings", {}), **others}}
    if others:
        raise ConfigError(
            f"{where}: settings of {next(iter(others))!r}, but the detector is {name!r}"
        )
    return own
