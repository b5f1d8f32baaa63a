"""A chat model asked whether a window is normal: zero-shot, or with a few labelled examples.

Paper: the comparison with GPT-3.5-turbo and GPT-4 in Zhang, Yin & Li, arXiv:2510.16044 (2025). Its
prompts, and how many sequences were asked for, are not known to us; the wording is ours
(``prompt``). Of the model it needs nothing but an endpoint that speaks OpenAI's chat completions:
a service, or vLLM, llama.cpp, Ollama on a machine of one's own.

Equations, for the probabilities a and n of the tokens with which the verdict would begin
"anomalous" or "normal", and the pieces p of a window::

    p(anomalous | piece)   a / (a + n); without logprobs 1 or 0, by the verdict
    score                  max over p of p(anomalous | piece), in which a reply without a verdict
                           counts .5
    rule                   the verdict on any piece is "anomalous"

Deviations and their reasons: a score in place of a word, so that it can be calibrated. A reply that
is neither word is counted (``n_unjudged``) and never taken for normal. A window longer than
``max_messages`` is asked for in pieces, none of its lines is left out. Temperature is 0 and each
distinct piece is asked once: the answer is kept, in the model folder and where ``cache`` says, so
that scoring again gives the same scores and asks nothing, whatever the endpoint would say now.

What leaves the machine: the texts of templates, in which whatever varies is a wildcard; messages of
templates that training did not hold, with masks applied; nothing else. It is told before the first
request, with the host. The key is read from the environment and stored nowhere.

Fitting draws the examples and asks nothing. With ``shots = 0``, or where training holds no labelled
anomaly, labels have no use: only normal examples can then be shown. Sequences without a label count
as normal in a log in which none is labelled normal. With ``kinds``, and several kinds of anomaly
among training's labels, each is a letter to answer with; the classes' probabilities are those of
the letters, in the oddest piece. ``explain`` gives the lines that the answer names, each with the
score of its piece; by occlusion every event would be a request. No event scores. Not causal: a
window is asked for as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from oddlog import config as settings
from oddlog.artifact import read_json, write_json
from oddlog.detectors.llm_prompt.answers import NO_VERDICT, Answer, read_answers
from oddlog.detectors.llm_prompt.asking import (
    Meter,
    Question,
    ask_all,
    find_unanswered,
    what_leaves,
)
from oddlog.detectors.llm_prompt.client import Client
from oddlog.detectors.llm_prompt.config import LLMPromptConfig, check_named
from oddlog.detectors.llm_prompt.prompt import (
    Choice,
    Lines,
    Pieces,
    cut_pieces,
    find_lines,
    key_of,
    learn_texts,
    make_request,
)
from oddlog.encode import training_templates
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import NORMAL as NORMAL_LABEL
from oddlog.events import Sequences, column
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.run import Run

logger = logging.getLogger(__name__)
ANOMALY = "anomaly"  # the class where the kinds are not told apart


class Learned(settings.Config):
    """What fitting leaves: all that is shown of training.

    Attributes:
        texts: The text of each training template by its id.
        examples: (class, window as shown) of each example.
        kinds: Names of the kinds of anomaly that are asked for; none where they are one to it.
    """

    texts: dict[int, str]
    examples: tuple[tuple[int, str], ...]
    kinds: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) names of the classes, normal first."""
        return (NORMAL_LABEL, *(self.kinds or (ANOMALY,)))

    def fits(self, answer: Answer) -> bool:
        """Tell whether an answer is one between these classes."""
        return len(answer.probs) == len(self.names) > answer.verdict


class Kept(settings.Config):
    """The answers of a model folder, by the hash of what was asked."""

    answers: dict[str, Answer]


