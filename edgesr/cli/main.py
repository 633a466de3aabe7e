"""The `edgesr` command: a thin skin, one file a command."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import edgesr
from edgesr.cli.bench import bench
from edgesr.cli.compress import compress
from edgesr.cli.devices import devices
from edgesr.cli.doctor import doctor
from edgesr.cli.evaluate import evaluate
from edgesr.cli.export import export
from edgesr.cli.models import group as models
from edgesr.cli.plan import plan
from edgesr.cli.train import train
from edgesr.cli.upscale import upscale
from edgesr.cli.verify import verify
from edgesr.errors import EdgeSRError, Impossible

INTERRUPTED = 130


class _Command(TyperCommand):
    """Shows flags in help without a type: `--json <bool>` reads as if a value had to follow."""

    def get_params(self, ctx: Any) -> Any:
        return _untyped(super().get_params(ctx))


class _Group(TyperGroup):
    """Ends every command the documented way, whoever calls it."""

    def get_params(self, ctx: Any) -> Any:
        return _untyped(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EdgeSRError as e:
            typer.echo(f"edgesr: {e}", err=True)
            raise typer.Exit(e.exit_code) from e
        except MemoryError as e:
            typer.echo("edgesr: not enough memory; take smaller pictures or tiles", err=True)
            raise typer.Exit(Impossible.exit_code) from e
        except KeyboardInterrupt as e:
            typer.echo(f"edgesr: interrupted{f'; {e}' if str(e) else ''}", err=True)
            raise typer.Exit(INTERRUPTED) from e


def _untyped(params: Any) -> Any:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Distil and prune a super-resolution generator until it fits the edge device, "
    "export it, measure it, use it.",
)
for command in (compress, train, export, bench, upscale, evaluate, verify, plan, doctor):
    app.command(cls=_Command)(command)
app.add_typer(devices, name="devices", cls=_Group)
app.add_typer(models, name="models", cls=_Group)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgesr {edgesr.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="edgesr")
