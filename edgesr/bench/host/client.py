"""From here: the benchmark sent to the board, started, listened to, and taken away again."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from edgesr.bench.config import BenchConfig
from edgesr.bench.frames import Frames, load_frames
from edgesr.bench.host.pack import pack
from edgesr.bench.host.record import Lines, record
from edgesr.bench.run import IDLE_SHARE, MAX_IDLE_S, WARM_UP_SHARE, WHOLE_SHARE
from edgesr.bundle import manifest
from edgesr.errors import BadConfig, EdgeSRError, Impossible
from edgesr.remote.ssh import Board, Cut, Say
from edgesr.report.record import Report, complete, dumps

T = TypeVar("T")

AGENT = Path(str(__file__)).parents[2] / "remote" / "bench_agent.py"
PAUSE_S = 3.0  # before a cut connection is tried again
RETRIES = 5  # in a row without a new line
_OLDEST_PYTHON = (3, 8)


@dataclass(frozen=True)
class Target:
    """Where to measure: `host` as ssh knows it, folders of bundles there.

    Without `bundle` it is the only one in ~/edgesr. The student of `teacher_bundle` is then
    the teacher; else the bundle's own teacher is. `own_size`: pictures of the bundle's tile,
    whatever the configuration says. `ssh_config` stands in for the user's.
    """

    host: str
    bundle: str | None = None
    teacher_bundle: str | None = None
    runtime: str = "auto"
    own_size: bool = True
    ssh_config: Path | None = None


@dataclass(frozen=True)
class Job:
    """What the board gets, and what the report says of it; `run` names it there."""

    request: dict[str, Any]
    files: list[tuple[str, bytes]]
    about: dict[str, Any]
    frames: Frames

    @property
    def run(self) -> str:
        """The same for the same request by the same program."""
        digest = hashlib.sha256()
        for _, data in self.files:
            digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()[:16]


def bench_on(
    target: Target, config: BenchConfig, say: Say = lambda line: None,
    frames: Callable[[int, int], Frames] = load_frames,
) -> Report:  # fmt: skip
    """Measure a bundle's student against its teacher on the board; the report of a local run.

    Of `config` the models and the teacher are the bundle's own. `say` gets what goes on.
    Raises `EdgeSRError` (not reachable, no bundle, cut for good, ended there), `Impossible`
    (no python3, numpy, runtime or required meter there), `BadConfig` for what is no host.
    """
    with Board(target.host, target.ssh_config) as board:
        link = _Link(board, say)
        job = _job(target, config, _look(link, target), frames)
        lines = Lines(say)
        try:
            begun = link.again(lambda: link.ask("start", job.run, files=job.files))
            if not begun["begun"]:
                say(f"{target.host}: the same benchmark was begun before; its records are taken")
            link.follow(job.run, lines)
        except Cut:
            raise  # it goes on there, and the same command finds it
        except BaseException:
            link.stop(job.run)
            raise
        link.stop(job.run)
    lines.raise_error(target.host)
    request = job.request
    height, width = request["size"]
    settings = {
        "width": width, "height": height, "batch": 1, "duration_s": config.duration_s,
        "repetitions": config.repetitions, "order": "ABBA",
        **({} if config.fps is None else {"fps": config.fps}),
    }  # fmt: skip
    found = record(
        lines,
        settings=settings,
        about=job.about,
        inputs={"source": job.frames.source, "pictures": list(job.frames.names)},
        networks=request["networks"],
        created_utc=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
        metered=config.measures_power,
    )
    return complete(json.loads(dumps(found)))


# ---------------------------------------------------------------- the request


def _look(link: _Link, target: Target) -> list[tuple[str, manifest.Manifest]]:
    """The folders and manifests of the bundles; the one to measure first."""
    names = [name for name in (target.bundle, target.teacher_bundle) if name]
    if target.teacher_bundle and not target.bundle:
        raise BadConfig("--teacher-bundle needs --bundle beside it")
    seen = link.again(lambda: link.ask("look", bundles=names))
    version = tuple(int(n) for n in seen["python"].split(".")[:2])
    if version < _OLDEST_PYTHON:
        raise Impossible(
            f"{target.host} has Python {seen['python']}, and a bundle runs from 3.8 on: "
            "update to JetPack 5 or newer"
        )
    return [(found["folder"], _manifest(target.host, found)) for found in seen["bundles"]]


def _manifest(host: str, found: dict[str, str]) -> manifest.Manifest:
    with tempfile.TemporaryDirectory(prefix="edgesr-") as folder:
        (Path(folder) / manifest.FILE).write_text(found["manifest"], encoding="utf-8")
        try:
            return manifest.read(Path(folder))
        except BadConfig as e:
            why = str(e).replace(folder, found["folder"])
            raise BadConfig(f"{host}: {why}") from e


def _job(
    target: Target,
    config: BenchConfig,
    bundles: list[tuple[str, manifest.Manifest]],
    load: Callable[[int, int], Frames] = load_frames,
) -> Job:
    folder, about = bundles[0]
    networks = _networks(bundles)
    tile = about.models["student"].tile
    height, width = tile if target.own_size else (config.height, config.width)
    frames = load(width, height)
    request = {
        "networks": networks,
        "size": [height, width],
        "runtime": target.runtime,
        "threads": config.threads,
        "duration_s": config.duration_s,
        "repetitions": config.repetitions,
        "fps": config.fps,
        "warm_up_s": WARM_UP_SHARE * config.duration_s,
        "idle_s": min(MAX_IDLE_S, IDLE_SHARE * config.duration_s),
        "whole_s": WHOLE_SHARE * config.duration_s,
        "power": config.measures_power,
        "require_power": config.require_power,
    }
    files = [
        ("bench.pyz", pack()),
        ("request.json", json.dumps(request, sort_keys=True).encode()),
        ("frames.bin", b"".join(picture.tobytes() for picture in frames.pictures)),
    ]
    host = {
        "name": target.host.rpartition("@")[2],
        "bundle": Path(folder).name,
        "target": about.target,
        "edgesr": about.edgesr,
    }
    return Job(request, files, host, frames)


def _networks(bundles: list[tuple[str, manifest.Manifest]]) -> list[dict[str, Any]]:
    """Teacher first, as in every benchmark; the bundle to measure is the last one's."""
    folder, about = bundles[0]
    if "student" not in about.models:
        raise BadConfig(f"the bundle in {folder} has no student: export one")
    student = {"bundle": folder, "role": "student", "as": "student"}
    found = [student]
    if len(bundles) > 1:
        found = [{"bundle": bundles[1][0], "role": "student", "as": "teacher"}, student]
    elif "teacher" in about.models:
        found = [{"bundle": folder, "role": "teacher", "as": "teacher"}, student]
    models = dict(bundles)
    names = [models[asked["bundle"]].models[asked["role"]].name for asked in found]
    if len(set(names)) < len(names):
        names = [f"{name} ({asked['as']})" for name, asked in zip(names, found, strict=True)]
    return [{**asked, "name": name} for asked, name in zip(found, names, strict=True)]