class LLMPrompt:
    """Ask a chat model whether a window is normal, each distinct one once.

    Attributes:
        meter: What was asked since this detector was made or loaded.
    """

    name: ClassVar[str] = "llm_prompt"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    needs_anomalies: ClassVar[bool] = False
    causal: ClassVar[bool] = False
    reads_messages: ClassVar[bool] = True
    Config: ClassVar[type[settings.Config]] = LLMPromptConfig

    def __init__(self, config: LLMPromptConfig) -> None:
        self.config = config
        self.meter = Meter()
        self._learned: Learned | None = None
        self._answers: dict[str, Answer] = {}

    @property
    def history(self) -> list[dict[str, float]]:
        """What was asked and what it cost, for the manifest."""
        return [{**vars(self.meter), "cost": self.meter.cost(self.config)}]

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn the texts of templates and draw the examples; ``valid`` has no use here.

        Nothing is sent.

        Raises:
            ConfigError: No address or model is set, or ``train`` holds no messages.
        """
        check_named(self.config, self.name)
        training_templates(train, self.name)
        if column(train.events, "message").null_count() == train.events.height:
            raise ConfigError(
                f"{self.name} reads what events say, and these have template ids alone: give it "
                "the log itself"
            )
        texts = learn_texts(train, self.config)
        kinds = self._kinds(train)
        examples = tuple(self._draw(train, texts, kinds, run.seed))
        self._learned = Learned(texts=texts, examples=examples, kinds=kinds)
        self._answers = {}

    def score(self, sequences: Sequences) -> Scores:
        """Score by p(anomalous), asking for what has no answer yet.

        ``measures`` hold ``probability`` (n,) float64, ``verdict`` (n,) int64 (1 anomalous,
        0 normal, -1 none) and ``n_pieces`` (n,) int64, the requests that a window takes.

        Raises:
            ConfigError: It would take more requests than ``max_requests``, or the key is missing.
            EndpointError: The endpoint cannot be reached, refuses or does not answer.
            NotFittedError: Called before ``fit`` or ``load``.
        """
        pieces, answers = self._judge(sequences)
        names = self._fitted().names
        said = np.array([answer.verdict for answer in answers], dtype=np.int64)[pieces.of_piece]
        found = np.array([answer.probs for answer in answers]).reshape(-1, len(names))
        odd = 1 - found[pieces.of_piece, 0]
        worst = np.lexsort((-odd, pieces.owner))  # the oddest piece of each window comes first
        worst = worst[np.searchsorted(pieces.owner, np.arange(len(sequences)))]
        # Of the pieces' verdicts an anomaly weighs most, then that there is none.
        rank = np.zeros(len(sequences), dtype=np.int64)
        np.maximum.at(rank, pieces.owner, np.where(said > 0, 2, np.where(said < 0, 1, 0)))
        verdict = np.array([0, NO_VERDICT, 1])[rank]
        return Scores(
            sequence=odd[worst].astype(np.float32),
            measures={
                "probability": odd[worst],
                "verdict": verdict,
                "n_pieces": np.bincount(pieces.owner, minlength=len(sequences)),
            },
            class_names=names if len(names) > 2 else (),
            class_probs=found[pieces.of_piece[worst]].astype(np.float32)
            if len(names) > 2
            else None,
            n_unjudged=int(np.count_nonzero(verdict == NO_VERDICT)),
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the model's verdict is "anomalous"; no verdict is none."""
        return scores.measures["verdict"] == 1

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events that the answers name, worst piece first; they have no ``expected``.

        Raises:
            EndpointError: What was not scored before is asked for, and not answered.
            NotFittedError: Called before ``fit`` or ``load``.
        """
        pieces, answers = self._judge(sequences)
        culprits: list[list[Culprit]] = [[] for _ in range(len(sequences))]
        # One turn per piece: an explanation is an object of its own, asked for flagged windows.
        for begin, owner, number in zip(
            pieces.begins.tolist(), pieces.owner.tolist(), pieces.of_piece.tolist(), strict=True
        ):
            answer, first = answers[number], int(sequences.offsets[owner])
            for line in answer.lines:
                entry = begin + line - 1
                row = int(sequences.rows[entry])
                culprits[owner].append(Culprit(row, entry - first, answer.anomalous))
        return [
            Explanation(key, tuple(sorted(named, key=lambda culprit: -culprit.score)))
            for key, named in zip(sequences.keys, culprits, strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``learned.json`` and ``answers.json``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        learned = self._fitted()
        write_json(folder / "config.json", self.config.model_dump(mode="json"))
        write_json(folder / "learned.json", learned.model_dump(mode="json"))
        kept = Kept(answers=dict(sorted(self._answers.items())))
        write_json(folder / "answers.json", kept.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        config = _read(LLMPromptConfig, folder / "config.json")
        learned = _read(Learned, folder / "learned.json")
        kept = _read(Kept, folder / "answers.json")
        if not all(map(learned.fits, kept.answers.values())):
            raise ArtifactError(f"{folder}: damaged: answers between other classes; fit it again")
        detector = cls(config)
        detector._learned, detector._answers = learned, kept.answers
        return detector

    def _fitted(self) -> Learned:
        if self._learned is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._learned

    def _judge(self, sequences: Sequences) -> tuple[Pieces, list[Answer]]:
        """Return the pieces of windows and the answer to each distinct one."""
        learned, config = self._fitted(), self.config
        lines = find_lines(sequences, learned.texts, config)
        pieces = cut_pieces(sequences, lines, config.max_messages)
        questions = [self._question(pieces, number, lines.texts) for number in range(len(pieces))]
        if config.cache:
            self._recall(questions)
        missing = find_unanswered(questions, self._answers, config, self.name)
        if missing:
            self._ask(missing, pieces, lines)
        return pieces, [self._answers[question.key] for question in questions]

    def _recall(self, questions: list[Question]) -> None:
        """Take over what the cache holds of the answers that are missing."""
        missing = {question.key for question in questions} - self._answers.keys()
        cached = read_answers(Path(self.config.cache)) if missing else {}
        fit = {key for key, answer in cached.items() if self._fitted().fits(answer)}
        self._answers |= {key: cached[key] for key in missing & fit}

    def _ask(self, missing: list[Question], pieces: Pieces, lines: Lines) -> None:
        """Say what leaves the machine, let it leave, and say what that took."""
        shown = np.unique(np.concatenate([pieces.lines[question.piece] for question in missing]))
        meter, choice = Meter(), Choice.of(self._fitted().kinds)
        with Client(self.config, self.name) as client:
            told = what_leaves(len(missing), lines, shown, choice, self.config)
            logger.warning("%s: %s", self.name, told)
            try:
                ask_all(client, missing, self._answers, meter, choice)
            finally:
                self.meter += meter
                logger.warning("%s: %s", self.name, meter.tell(self.config))

    def _question(self, pieces: Pieces, number: int, texts: list[str]) -> Question:
        body = partial(self._body, pieces, number, texts)
        return Question(number, key_of(self.config, body()), body, len(pieces.lines[number]))

    def _body(self, pieces: Pieces, number: int, texts: list[str]) -> Any:
        learned = self._fitted()
        shown = pieces.show(number, texts)
        return make_request(self.config, Choice.of(learned.kinds), learned.examples, shown)

    def _kinds(self, train: Sequences) -> tuple[str, ...]:
        """Return the names of the kinds of anomaly to ask for, none where one or none is known."""
        known = sorted(set(train.labels.drop_nulls()) - {NORMAL_LABEL})
        kinds = tuple(known) if self.config.kinds and len(known) > 1 else ()
        Choice.of(kinds)  # refused before anything is asked
        return kinds

    def _draw(
        self, train: Sequences, texts: dict[int, str], kinds: tuple[str, ...], seed: int
    ) -> Iterator[tuple[int, str]]:
        """Draw ``shots`` distinct windows of each class, normal first."""
        if not self.config.shots:
            return
        names = (NORMAL_LABEL, *kinds)
        normal, *odd = ((train.labels == name).fill_null(value=False).to_numpy() for name in names)
        if not normal.any():
            normal = ~train.anomalous  # in a log without labels
        random = np.random.default_rng(seed)
        for k, chosen in enumerate([normal, *(odd or [train.anomalous])]):
            if not chosen.any():
                word = "anomalous" if k else "normal"
                logger.warning("%s: training holds no %s window to show", self.name, word)
                continue
            for text in self._examples(train.take(chosen), texts, random):
                yield k, text

    def _examples(
        self, own: Sequences, texts: dict[int, str], random: np.random.Generator
    ) -> list[str]:
        """Draw among distinct windows, of those that one request holds where there are any."""
        short = own.lengths <= self.config.max_messages
        own = own.take(short) if short.any() else own
        lines = find_lines(own, texts, self.config)
        pieces = cut_pieces(own, lines, self.config.max_messages)
        drawn = random.permutation(len(pieces))[: self.config.shots]
        return [pieces.show(int(number), lines.texts) for number in drawn]


M = TypeVar("M", bound=settings.Config)


def _read(model: type[M], path: Path) -> M:
    return settings.build_stored(model, read_json(path), str(path))
