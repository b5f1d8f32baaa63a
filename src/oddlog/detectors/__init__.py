"""The one interface of every detector, and the table of those that exist.

A detector is one file that imports only ground, steps and ``oddlog.nn``, and one line in
``DETECTORS``; the contract tests, the command line and the docs table follow from that line.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from oddlog.config import Config
from oddlog.errors import ConfigError
from oddlog.events import Sequences
from oddlog.extras import EXTRAS, explain_missing
from oddlog.findings import Explanation, Scores
from oddlog.run import Run

if TYPE_CHECKING:
    from oddlog.nn.export import Graph

__all__ = [
    "BASELINES",
    "DETECTORS",
    "EXTRAS",
    "Adaptive",
    "Detector",
    "Exportable",
    "detector_class",
    "reads_text",
]

DETECTORS: dict[str, str] = {
    "new_event": "oddlog.detectors.new_event:NewEvent",
    "key_set": "oddlog.detectors.key_set:KeySet",
    "counts": "oddlog.detectors.counts:Counts",
    "length": "oddlog.detectors.length:Length",
    "ngram": "oddlog.detectors.ngram:Ngram",
    "edit_distance": "oddlog.detectors.edit_distance:EditDistance",
    "pca": "oddlog.detectors.pca:PCA",
    "log_cluster": "oddlog.detectors.log_cluster:LogCluster",
    "isolation_forest": "oddlog.detectors.isolation_forest:IsolationForest",
    "one_class_svm": "oddlog.detectors.one_class_svm:OneClassSVM",
    "decision_tree": "oddlog.detectors.decision_tree:DecisionTree",
    "logistic_regression": "oddlog.detectors.logistic_regression:LogisticRegression",
    "nearest_neighbour": "oddlog.detectors.nearest_neighbour:NearestNeighbour",
    "lookup": "oddlog.detectors.lookup:Lookup",
    "deeplog": "oddlog.detectors.deeplog:DeepLog",
    "loggpt": "oddlog.detectors.loggpt:LogGPT",
    "logbert": "oddlog.detectors.logbert:LogBERT",
    "gpt2_classifier": "oddlog.detectors.gpt2_classifier:GPT2Classifier",
    "llm_prompt": "oddlog.detectors.llm_prompt:LLMPrompt",
    "logllm": "oddlog.detectors.logllm:LogLLM",
    "ensemble": "oddlog.ensemble:Ensemble",  # of others; above this layer, and imported when asked
}
BASELINES = ("new_event", "key_set", "counts")


class Detector(Protocol):
    """What learns from sequences and scores sequences.

    A Protocol, not a base class: what two detectors share is functions, called, not inherited.
    ``config`` is the constructor's only argument; the constructor stores it and does nothing else.
    One that learns from labels, but needs no anomaly among them, has ``needs_anomalies = False``.
    One that may read messages, so that equal templates do not mean equal scores, has
    ``reads_messages = True``. One whose event scores depend on no more than so many events before
    the event says how many: ``memory``.
    """

    name: ClassVar[str]
    """Its key in ``DETECTORS``, in configs and in manifests."""
    learns_from: ClassVar[Literal["normal", "labelled"]]
    causal: ClassVar[bool]
    """An event's score depends on no later event, and a sequence scores at least as high as its
    worst one, so that an event may be raised live."""
    Config: ClassVar[type[Config]]

    @property
    def config(self) -> Any:
        """The settings, an instance of ``Config``."""
        ...

    def __init__(self, config: Any) -> None: ...

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn from ``train``; choose epochs and settings on ``valid``."""
        ...

    def score(self, sequences: Sequences) -> Scores:
        """Score every sequence: pure, batched, deterministic, blind to labels.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        ...

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_] | None:
        """Return (n,) the paper's own decision from ``scores.measures``, or None if it has none."""
        ...

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name each sequence's culprits, worst first, and what was expected there."""
        ...

    def save(self, folder: Path) -> None:
        """Write the fitted state into a folder that exists: json and safetensors only."""
        ...

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        ...


@runtime_checkable
class Adaptive(Protocol):
    """What a detector may offer besides: to learn further sequences after it was fitted.

    ``oddlog update`` asks for it. A detector without it is only calibrated anew, and a template
    adopted after its fit stays unknown to it.
    """

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that also holds these sequences for normal; this one stays as it is.

        What it had learned is kept: what was normal before stays so.

        Args:
            train: Sequences to learn; their templates may be new to the detector.
            valid: Sequences to choose by, as in ``fit``.
            run: Seed, device, progress.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        ...


@runtime_checkable
class Exportable(Protocol):
    """What a detector may offer besides: its networks, to be run without oddlog."""

    def graphs(self) -> list[Graph]:
        """Return its networks, with what their inputs and outputs are.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        ...


def detector_class(name: str) -> type[Detector]:
    """Return the class that ``DETECTORS`` lists under a name, importing its module.

    Raises:
        ConfigError: No detector has that name, or an extra that it needs is not installed.
    """
    if name not in DETECTORS:
        raise ConfigError(f"no detector named {name!r}; there are: {', '.join(DETECTORS)}")
    module, _, attribute = DETECTORS[name].partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise explain_missing(error, name) from None


def reads_text(detector: Detector) -> bool:
    """Tell whether a detector, or a member of an ensemble, may look at more than template ids."""
    members = getattr(detector.config, "members", ())
    kinds = (type(detector), *map(detector_class, members))
    return any(getattr(kind, "reads_messages", False) for kind in kinds)


def describe(name: str) -> dict[str, Any]:
    """Return what a person may want to know of a detector, ready for JSON.

    Keys: detector, learns_from, causal, about, settings with their defaults; detector and missing,
    which says what to install, where that is not there.
    """
    try:
        cls = detector_class(name)
        settings = cls.Config().model_dump()
    except ConfigError as error:
        return {"detector": name, "missing": str(error)}
    about = (cls.__doc__ or "").strip().splitlines()[0]
    told = {"learns_from": cls.learns_from, "causal": cls.causal, "about": about}
    return {"detector": name, **told, "settings": settings}