# ---------------------------------------------------------------- the connection


@dataclass
class _Link:
    board: Board
    say: Say
    connected: bool = False

    def ask(
        self,
        do: str,
        run: str = "",
        *,
        files: Sequence[tuple[str, bytes]] = (),
        hear: Callable[[bytes], None] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """One request to the agent."""
        request = {"do": do, "run": run, "files": [(n, len(d)) for n, d in files], **more}
        payload = [data for _, data in files]
        answer = self.board.ask(request, payload, agent=AGENT, hear=hear)
        self.connected = True
        return answer

    def again(self, do: Callable[[], T], left: int = RETRIES) -> T:
        """`do`, tried again after a cut; a board that never answered is not waited for."""
        while True:
            try:
                return do()
            except Cut as e:
                self.connected = self.connected or type(e) is Cut
                left -= 1
                if not self.connected or left < 0:
                    raise
                self.say(f"{e}; trying again")
                time.sleep(PAUSE_S)

    def follow(self, run: str, lines: Lines) -> None:
        """Listen until the benchmark has ended; a cut connection goes on where it was."""
        left = RETRIES
        while not lines.ended:
            have = len(lines.rows)
            try:
                answer = self.ask("follow", run, hear=lines.hear, start=have)
            except Cut as e:
                left = RETRIES if len(lines.rows) > have else left - 1
                if left < 0:
                    raise Cut(
                        f"{e}; the benchmark goes on there: the same command fetches it"
                    ) from e
                self.say(f"{e}; trying again")
                time.sleep(PAUSE_S)
                continue
            if not lines.ended:
                last = f" (its last words: {answer['log']})" if answer["log"] else ""
                raise EdgeSRError(
                    f"{self.board.host}: the benchmark was ended there before it was done{last}; "
                    "run it again"
                )

    def stop(self, run: str) -> None:
        """End it there and leave nothing; what cannot be reached any more stays."""
        try:
            self.again(lambda: self.ask("stop", run), left=1)  # Ctrl-C ended ssh, too
        except EdgeSRError as e:
            self.say(f"{e}; what it left there goes with the next benchmark after a day")
