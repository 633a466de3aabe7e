"""TOML into dataclasses: round trips, and one clear line for what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edgesr import config
from edgesr.errors import BadConfig, UnknownName
from edgesr.training.recipe import Recipe, load_recipe, preset_names


@dataclass(frozen=True)
class Inner:
    size: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    share: float = 0.5
    many: tuple[Inner, ...] = ()
    maybe: int | None = None
    pair: tuple[int, str] = (1, "a")
    table: dict[str, float] | None = None
    flag: bool = False


FULL = Outer('x "y"', Inner(3, ("a", "b")), 1.0, (Inner(1), Inner(2)), 7, (2, "b"), {"k": 2.0})


def test_dumps_then_loads_is_equal() -> None:
    assert config.loads(Outer, config.dumps(FULL), "t") == FULL
    for name in ("a\\b", "tab\tline\r\n", "\x00\x1f\x7f\x80", "ü × 😀"):
        odd = Outer(name, Inner(1))
        assert config.loads(Outer, config.dumps(odd), "t") == odd


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name="a"\nshar=1.0\n[inner]\nsize=1', "unknown key 'shar'; did you mean 'share'"),
        ('name="a"\n[inner]\nsiez=1', "inner: unknown key 'siez'; did you mean 'size'"),
        ('name="a"', "key 'inner' is missing"),
        ("name=1\n[inner]\nsize=1", "name is 1; should be str"),
        ('name="a"\nflag=1\n[inner]\nsize=1', "flag is 1; should be bool"),
        ('name="a"\n[inner]\nsize=true', "size is True; should be int"),
        ('name="a"\n[inner]\nsize=1\n[[many]]\nsize="x"', r"many\[0\]: size is 'x'"),
        ('name="a"\npair=[1]\n[inner]\nsize=1', "pair has 1 entries, should have 2"),
        ("name=", "t: "),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message) as caught:
        config.loads(Outer, text, "t")
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="No such file"):
        config.load(Outer, tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfig, match="not a text file"):
        config.load(Outer, tmp_path / "b.toml")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert config.loads(Recipe, config.dumps(recipe), name) == recipe


def test_recipes_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean smoke"):
        load_recipe("smok")
    path = tmp_path / "r.toml"
    for text, message in (
        ('name="a"\nstages=[]', "at least one"),
        ('name="a"\n[[stages]]\nkind="prune"\nsteps=1', "needs a budget"),
        (
            'name="a"\n[[stages]]\nkind="quantize"\nsteps=1\n[[stages]]\nkind="distill"\nsteps=1',
            "quantize can only be the last",
        ),
        ('name="a"\n[[stages]]\nkind="prune"\nmethod="magnitude"\nkeep=1.0\nsteps=1', "keep is"),
        ('name="a"\n[[stages]]\nkind="distill"\nsteps=1\nloss={adversarial=1.0}', 'kind = "gan"'),
        ('name="a"\n[[stages]]\nkind="distill"\nsteps=1\nloss={pixel=0.0}', "one of them positive"),
        (
            'name="a"\nscale=3\n[student]\nfamily="srgan"\n[[stages]]\nkind="distill"\nsteps=1',
            "scale must be 2, 4 or 8",
        ),
        (
            'name="a"\n[student]\nfamily="teacher"\n[[stages]]\nkind="distill"\nsteps=1',
            "budget goes with",
        ),
        ('name="a"\n[[stages]]\nkind="distill"\nsteps=1\nrounds=7', "rounds does nothing"),
        ('name="a"\n[[stages]]\nkind="gan"\nsteps=1', "adversarial loss goes with"),
        (
            'name="a"\nbudget="macs=5%"\n[[stages]]\nkind="prune"\nsteps=1\nmethod="2:4"\n'
            '[[stages]]\nkind="prune"\nsteps=1',
            "break its pattern",
        ),
        ('name="a"\nwidths=[0]\n[[stages]]\nkind="distill"\nsteps=1', "widths"),
        ('name="a"\nwidths=[0, 8]\n[[stages]]\nkind="distill"\nsteps=1', "widths"),
        ('name="a"\nclip=0.0\n[[stages]]\nkind="distill"\nsteps=1', "clip must be positive"),
        ('name="a"\nscale=0\n[[stages]]\nkind="distill"\nsteps=1', "scale 2 to 8"),
        ('name="a"\nseed=4294967296\n[[stages]]\nkind="distill"\nsteps=1', "seed 0 to"),
        ('name="a"\n[[stages]]\nkind="distill"\nsteps=1\nwarmup=-1', "warmup"),
        ('name="a"\n[[stages]]\nkind="distil"\nsteps=1', "may be 'distill'"),
        ('name="a"\n[[stages]]\nkind="distill"\nsteps=0', "must be positive"),
        ('name="a"\n[student]\nwdith=3\n[[stages]]\nkind="distill"\nsteps=1', "mean 'width'"),
    ):
        path.write_text(text)
        with pytest.raises(BadConfig, match=message):
            load_recipe(str(path))
