"""What a chat model answered: its verdict, the probability behind it, the lines it finds odd.

An answer holds numbers alone and is kept under a hash of what was asked, so that no file of
answers holds a word of a log.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from math import exp
from os import SEEK_END
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from oddlog import config as settings

logger = logging.getLogger(__name__)
NO_VERDICT = -1
UNDECIDED = 0.5  # p(anomalous) of a window without a verdict
USAGE = ("prompt_tokens", "completion_tokens")

Count = Annotated[int, Field(ge=0)]


class Answer(settings.Config):
    """What was understood of one reply.

    Attributes:
        verdict: The class answered, 0 normal; -1 where the reply holds none.
        probs: (K,) probability of each class, normal first; without a verdict p(anomalous) is
            ``UNDECIDED``, all kinds alike.
        lines: 1-based numbers of the lines named as odd, in the order of the reply.
        tokens_in: Tokens sent, as the endpoint counted them; 0 where it does not.
        tokens_out: Tokens received.
    """

    verdict: Annotated[int, Field(ge=NO_VERDICT)]
    probs: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
    lines: tuple[Annotated[int, Field(ge=1)], ...] = ()
    tokens_in: Count = 0
    tokens_out: Count = 0

    @property
    def anomalous(self) -> float:
        """p(anomalous)."""
        return 1 - self.probs[0]


def read_reply(reply: object, words: Sequence[str], n_lines: int) -> Answer:
    """Understand a chat completion.

    A reply without a verdict is no normal one: it gets ``NO_VERDICT``. Numbers of lines that were
    not shown are left out, as are repeats.

    Args:
        reply: The endpoint's JSON.
        words: (K,) what could be answered, normal first.
        n_lines: Lines that were shown.
    """
    choice = _get(_get(reply, "choices"), 0)
    text = _get(_get(choice, "message"), "content")
    usage = _get(reply, "usage")
    tokens_in, tokens_out = (_count(_get(usage, name)) for name in USAGE)
    verdict, place, lines = _verdict(text if isinstance(text, str) else "", words)
    n_kinds = len(words) - 1
    probs: list[float] | None = [1 - UNDECIDED, *[UNDECIDED / n_kinds] * n_kinds]
    if verdict != NO_VERDICT:
        probs = _probabilities(_get(_get(choice, "logprobs"), "content"), place, words)
    return Answer(
        verdict=verdict,
        probs=tuple(probs or (float(k == verdict) for k in range(len(words)))),
        lines=tuple(dict.fromkeys(n for n in lines if type(n) is int and 1 <= n <= n_lines)),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
    )


def _get(value: object, key: str | int) -> Any:
    """Return an item of a JSON object or list, None where there is no such thing."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


def _verdict(text: str, words: Sequence[str]) -> tuple[int, int, list[Any]]:
    """Return the class of the verdict, its place in the text, and what is named as odd lines."""
    known = {word.lower(): k for k, word in enumerate(words)}
    found = _first_object(text)
    if found is None:
        bare = re.fullmatch(r"[\s\"'`*]*(\w+)[\s\"'`*.!]*", text)
        verdict = known.get(bare[1].lower(), NO_VERDICT) if bare else NO_VERDICT
        return verdict, bare.start(1) if bare else 0, []
    begin, value = found
    word, lines = value.get("verdict"), value.get("lines")
    place = re.search(r"\"verdict\"\s*:\s*\"", text[begin:])
    if place is None or not isinstance(word, str):
        return NO_VERDICT, 0, []
    lines = lines if isinstance(lines, list) else []
    verdict = known.get(word.lower(), NO_VERDICT)
    return verdict, begin + place.end(), lines if verdict != NO_VERDICT else []


def _first_object(text: str) -> tuple[int, dict[str, Any]] | None:
    """Return the first JSON object of a text, which may stand in a fence, and where it begins."""
    begin = text.find("{")
    if begin < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, begin)
    except (json.JSONDecodeError, RecursionError):
        return None
    return begin, value


def _probabilities(tokens: object, place: int, words: Sequence[str]) -> list[float] | None:
    """Return (K,) probabilities from the alternatives of the token that decides for a word.

    Each is the sum of those of alternatives that begin its word, divided by that of all words. A
    word that is not among those shown counts as much as the least likely that is. The words begin
    differently, so that the first token of the verdict decides.

    Args:
        tokens: The reply's tokens with alternatives, if it has any.
        place: Where in the text the verdict stands.
        words: (K,) what could be answered.
    """
    shown = _get(_token_at(tokens, place), "top_logprobs")
    if not isinstance(shown, list):
        return None
    found = [(_get(item, "token"), _get(item, "logprob")) for item in shown]
    kept = [(t, exp(min(p, 0.0))) for t, p in found if _is_token(t, p)]
    mass = [sum(p for t, p in kept if _begins(t, word.lower())) for word in words]
    if not any(mass):
        return None
    least = min(p for _, p in kept)
    mass = [own or least for own in mass]
    return [own / sum(mass) for own in mass]


def _is_token(token: object, logprob: object) -> bool:
    return isinstance(token, str) and isinstance(logprob, (int, float)) and logprob == logprob


def _token_at(tokens: object, place: int) -> Any:
    """Return the token of a reply that covers a place in its text."""
    end = 0
    for token in tokens if isinstance(tokens, list) else ():
        text = _get(token, "token")
        end += len(text) if isinstance(text, str) else 0
        if end > place:
            return token
    return None


def _begins(token: str, word: str) -> bool:
    """Tell whether a token begins a word, with what may stand before it: blanks, quotes, colons."""
    bare = token.lstrip(" \t\n\"'`*:▁Ġ").lower()
    return bool(bare) and (word.startswith(bare) or bare.startswith(word))


def read_answers(path: Path) -> dict[str, Answer]:
    """Read a file of answers, one JSON object with its ``key`` a line; none if it is not there.

    A line that cannot be read, such as the last one of a run that was killed, counts as not there:
    what it held is asked again.
    """
    if not path.exists():
        return {}
    answers, n_bad = {}, 0
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            value = json.loads(line)
            key = str(value.pop("key"))
            answers[key] = Answer.model_validate(value)
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
            n_bad += bool(line)
    if n_bad:
        logger.warning("%s: %d lines cannot be read; they are asked for again", path, n_bad)
    return answers


def append_answers(path: Path, answers: Iterable[tuple[str, Answer]]) -> None:
    """Add answers to a file, beginning a line of their own whatever the last one is like."""
    lines = [json.dumps({"key": key, **answer.model_dump()}) + "\n" for key, answer in answers]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, SEEK_END)
            if file.read(1) != b"\n":
                lines.insert(0, "\n")
        file.write("".join(lines).encode())
