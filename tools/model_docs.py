"""Write docs/models.md from the cards of the bundled models.

    python tools/model_docs.py [FILE]

`tools/add_model.py` writes the page too; a test holds it equal to what the cards give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: its neighbours are modules of the folder above
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgesr import atomic, resources
from edgesr.errors import BadModel, EdgeSRError
from edgesr.models import cards
from edgesr.models.cards import Card
from edgesr.models.table import DEFAULT
from edgesr.report.markdown import markdown_table

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
HEAD = """# Bundled models

*Written by `tools/model_docs.py` from the cards in `edgesr/models/zoo`; do not edit.*

```
edgesr models                          # this list
edgesr models show balanced            # a card on the terminal; --json for programs
edgesr upscale photo.png -m balanced   # fp32; -m NAME:int8 where a model has an int8 file
```
"""
READING = """
PSNR-Y in dB, means over Set5 / Set14 / B100, which no model was trained on; PSNR on RGB, SSIM and
bicubic's figures stand with each model. Convention: {convention}. MACs are multiply-adds for a
320×180 picture. Pictures of where a model fails are chosen by measure: of each kind the square of
{side} pixels with the largest error.
"""
STAGE_HEAD = ("stage", "steps", "rate", "batch", "crop", "loss")
_LOSS = ("pixel", "teacher", "frequency", "feature", "affinity", "perceptual", "adversarial")


def page(every: Iterable[Card]) -> str:
    """The whole page as Markdown: a table of all models, then a section each, cheapest first."""
    models = sorted(every, key=lambda c: (c.macs_320x180, c.name))
    sides = {fail.side for card in models for fail in card.fails}
    reading = READING.format(
        convention=models[0].convention, side=" or ".join(map(str, sorted(sides)))
    )
    return "\n".join([HEAD, _overview(models) + reading, *(_section(card) for card in models)])


def _overview(models: list[Card]) -> str:
    head = ("model", "parameters", "MACs", "halo", "fp32 dB", "int8 dB", "fp32 kB", "int8 kB")
    return markdown_table(head, [_overview_row(card) for card in models])


def _overview_row(card: Card) -> list[str]:
    sets = [q for name in cards.SETS if (q := card.quality.get(name))]
    int8 = [q.int8_psnr_y for q in sets if q.int8_psnr_y is not None]
    sizes = [card.file_bytes.get(suffix) for suffix in ("fp32.onnx", "int8.ort.onnx")]
    return [
        f"[{card.name}](#{card.name}){' (default)' if card.name == DEFAULT else ''}",
        f"{card.params / 1e3:,.1f} k",
        f"{card.macs_320x180 / 1e9:.2f} G",
        f"{card.halo} px",
        " / ".join(f"{q.psnr_y:.2f}" for q in sets) or "–",
        " / ".join(f"{db:.2f}" for db in int8) or "–",
        *("–" if size is None else f"{size / 1e3:,.0f}" for size in sizes),
    ]


def _section(card: Card) -> str:
    parts = [
        f"## {card.name}\n\n{_sentence(card.about)} {card.purpose}\n\n{cards.size_line(card)}.\n",
        markdown_table(("file", "size and use"), cards.file_rows(card), words=True),
        f"### {card.name}: quality\n",
        markdown_table(cards.QUALITY_HEAD, cards.quality_rows(card)),
        f"### {card.name}: training\n",
        *(_run(card, number) for number in range(1, len(card.training) + 1)),
        _list("Trained on (`DIR` above):", [cards.source_line(s) for s in card.trained_on]),
        _list("Credits:", card.credits),
        f"### {card.name}: limits\n",
        _list("", card.limits),
        _fails(card),
        _list("Notes:", card.notes),
    ]
    return "\n".join(part for part in parts if part)


def _sentence(about: str) -> str:
    return about[:1].upper() + about[1:] + ("" if about.endswith(".") else ".")


def _run(card: Card, number: int) -> str:
    shell = "\n".join(cards.commands(card, number))
    stages = markdown_table(STAGE_HEAD, _stage_rows(card.training[number - 1].recipe), words=True)
    return f"{cards.run_line(card, number)}\n\n```\n{shell}\n```\n\n{stages}"


def _stage_rows(recipe: dict[str, Any]) -> list[list[str]]:
    data = recipe["data"]
    rows = []
    for stage in recipe["stages"]:
        loss = stage.get("loss", {})
        terms = [f"{loss[term]:g} {term}" for term in _LOSS if loss.get(term)]
        norm = f" ({loss['norm']})" if "norm" in loss else ""
        rows.append([
            stage["kind"] + (f", {stage['method']}" if stage["kind"] == "prune" else ""),
            f"{stage['steps']:,}",
            f"{stage['lr']:g} → {stage['lr_end']:g}",
            str(stage.get("batch") or data["batch"]),
            f"{stage.get('patch') or data['patch']}²",
            " + ".join(terms) + norm,
        ])  # fmt: skip
    return rows


def _fails(card: Card) -> str:
    if not card.fails:
        return ""
    cases = ", ".join(fail.case for fail in card.fails)
    picture = f"![{card.name} where it fails: {cases}](models/{card.name}-fails.png)\n"
    lines = _list("", [cards.fail_line(fail) for fail in card.fails])
    return f"### {card.name}: where it fails\n\n{picture}\n{lines}"


def _list(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"- {line}\n" for line in lines)
    return f"{title}\n\n{items}" if title and items else items


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page; a line on stderr and exit code 1 or more where that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=PAGE, help="default: docs/models.md")
    path = parser.parse_args(arguments).file
    try:
        found = [cards.read(p.stem) for p in sorted(resources.zoo().glob("*.json"))]
        if not found:
            raise BadModel(f"no bundled model has a card in {resources.zoo()}")
        atomic.write_text(path, page(found))
    except EdgeSRError as e:
        print(f"model_docs: {e}", file=sys.stderr)
        raise SystemExit(e.exit_code) from e


if __name__ == "__main__":
    main()
