"""Settings: TOML text to frozen pydantic models and back, with errors that name the nearest key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from oddlog.errors import ArtifactError, ConfigError


class Config(BaseModel):
    """Base of every group of settings: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=BaseModel)


def build(model: type[C], settings: Mapping[str, Any], where: str) -> C:
    """Build a config from plain values.

    Args:
        model: The config's class.
        settings: Its values, as read from TOML.
        where: What to call the source of the values in an error.

    Raises:
        ConfigError: An unknown key (the nearest known one is named) or a value that does not fit.
    """
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            nearest = _nearest(_group_of(model, first["loc"]), path)
            raise ConfigError(f"{where}: unknown setting {path!r}{nearest}") from None
        told = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {path or 'settings'}: {told}") from None


def build_stored(model: type[C], settings: object, where: str) -> C:
    """Build a config from what a model folder holds.

    Args:
        model: The config's class.
        settings: Its values, as read from the folder.
        where: The file they were read from.

    Raises:
        ArtifactError: They do not fit: another version of oddlog had other settings, or the file is
            damaged.
    """
    if not isinstance(settings, Mapping):
        raise ArtifactError(f"{where}: damaged: not a group of settings; fit the model again")
    try:
        return build(model, settings, where)
    except ConfigError as error:
        raise ArtifactError(
            f"{error}; the model was written by another version of oddlog, or changed by hand: "
            "use the version that manifest.json names, or fit the model again"
        ) from None


def _group_of(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the innermost config on the way to a setting, through optional and listed ones."""
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        model = next(_models_in(field.annotation), model) if field else model
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _nearest(model: type[BaseModel], path: str) -> str:
    group, dot, name = path.rpartition(".")
    near = get_close_matches(name, model.model_fields, n=1)
    if near:
        return f"; did you mean {group + dot + near[0]!r}?"
    return f"; known: {', '.join(model.model_fields)}"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: The file is not there or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def to_toml(settings: Mapping[str, Any]) -> str:
    """Write settings as TOML; keys with None are left out, as TOML has no null."""
    return tomli_w.dumps(_without_none(settings))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``["window.step=50", "loggpt.width=32"]`` into nested settings.

    A value is read as TOML; what is not TOML is taken as a string.

    Raises:
        ConfigError: An item is not of the form ``name=value``, or a name is both a value and a
            group of others.

    Example:
        >>> parse_assignments(["loggpt.width=32", "loggpt.score=worst"])
        {'loggpt': {'width': 32, 'score': 'worst'}}
    """
    settings: dict[str, Any] = {}
    for item in assignments:
        name, equals, text = item.partition("=")
        *parents, leaf = name.strip().split(".")
        if not equals or not all([*parents, leaf]):
            raise ConfigError(f"--set {item}: expected NAME=VALUE, such as loggpt.width=32")
        group = settings
        for parent in parents:
            group = group.setdefault(parent, {})
            if not isinstance(group, dict):
                raise ConfigError(f"--set {item}: {parent} is both a value and a group of settings")
        value = _toml_value(text.strip())
        if isinstance(group.get(leaf), dict) and not isinstance(value, dict):
            raise ConfigError(f"--set {item}: {leaf} is both a value and a group of settings")
        group[leaf] = value
    return settings


def _toml_value(text: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text  # a text of several lines may be TOML too
