"""One engine: current, or built from the best file and flags that this TensorRT takes."""

import os
import time
from typing import Any, Dict, List, Optional, Tuple, Union

from edgesr.board import cache
from edgesr.board.builder import PythonTensorRT
from edgesr.board.choice import attempts
from edgesr.board.facts import default_workspace, has_sparse_kernels
from edgesr.board.failed import Failed, NoTensorRT, say
from edgesr.board.trtexec import USUAL, Trtexec, find

Tool = Union[PythonTensorRT, Trtexec]


class Job:
    """What one engine is built from.

    `files` maps forms (`fp32`, `fp16`, `int8.trt`, `int8.trt-fp16`) to ONNX paths; a network
    of `open_shape` takes pictures up to `largest` (height, width). `network` (scale, halo) is
    kept beside the engine for whoever runs it.
    """

    def __init__(
        self,
        name: str,
        files: Dict[str, str],
        largest: Tuple[int, int],
        open_shape: bool,
        network: Dict[str, int],
    ) -> None:
        self.name, self.files, self.largest = name, files, largest
        self.open_shape, self.network = open_shape, network


class Settings:
    """How engines are built; `workspace_mb` 0 takes a share of what is free."""

    def __init__(
        self,
        engines: str,
        precision: str,
        facts: Dict[str, str],
        sparse: bool = False,
        workspace_mb: int = 0,
        force: bool = False,
        verbose: bool = False,
    ) -> None:
        self.engines, self.precision, self.facts = engines, precision, facts
        self.sparse, self.workspace_mb = sparse, workspace_mb
        self.force, self.verbose = force, verbose


def build(tool: Tool, job: Job, settings: Settings) -> Dict[str, Any]:
    """Build the engine unless it is current; returns its description.

    Raises Failed with every attempt's reason when none builds.
    """
    by_name = {os.path.basename(path): path for path in job.files.values()}
    names = {form: os.path.basename(path) for form, path in job.files.items()}
    tries = attempts(tool.version, tool.rtx, settings.precision, names)
    paths = {t["onnx"]: by_name[t["onnx"]] for t in tries}
    engine = os.path.join(settings.engines, job.name + ".engine")
    key = engine_key(tool, job, settings, paths)
    why = "--force" if settings.force else cache.stale(engine, key)
    if not why:
        built = cache.described(engine)
        fallen = ", since " + built["reason"] if built["reason"] else ""
        say(f"{job.name}: current, {built['precision']}{fallen}")
        return built
    say(f"{job.name}: building ({why})")
    start = time.time()
    attempt, plan, found, fell_back = first_that_builds(
        tool, tries, paths, options_of(tool, job, settings)
    )
    built = dict(found, key=key, onnx=attempt["onnx"], precision=attempt["precision"])
    built.update(job.network, reason=fell_back, build_s=round(time.time() - start, 2))
    cache.keep(engine, plan, built)
    timed = built.get("timing")
    words = f", {timed['median_ms']:g} ms a tile" if timed else ""
    words += ", since " + fell_back if attempt["why"] else ""
    say(
        f"{job.name}: {attempt['precision']}, {len(plan) / 1e6:.2f} MB, "
        f"{built['build_s']:.1f} s{words}"
    )
    return built


def engine_key(tool: Tool, job: Job, settings: Settings, paths: Dict[str, str]) -> Dict[str, Any]:
    """All that the engine depends on: another value of any of it means another engine."""
    key: Dict[str, Any] = dict(settings.facts)
    key.update(
        precision=settings.precision,
        sparse_weights=settings.sparse,
        tensorrt=tool.name,
        largest=list(job.largest),
    )
    for onnx, path in paths.items():
        key["sha256 of " + onnx] = cache.sha256_of(path)
    return key


def options_of(tool: Tool, job: Job, settings: Settings) -> Dict[str, Any]:
    """What `build_plan` takes."""
    capability = settings.facts["compute_capability"]
    if settings.sparse and not has_sparse_kernels(capability):
        say(f"  2:4: a GPU of compute capability {capability} has no sparse kernels")
    timings = "timing-{}-{}.cache".format(tool.name.replace(" ", "-"), capability or "unknown")
    return {
        "workspace": settings.workspace_mb << 20 if settings.workspace_mb else default_workspace(),
        "largest": job.largest,
        "open_shape": job.open_shape,
        "sparse": settings.sparse,
        "verbose": settings.verbose,
        "timing_cache": os.path.join(settings.engines, timings),
    }


def first_that_builds(
    tool: Tool, tries: List[Dict[str, Any]], paths: Dict[str, str], options: Dict[str, Any]
) -> Tuple[Dict[str, Any], bytes, Dict[str, Any], str]:
    """(attempt, plan, what was found, why not the first choice)."""
    reasons: List[str] = []
    for attempt, after in zip(tries, [*tries[1:], None]):
        try:
            plan, found = tool.build_plan(paths[attempt["onnx"]], attempt, options)
        except NoTensorRT:
            raise  # no other file or flag changes that
        except Failed as error:
            reasons.append("{}: {}".format(attempt["precision"], error))
            if after is not None:
                say("  {}; trying {}".format(reasons[-1], after["precision"]))
        else:
            return attempt, plan, found, "; ".join(filter(None, [tries[0]["why"], *reasons]))
    raise Failed("; ".join(reasons))


def open_tool(kind: str, module: str, trtexec: Optional[str], l4t: str) -> Tool:
    """TensorRT's Python module, or trtexec: `kind` is auto, python or trtexec.

    auto is trtexec on JetPack 4 (L4T 32), whose Python cannot run the engines anyway, and
    where there is no module; else the module. Raises NoTensorRT when there is neither.
    """
    path = find(trtexec)
    if kind == "trtexec" or (kind == "auto" and path and l4t.startswith("32.")):
        if path is None:
            raise NoTensorRT(f"no trtexec on PATH nor at {USUAL}: name it with --trtexec")
        return Trtexec(path)
    try:
        return PythonTensorRT(module)
    except NoTensorRT as error:
        if kind == "python" or path is None:
            raise
        say(f"{error}\nbuilding with {path} instead")
        return Trtexec(path)
