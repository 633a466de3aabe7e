"""`deploy`: a bundle onto a board, its engines built and verified there, the report back."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgesr.atomic import write_text
from edgesr.bundle import manifest
from edgesr.errors import EdgeSRError, Impossible, WouldOverwrite
from edgesr.remote import send
from edgesr.remote.ssh import AGENT, Board, Cut, Say

T = TypeVar("T")

REPORT = "report.json"
FORMAT = "edgesr-deployment-1"
PAUSE_S = 3.0  # before a cut connection is tried again
_CHANGED, _LOST, _IMPOSSIBLE = 1, 3, 4
_OLDEST_PYTHON = (3, 8)  # of run.py


@dataclass(frozen=True)
class Report:
    """What was done on `host`; every figure was measured there or is None.

    `built` maps engines to what build.py says of them (empty where ONNX Runtime runs the
    files), `verified` is what run.py --verify found, `exit_code` its exit code.
    """

    host: str
    folder: str
    board: dict[str, str]
    sent_bytes: int
    kept_bytes: int
    built: dict[str, Any]
    build_s: float | None
    verified: dict[str, Any]
    verify_s: float | None
    exit_code: int
    logs: dict[str, str]
    note: str = ""

    @property
    def passed(self) -> bool:
        """No byte changed on the way and no decibel lost on the board."""
        return self.exit_code == 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the logs."""
        data = dataclasses.asdict(self)
        del data["logs"]
        return dict(data, format=FORMAT, passed=self.passed)

    def lines(self) -> list[str]:
        """In words, for the terminal."""
        about = self.board.get("model") or self.board["machine"]
        text = [f"{self.host}: {about}, {self.folder}"]
        for name, engine in sorted(self.built.items()):
            since = f", since {engine['reason']}" if engine["reason"] else ""
            size = engine["plan_bytes"] / 1e6
            text.append(f"built    {name}: {engine['precision']}, {size:.2f} MB{since}")
        for hop in self.verified.get("hops", ()):
            found, lost = hop["difference"], "; ".join(hop["failures"])
            shown = f"{found['psnr_db']:.1f} dB" if found else "no output"
            line = f"LOST     {hop['name']}: {lost}" if lost else f"ok       {hop['name']}: {shown}"
            text.append(line)
        text += [f"CHANGED  {line}" for line in self.verified.get("changed", ())]
        return [*text, f"note     {self.note}"] if self.note else text


def deploy(
    bundle: Path,
    host: str,
    *,
    folder: str | None = None,
    say: Say = lambda line: None,
    out: Path | None = None,
    config: Path | None = None,
    build_args: Sequence[str] = (),
    retries: int = 3,
) -> Report:
    """Copy `bundle` to `host` (as ssh knows it), build and verify it there, fetch the report.

    `folder` is where it goes there, by default `edgesr/NAME` in the home folder; `out` gets
    report.json and the logs here, by default NAME@HOST beside the bundle. `config` stands in
    for the user's ssh configuration, `build_args` go to build.py, `say` gets progress. After a
    cut it tries again `retries` times; another call goes on from there.

    Raises `EdgeSRError` (unreachable, refused, no room, build failed), `Impossible` (no python3
    or TensorRT there), `BadConfig` (no bundle), `WouldOverwrite`.
    """
    bundle = bundle.absolute()
    args = None if manifest.read(bundle).tensorrt is None else build_args
    out = out or _beside(bundle, host)
    where = folder or f"edgesr/{bundle.name}"
    _refuse_foreign(out)
    attempt = _Attempts(retries, say)
    with Board(host, config) as board:
        sent = attempt(lambda: send.copy(board, bundle, where, say))

        def step(name: str, argv: list[str]) -> dict[str, Any]:
            done = attempt(lambda: _step(board, where, name, argv, say))
            write_text(out / f"{name}.log", done["log"])
            return done

        steps = _build_and_verify(host, step, args, verify=_runs(sent.board["python"]))
    report = _report(host, sent, steps)
    write_text(out / REPORT, json.dumps(report.to_json(), indent=1) + "\n")
    say(f"report and logs: {out}")
    return report


