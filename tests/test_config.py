import string
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from oddlog.config import Config, build, build_stored, parse_assignments, read_toml, to_toml
from oddlog.errors import ArtifactError, ConfigError


class Inner(Config):
    depth: int = 4
    similarity: float = 0.5


class Outer(Config):
    width: int = 8
    name: str = "a"
    inner: Inner = Field(default_factory=Inner)
    other: Inner | None = None
    many: tuple[Inner, ...] = ()


def test_values_are_built_into_a_frozen_config():
    config = build(Outer, {"width": 16, "inner": {"depth": 5}}, "a.toml")
    assert (config.width, config.inner) == (16, Inner(depth=5))
    with pytest.raises(ValueError, match="frozen"):
        config.width = 3


@pytest.mark.parametrize(
    ("settings", "path", "nearest"),
    [
        ({"widht": 1}, "widht", "width"),
        ({"inner": {"dept": 3}}, "inner.dept", "inner.depth"),
        ({"other": {"similarty": 3}}, "other.similarty", "other.similarity"),
        ({"many": [{}, {"dpth": 3}]}, "many.1.dpth", "many.1.depth"),
    ],
)
def test_an_unknown_setting_names_the_nearest_of_its_group(settings, path, nearest):
    with pytest.raises(ConfigError) as caught:
        build(Outer, settings, "a.toml")
    assert str(caught.value) == f"a.toml: unknown setting {path!r}; did you mean {nearest!r}?"


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"xyz": 1}, "width, name, inner, other, many"),
        ({"inner": {"xyz": 1}}, "depth, similarity"),
    ],
)
def test_an_unknown_setting_near_none_names_those_of_its_group(settings, known):
    with pytest.raises(ConfigError, match=f"; known: {known}$"):
        build(Outer, settings, "a.toml")


def test_a_value_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match=r"^a\.toml: inner\.depth: Input should be a valid int"):
        build(Outer, {"inner": {"depth": "deep"}}, "a.toml")


def test_a_group_that_is_no_table_is_refused():
    with pytest.raises(ConfigError, match=r"^a\.toml: inner: "):
        build(Outer, {"inner": 3}, "a.toml")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            {"older": 3},
            r"^a\.json: unknown setting 'older'.* another version of oddlog.*fit the mod",
        ),
        ({"width": "wide"}, r"^a\.json: width: .*another version of oddlog"),
        ([1], r"^a\.json: damaged: .*fit the model again"),
    ],
)
def test_stored_settings_that_do_not_fit_are_an_artifact_error(stored, message):
    with pytest.raises(ArtifactError, match=message):
        build_stored(Outer, stored, "a.json")


def test_toml_is_read(tmp_path):
    (tmp_path / "a.toml").write_text("width = 3\n[inner]\ndepth = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"width": 3, "inner": {"depth": 1}}


@pytest.mark.parametrize("content", [b"width = ", b"\xff = 1", b"a = 1\na = 2"])
def test_what_is_no_toml_is_refused(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.toml: not valid TOML"):
        read_toml(tmp_path / "a.toml")


def test_an_absent_configuration_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.toml: cannot read the configuration: No such file"):
        read_toml(tmp_path / "a.toml")


toml_values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(string.printable), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), toml_values))
def test_settings_survive_toml(settings):
    assert tomllib.loads(to_toml(settings)) == settings


def test_what_is_none_is_left_out_of_toml():
    settings = {"a": None, "inner": {"b": None, "c": 1}, "many": ({"d": None},)}
    assert tomllib.loads(to_toml(settings)) == {"inner": {"c": 1}, "many": [{}]}


@given(st.integers(), st.none() | st.builds(Inner, depth=st.integers()))
def test_a_config_survives_toml(width, other):
    config = Outer(width=width, other=other, many=(Inner(), Inner(depth=2)))
    assert build(Outer, tomllib.loads(to_toml(config.model_dump())), "text") == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("worst", "worst"),
        ("time:60s", "time:60s"),
        ("a=b", "a=b"),
        ("", ""),
        (" 7 ", 7),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_an_assigned_value_is_read_as_toml_or_else_as_text(text, value):
    assert parse_assignments([f"a={text}"]) == {"a": value}


def test_a_dotted_name_is_a_setting_of_a_group():
    found = parse_assignments(["a.b.c=1", "a.b.d=2", "a.e=3", "f=4"])
    assert found == {"a": {"b": {"c": 1, "d": 2}, "e": 3}, "f": 4}


def test_the_last_assignment_of_a_name_holds():
    assert parse_assignments(["a.b=1", "a.b=2"]) == {"a": {"b": 2}}


def test_no_assignment_is_no_setting():
    assert parse_assignments([]) == {}


@pytest.mark.parametrize("item", ["width", "=3", " =3", "", "a..b=1", ".a=1", "a.=1"])
def test_what_is_no_assignment_is_refused(item):
    with pytest.raises(ConfigError, match="expected NAME=VALUE, such as"):
        parse_assignments([item])


@pytest.mark.parametrize("items", [["a=1", "a.b=2"], ["a.b=1", "a.b.c.d=2"], ["a.b=1", "a=2"]])
def test_a_name_that_is_both_a_value_and_a_group_is_refused(items):
    with pytest.raises(ConfigError, match=f"--set {items[1]}: .*both"):
        parse_assignments(items)
