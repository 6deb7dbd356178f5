"""Settings are strict, and errors give the dotted path."""

from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from trajgen.errors import InputError
from trajgen.settings import Settings, apply_override, load_settings, write_settings


class Inner(Settings):
    steps: int = Field(default=10, ge=1)
    unit: Literal["nm", "angstrom"] = "nm"


class Outer(Settings):
    training: Inner = Inner()
    name: str | None = None


class Needy(Settings):
    inner: Inner
    temperature_K: float


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.step=3", "'training.step' is not a setting; known there: steps, unit"),
        ("trainig.steps=3", "'trainig' is not a setting; known there: name, training"),
        ("training.steps=0", "'training.steps' is 0: .*greater than or equal to 1"),
        ("training.steps=many", "'training.steps' is 'many'"),
        ("training.unit=furlong", "'training.unit' is 'furlong'"),
        ("training=3", "'training' is 3"),
        ("training.steps", "not of the form dotted.key=value"),
        ("=3", "not of the form dotted.key=value"),
        ("training.steps=[", "not a YAML value"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_path(override: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_settings(Outer, overrides=[override])


def test_a_missing_setting_is_named_with_the_way_to_give_it() -> None:
    with pytest.raises(InputError, match=r"'inner' is missing.*and 1 more"):
        load_settings(Needy)
    with pytest.raises(InputError, match=r"'temperature_K' is missing; .*--set temperature_K="):
        load_settings(Needy, overrides=["inner.steps=3"])


def test_defaults_file_and_flags_win_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("training: {steps: 3}\nname: from file\n")
    settings = load_settings(Outer, path, ["training.steps=5", "training.steps=7"])
    assert settings == Outer(training=Inner(steps=7), name="from file")
    path.write_text("")
    assert load_settings(Outer, path) == Outer()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "a list, not a mapping"),
        ("a: [", r"a\.yaml, line 1, column 5, is not YAML: .*"),
        ("a: 1\n\tb: 2", r"line 2, column 1, is not YAML"),
        (None, "is missing"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said) as refusal:
        load_settings(Outer, path)
    assert "\n" not in str(refusal.value)


def test_a_value_below_a_value_is_refused() -> None:
    with pytest.raises(InputError, match="'name' is a value and has no keys below it"):
        load_settings(Outer, overrides=["name=x", "name.deep=3"])


@given(st.integers(1, 10**9), st.one_of(st.none(), st.text(st.characters(codec="ascii"))))
def test_the_resolved_file_gives_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, steps: int, name: str | None
) -> None:
    settings = Outer(training=Inner(steps=steps), name=name)
    path = tmp_path_factory.mktemp("settings") / "resolved.yaml"
    write_settings(path, settings)
    assert load_settings(Outer, path) == settings


def test_an_override_takes_any_yaml_value() -> None:
    values: dict[str, object] = {}
    apply_override(values, "a.b=[1, {c: null}]")
    apply_override(values, "a.d=x=y")
    assert values == {"a": {"b": [1, {"c": None}], "d": "x=y"}}
    assert yaml.safe_load(yaml.safe_dump(values)) == values


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Outer().name = "other"
