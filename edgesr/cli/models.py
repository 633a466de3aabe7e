"""`edgesr models`: the list, and the card of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesr.errors import BadConfig, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from edgesr.models.cards import Card
    from edgesr.models.find import ModelInfo

group = typer.Typer(help="The bundled models, and the known teachers.", invoke_without_command=True)


@group.callback()
def models(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON on stdout.")
    ] = False,
) -> None:
    """List the bundled models and the known teachers; `models show NAME` says all about one."""
    if context.invoked_subcommand:
        if as_json:
            raise BadConfig("--json goes behind the name: edgesr models show NAME --json")
        return
    from edgesr.models.find import describe, describe_teachers

    bundled = describe()
    if as_json:
        import dataclasses
        import json

        typer.echo(json.dumps([dataclasses.asdict(model) for model in bundled], indent=2))
    else:
        _print_list(bundled, describe_teachers())


@group.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model, as `models` lists it.")],
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the card as JSON.")
    ] = False,
    recipe: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Print the recipe of its N-th training run, as TOML."
        ),
    ] = None,
) -> None:
    """The card of a model: figures, training, data and licences, limits."""
    from edgesr.models import cards
    from edgesr.models.find import check, describe, describe_teachers

    if as_json and recipe is not None:
        raise BadConfig("--recipe prints TOML and --json the card: choose one of them")
    plain = name.removesuffix(":int8")
    bundled = {model.name: model for model in describe()}
    teachers = {model.name: model for model in describe_teachers()}
    if plain in bundled:
        check(name)  # there may be no int8 file
        card = cards.read(plain)
        if recipe is not None:
            typer.echo(_recipe(card, recipe), nl=False)
        elif as_json:
            _print_json(bundled[plain], cards.dumps(card))
        else:
            _print_card(card, bundled[plain].default)
    elif name in teachers:
        if recipe is not None:
            raise BadConfig(f"'{name}' was not trained by EdgeSR: there is no recipe of it")
        _show_teacher(teachers[name], as_json)
    else:
        raise UnknownName("model", name, {*bundled, *teachers})


def _recipe(card: Card, number: int) -> str:
    from edgesr import config
    from edgesr.training.recipe import Recipe

    if number > len(card.training):
        raise BadConfig(f"'{card.name}' was trained in {len(card.training)} run(s), not {number}")
    source = f"recipe {number} of {card.name}"
    return config.dumps(config.from_dict(Recipe, card.training[number - 1].recipe, source))


def _print_json(model: ModelInfo, card: str) -> None:
    import dataclasses
    import json

    typer.echo(json.dumps({**dataclasses.asdict(model), **json.loads(card)}, indent=2))


def _print_list(bundled: list[ModelInfo], teachers: list[ModelInfo]) -> None:
    from rich.console import Console
    from rich.markup import escape

    from edgesr.models.cards import SETS
    from edgesr.report.table import figures_table

    head = ("model", "params", "MACs", "halo", *SETS, "files")
    rows = [
        (
            f"{model.name}{' (default)' if model.default else ''}",
            _short(model.params / 1e3, "k"),
            _short(model.macs_320x180 / 1e9, "G"),
            f"{model.halo} px",
            *(f"{model.psnr_y[s]:.2f}" if s in model.psnr_y else "–" for s in SETS),
            _forms(model) if model in bundled else "teacher",
        )
        for model in (*bundled, *teachers)
    ]
    console = Console(highlight=False)
    console.print(figures_table(head, rows))
    console.print("MACs for a 320×180 picture; PSNR-Y in dB of the fp32 file. More: "
                  "edgesr models show NAME", highlight=False, soft_wrap=True)  # fmt: skip
    for model in (*bundled, *teachers):
        if model.about:
            console.print(f"{escape(model.name)}: {escape(model.about)}", soft_wrap=True)


def _short(value: float, unit: str) -> str:
    """Three or more digits, no more than the table has room for."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _forms(model: ModelInfo) -> str:
    forms = {"onnx_fp32": "fp32", "onnx_int8": "int8"}
    return " ".join(form for kind, form in forms.items() if model.files[kind]) or "weights"


def _print_card(card: Card, default: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from edgesr.models import cards
    from edgesr.report.table import figures_table

    console = Console(highlight=False)
    title = f"{card.name}{' (default)' if default else ''}: {card.about}"
    console.print(Text(title, style="bold"))
    _section(console, "", [card.purpose, f"{cards.size_line(card)}."], "")
    _section(console, "Files", [": ".join(row) for row in cards.file_rows(card)])
    if card.has_int8:
        _section(console, "", [f"-m {card.name} is fp32, -m {card.name}:int8 is int8"], "")
    console.print(Text("\nQuality (measured)", style="bold"))
    console.print(figures_table(cards.QUALITY_HEAD, cards.quality_rows(card)))
    console.print(Text(f"dB, means over the set; {card.convention}", style="dim"))
    for number in range(1, len(card.training) + 1):
        _section(console, "Training" if number == 1 else "", [cards.run_line(card, number)], "")
        for line in cards.commands(card, number):
            console.print(Text(f"  $ {line}"), soft_wrap=True)
    _section(console, "Trained on", [cards.source_line(s) for s in card.trained_on])
    _section(console, "Credits", card.credits)
    _section(console, "Limits", card.limits)
    _section(console, "Where it fails", [cards.fail_line(f) for f in card.fails])
    _section(console, "Notes", card.notes)


def _section(console: Console, title: str, lines: Any, mark: str = "·") -> None:
    """Lines with a mark in front, wrapped behind it."""
    from rich.table import Table
    from rich.text import Text

    if title and lines:
        console.print(Text(f"\n{title}", style="bold"))
    for line in lines:
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(mark, Text(line))
        console.print(row)


def _show_teacher(model: ModelInfo, as_json: bool) -> None:
    import dataclasses
    import json

    from edgesr.models.table import TEACHERS

    teacher = next(t for t in TEACHERS if t.name == model.name)
    if as_json:
        more = {"credit": teacher.credit, "published_psnr_y": teacher.published}
        typer.echo(json.dumps({**dataclasses.asdict(model), **more}, indent=2))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(f"{model.name} (teacher, not bundled): {model.about}", style="bold"))
    figures = " / ".join(f"{db:.2f}" for db in teacher.published.values())
    lines = [
        f"{model.params:,} parameters, {model.macs_320x180 / 1e9:.2f} G multiply-adds for a "
        f"320×180 picture, halo {model.halo} px, ×{model.scale}",
        f"PSNR-Y on {' / '.join(teacher.published)}: {figures} dB, as published" if figures else "",
        teacher.credit,
    ]
    _section(console, "", [line for line in lines if line], "")