def check(bundle: Path, host: str) -> None:
    """Raise what `deploy` can know before there is a bundle, without connecting.

    `BadConfig` for what is no host, `Impossible` without ssh here, `WouldOverwrite` when the
    report's place is taken.
    """
    Board(host).close()
    _refuse_foreign(_beside(bundle.absolute(), host))


def _build_and_verify(
    host: str,
    step: Callable[[str, list[str]], dict[str, Any]],
    build_args: Sequence[str] | None,
    *,
    verify: bool,
) -> dict[str, dict[str, Any]]:
    """The answers of the steps; `build_args` None builds nothing."""
    steps = {}
    if build_args is not None:
        steps["build"] = step("build", ["python3", "-u", "build.py", "--json", *build_args])
        _refuse(host, "build.py", steps["build"], allowed=(0,))
    if verify:
        steps["verify"] = step("verify", ["python3", "-u", "run.py", "--verify", "--json"])
        _refuse(host, "run.py --verify", steps["verify"], allowed=(0, _CHANGED, _LOST))
    return steps


class _Attempts:
    """Tries something again after a cut; `retries` in all."""

    def __init__(self, retries: int, say: Say) -> None:
        self._left, self._say = retries, say
        self._connected = False

    def __call__(self, do: Callable[[], T]) -> T:
        while True:
            try:
                result = do()
            except Cut as e:
                # A board that never answered is not waited for.
                self._connected = self._connected or type(e) is Cut
                if not self._connected or self._left == 0:
                    again = "; another deployment goes on from here" if self._connected else ""
                    raise EdgeSRError(f"{e}{again}") from e
                self._left -= 1
                self._say(f"{e}; trying again")
                time.sleep(PAUSE_S)
            else:
                self._connected = True
                return result


def _step(board: Board, folder: str, name: str, argv: list[str], say: Say) -> dict[str, Any]:
    """A step's answer. build.py knows by itself what is current; verify is not repeated."""
    say(f"{board.host}: {' '.join(argv)}")
    answer = board.ask(
        {"do": "step", "folder": folder, "name": name, "argv": argv,
         "source": AGENT.read_text(encoding="utf-8"), "once": name == "verify"},
        say=lambda line: say(f"  {line}"),
    )  # fmt: skip
    if not answer["repeated"]:
        say("  done before, and nothing has changed since")
    if answer["code"] is None:
        raise EdgeSRError(f"{board.host}: {name} was ended there; deploying again begins it anew")
    return answer


def _refuse(host: str, what: str, step: dict[str, Any], allowed: tuple[int, ...]) -> None:
    """Raise what the script said, unless its exit code is one of `allowed`."""
    if step["code"] in allowed and (step["code"] == 0 or _json(step["out"])):
        return
    lines = [line for line in step["log"].splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit code {step['code']}"
    kind = Impossible if step["code"] == _IMPOSSIBLE else EdgeSRError
    raise kind(f"{host}: {last if last.startswith(what.split()[0]) else f'{what}: {last}'}")


def _runs(python: str) -> bool:
    """Whether run.py does on that Python; JetPack 4's only builds and times."""
    return tuple(int(n) for n in python.split(".")[:2]) >= _OLDEST_PYTHON


def _report(host: str, sent: send.Sent, steps: dict[str, dict[str, Any]]) -> Report:
    none = {"out": "{}", "seconds": None, "code": 0}
    build, verify = steps.get("build", none), steps.get("verify", none)
    python = sent.board["python"]
    note = "" if "verify" in steps else f"not verified: run.py needs Python 3.8, there is {python}"
    return Report(
        host=host,
        folder=sent.folder,
        board=sent.board,
        sent_bytes=sent.sent_bytes,
        kept_bytes=sent.kept_bytes,
        built=_json(build["out"]),
        build_s=build["seconds"],
        verified=_json(verify["out"]),
        verify_s=verify["seconds"],
        exit_code=verify["code"],
        logs={name: step["log"] for name, step in steps.items()},
        note=note,
    )


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _refuse_foreign(out: Path) -> None:
    """Only reports of earlier deployments are written over."""
    ours = {REPORT, "build.log", "verify.log"}
    if out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - ours):
        raise WouldOverwrite(f"{out} exists and is no report of a deployment; name another")


def _beside(bundle: Path, host: str) -> Path:
    return bundle.with_name(f"{bundle.name}@{_label(host)}")


def _label(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", host.rpartition("@")[2])
