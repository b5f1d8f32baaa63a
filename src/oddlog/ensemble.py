"""Several detectors as one: how odd they find a window together.

Source: Fisher, "Statistical Methods for Research Workers" (4th edition, 1932), section 21.1; Liu &
Xie, "Cauchy combination test: a powerful test with analytic p-value calculation under arbitrary
dependency structures" (JASA 2020); Tippett, "The Methods of Statistics" (1931), for the minimum.
The equations are in ``oddlog.combine``.

Deviations, and why: the p-values of one window are dependent, tied and bounded from below, so that
no textbook distribution of the statistic holds. It is a score like any other: the pipeline
calibrates it on normal windows that no member has seen, and the stated false-alarm rate rests on
that alone. To rank members against each other takes normal windows too, those of validation. That
members chose their epochs there makes ranks a little too high, which bends the statistic and voids
nothing. Above the highest of them, where all p-values would tie, a tail goes on.

Which rule is best depends on the members: where each has its say the sum of what they find is (it
is asymptotically optimal for independent tests: Littell & Folks, JASA 1971), and where some find
little it drowns the others in their noise. So by default it is chosen at fit time, by how well each
tells validation windows from corruptions of them (``simulate.corrupt``), and the sum is taken
unless another is better by more than ``MARGIN``.

A composition and no detector of its own, so it stands above them: ``DETECTORS`` names it as text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator, model_validator

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.combine import RULES, Rarity
from oddlog.detectors import Adaptive, Detector, detector_class
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.evaluate import average_precision
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.nn.validation import BASE_RATE, N_DRAWS
from oddlog.run import Run
from oddlog.simulate.corrupt import corrupt

logger = logging.getLogger(__name__)
MARGIN = 0.01
"""Of area under precision and recall: rules that rank alike differ by .001, and a rule that drowns
its members by a tenth and more (docs/ensembles.md)."""
ROBUST = "cauchy"  # where no window can be corrupted, and nothing tells which rule is best


class EnsembleConfig(settings.Config):
    """Settings of an ensemble.

    Attributes:
        members: Two or more names in ``DETECTORS`` of detectors that learn from normal windows.
            Where two find a window equally odd, the one named first explains it.
        rule: How their p-values are combined: "fisher" adds up what all find, "minimum" believes
            the one that finds most, and so does "cauchy", nearly; "auto" chooses one of them.
        settings: Each member's own by its name; a group ``[loggpt]`` in a pipeline's settings is
            the same as ``[ensemble.settings.loggpt]``.
    """

    model_config = ConfigDict(validate_default=True)

    members: Annotated[tuple[str, ...], Field(min_length=2)] = ("loggpt", "key_set", "counts")
    rule: Literal["auto", "fisher", "cauchy", "minimum"] = "auto"
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("members")
    @classmethod
    def _can_be_members(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(members)) != len(members):
            raise ValueError(f"one of them is named twice: {', '.join(members)}")
        for name in members:
            if name == Ensemble.name:
                raise ValueError("an ensemble cannot be a member of an ensemble")
            if detector_class(name).learns_from == "labelled":
                raise ValueError(
                    f"{name} learns from labels; windows are ranked among normal ones here, by "
                    "detectors that learn from these alone"
                )
        return members

    @model_validator(mode="after")
    def _settings_fit(self) -> EnsembleConfig:
        for name in self.settings:
            if name not in self.members:
                raise ValueError(
                    f"settings of {name!r}, which is no member; members: {', '.join(self.members)}"
                )
            self.config_of(name)
        return self

    def config_of(self, name: str) -> Any:
        """Return a member's own config.

        Raises:
            ConfigError: A setting that it does not know or cannot take.
        """
        return settings.build(detector_class(name).Config, self.settings.get(name, {}), name)


class Ensemble:
    """Combine how rare several detectors find a window; see the module.

    Sequence score: the combined statistic, in nats, above 0. Event score: how rare an event as odd
    is among the oddest events of normal windows, in nats, by the member that finds it oddest;
    members without event scores have no say in it, and where no member has any there are none.

    Measures: for each member, under its name, (n,) how rare its score is, in nats. No sequence is
    left out; ``n_unjudged`` is that of the member that could judge fewest.
    """

    name: ClassVar[str] = "ensemble"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = EnsembleConfig

    def __init__(self, config: EnsembleConfig) -> None:
        self.config = config
        self._members: dict[str, Detector] = {}
        self._rarity: dict[str, Rarity] = {}
        """Of each member's sequence scores, by its name."""
        self._event_rarity: dict[str, Rarity] = {}
        """Of the worst event of a window, for members with event scores."""
        self.rule = config.rule
        """The rule that is used: what "auto" has chosen."""
        self.history: list[dict[str, Any]] = []
        """The members' training histories one after the other, each record with its member."""

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Fit each member, then rank its scores among those of ``valid``.

        Every member gets the same seed, and a folder of its own for checkpoints.

        Raises:
            ConfigError: ``valid`` is empty, or a member cannot learn from these windows.
        """
        _check_ranking(valid)
        members: dict[str, Detector] = {}
        for name in self.config.members:
            run.progress(name, 0, 0)
            members[name] = detector_class(name)(self.config.config_of(name))
            members[name].fit(train, valid, _for_member(run, name))
        self._take(members, valid)
        self.rule = self.config.rule
        if self.rule == "auto":
            run.progress("choosing the rule", 0, 0)
            self.rule = self._choose_rule(valid, run.seed)

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return an ensemble whose members have learned on, those that can, ranked on ``valid``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
            ConfigError: ``valid`` is empty.
        """
        _check_ranking(valid)
        members: dict[str, Detector] = {}
        for name, member in self._fitted().items():
            run.progress(name, 0, 0)
            can = isinstance(member, Adaptive)
            members[name] = member.adapt(train, valid, _for_member(run, name)) if can else member
        adapted = type(self)(self.config)
        adapted._take(members, valid)
        adapted.rule = self.rule
        return adapted

    def _take(self, members: dict[str, Detector], valid: Sequences) -> None:
        self._members = members
        for name, member in members.items():
            scores = member.score(valid)
            self._rarity[name] = Rarity.of(scores.sequence)
            if scores.event is not None:
                worst = np.maximum.reduceat(scores.event, valid.offsets[:-1])
                self._event_rarity[name] = Rarity.of(worst)
            found = getattr(member, "history", [])
            self.history += [{"member": name, **record} for record in found]

    def _choose_rule(self, valid: Sequences, seed: int) -> str:
        """Return the rule for "auto"; see the module."""
        odd = corrupt(valid, seed, N_DRAWS).without_labels()
        if not len(odd):
            return ROBUST
        nats = np.hstack([self._nats(part) for part in (valid, odd)])
        truth = np.repeat([False, True], [len(valid), len(odd)])
        found = {
            name: average_precision(rule(nats), truth, BASE_RATE) for name, rule in RULES.items()
        }
        logger.info("%s: area by rule on corrupted validation windows: %s", self.name, found)
        best = max(found.values())
        return next(name for name, area in found.items() if area >= best - MARGIN)

    def _nats(self, sequences: Sequences) -> NDArray[np.float64]:
        """Return (K, n) how rare each member finds each sequence."""
        pairs = self._fitted().items()
        return np.stack([self._rarity[n].nats(m.score(sequences).sequence) for n, m in pairs])

    def score(self, sequences: Sequences) -> Scores:
        """Score by the rule of ``config``; see the class.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        nats: dict[str, NDArray[np.float64]] = {}
        event = None
        n_unjudged = 0
        for name, member in self._fitted().items():
            scores = member.score(sequences)
            nats[name] = self._rarity[name].nats(scores.sequence)
            n_unjudged = max(n_unjudged, scores.n_unjudged)
            if scores.event is not None and name in self._event_rarity:
                own = self._event_rarity[name].nats(scores.event).astype(np.float32)
                event = own if event is None else np.maximum(event, own, out=event)
        combined = RULES[self.rule](np.stack([*nats.values()]))
        return Scores(combined.astype(np.float32), event, nats, n_unjudged=n_unjudged)

    def paper_rule(self, scores: Scores) -> None:
        """Return None: there is no decision but the calibrated one."""
        return

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the culprits of the member that finds a sequence rarest, ``Culprit.by`` its name.

        Where it names none the next one is asked. Culprits are scored as events are (see the
        class), or as that member scores them where it has no event scores.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        names = [*self._fitted()]
        nats = self._nats(sequences)
        asked = np.argsort(-nats, axis=0, kind="stable")  # (K, n) members, the surest first
        culprits: list[tuple[Culprit, ...]] = [()] * len(sequences)
        for turn in asked:
            pending = np.array([not found for found in culprits], dtype=bool)
            for number, name in enumerate(names):
                index = np.flatnonzero(pending & (turn == number))
                for i, found in zip(index, self._blame(name, sequences, index), strict=True):
                    culprits[i] = found
        pairs = zip(sequences.keys, culprits, strict=True)
        return [Explanation(str(key), found) for key, found in pairs]

    def _blame(
        self, name: str, sequences: Sequences, index: NDArray[np.int64]
    ) -> Iterator[tuple[Culprit, ...]]:
        """Yield a member's culprits of the chosen sequences, as rows of the whole table."""
        if not len(index):
            return
        rarity = self._event_rarity.get(name)
        for i, found in zip(index, self._members[name].explain(sequences.take(index)), strict=True):
            rows = sequences.rows[sequences.offsets[i] : sequences.offsets[i + 1]]
            scores = np.array([culprit.score for culprit in found.culprits])
            scores = scores if rarity is None else rarity.nats(scores)
            yield tuple(
                replace(
                    culprit,
                    row=int(rows[min(culprit.position, len(rows) - 1)]),
                    score=float(score),
                    by=name,
                )
                for culprit, score in zip(found.culprits, scores, strict=True)
            )

    def save(self, folder: Path) -> None:
        """Write config.json, rule.json, ranks.safetensors, and members into ``members/<name>``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        members = self._fitted()
        write_json(folder / "config.json", self.config.model_dump(mode="json"))
        write_json(folder / "rule.json", {"rule": self.rule})
        ranks = {f"{name}.sequence": rarity.reference for name, rarity in self._rarity.items()}
        ranks |= {f"{name}.event": rarity.reference for name, rarity in self._event_rarity.items()}
        save_arrays(folder / "ranks.safetensors", ranks)
        for name, member in members.items():
            place = folder / "members" / name
            place.mkdir(parents=True, exist_ok=True)
            member.save(place)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; which classes are read, ``DETECTORS`` says and no file.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = settings.build_stored(EnsembleConfig, read_json(where), str(where))
        ensemble = cls(config)
        ensemble.rule = _read_rule(folder / "rule.json")
        for name in config.members:
            ensemble._members[name] = detector_class(name).load(folder / "members" / name, device)
        ensemble._rarity, ensemble._event_rarity = _read_ranks(folder / "ranks.safetensors")
        if ensemble._rarity.keys() != ensemble._members.keys():
            raise ArtifactError(f"{folder}: ranks of other members than its own; fit it again")
        return ensemble

    def _fitted(self) -> dict[str, Detector]:
        if not self._members:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._members


def _for_member(run: Run, name: str) -> Run:
    return replace(run, checkpoints=run.checkpoints and run.checkpoints / name)


def _check_ranking(valid: Sequences) -> None:
    if not len(valid):
        raise ConfigError(
            f"{Ensemble.name}: no validation windows to rank the members' scores among; give more "
            "log, or a larger valid_share"
        )


def _read_rule(path: Path) -> str:
    stored = read_json(path)
    rule = stored.get("rule") if isinstance(stored, Mapping) else None
    if not isinstance(rule, str) or rule not in RULES:
        raise ArtifactError(f"{path}: damaged: it names no rule; fit the model again")
    return rule


def _read_ranks(path: Path) -> tuple[dict[str, Rarity], dict[str, Rarity]]:
    """Read the rarities of sequence and of event scores, by the names of the members."""
    found: Mapping[str, dict[str, Rarity]] = {"sequence": {}, "event": {}}
    for key, reference in load_arrays(path).items():
        name, _, kind = key.rpartition(".")
        try:
            found[kind][name] = Rarity(reference)
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{path}: damaged: {error}; fit the model again") from None
    return found["sequence"], found["event"]
