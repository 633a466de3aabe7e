"""An engine built and timed by trtexec, where TensorRT has no Python here.

JetPack 4's boards have it in /usr/src/tensorrt/bin. One call builds, saves the plan and times
it for some seconds. Sources: sampleOptions.cpp of NVIDIA/TensorRT 8.2, the --help of 10.6, and
the list of options that 11 took away (--fp16, --int8, --best).
"""

import os
import re
import shutil
import subprocess
import sys
from typing import Any, Dict, List, Optional, Tuple

from edgesr.board.builder import LADDER_STEPS, MEMORY_WORDS
from edgesr.board.choice import FLAGS_GONE_FROM, OLDEST, STRONGLY_TYPED_FROM
from edgesr.board.facts import SMALLEST_WORKSPACE
from edgesr.board.failed import Failed, NoTensorRT, say
from edgesr.board.sparse_log import from_lines

USUAL = "/usr/src/tensorrt/bin/trtexec"
POOLS_FROM = (8, 4)  # --memPoolSize; before that --workspace
_BANNER = re.compile(r"\[TensorRT v(\d+)\]")
_TIME = re.compile(r"GPU Compute Time: min = ([\d.]+) ms.*?median = ([\d.]+) ms")


class Trtexec:
    """The program at `path`; `version` is (major, minor), `name` what the engine's key holds."""

    rtx = False

    def __init__(self, path: str) -> None:
        self.path = path
        done = _run([path, "--help"])
        banner = _BANNER.search(done[1])
        if banner is None:
            raise NoTensorRT(f"{path} does not say which TensorRT it is: {_last(done[1])}")
        self.version, full = version_of(int(banner.group(1)))
        self.name = f"trtexec {full}"
        if self.version < OLDEST:
            raise NoTensorRT(f"{path}: TensorRT {full} is older than 8.2 (JetPack 4.6.1)")

    def build_plan(
        self, path: str, attempt: Dict[str, Any], options: Dict[str, Any]
    ) -> Tuple[bytes, Dict[str, Any]]:
        """(plan, what was found), as `edgesr.board.builder.build_plan`; found has `timing` too.

        `options["open_shape"]` says that the network takes pictures up to `largest`.
        """
        options = dict(options)
        plan_path = "{}.{}.plan".format(options["timing_cache"], os.getpid())
        try:
            for _ in range(LADDER_STEPS):
                code, log = _run(self.command(path, plan_path, attempt, options))
                if options["verbose"]:
                    print(log, file=sys.stderr)
                if code == 0 and os.path.isfile(plan_path):
                    with open(plan_path, "rb") as file:
                        return file.read(), _found(log, options)
                if not MEMORY_WORDS.search(log) or options["workspace"] // 2 < SMALLEST_WORKSPACE:
                    break
                options["workspace"] //= 2
                say("  out of memory; trying {} MiB".format(options["workspace"] >> 20))
        finally:
            if os.path.exists(plan_path):
                os.remove(plan_path)
        raise Failed(f"{self.name} could not build {os.path.basename(path)}: {_last(log)}")

    def command(
        self, onnx: str, plan: str, attempt: Dict[str, Any], options: Dict[str, Any]
    ) -> List[str]:
        """The command line for this version."""
        mib = options["workspace"] >> 20
        words = [self.path, "--onnx=" + onnx, "--saveEngine=" + plan]
        pool = f"--memPoolSize=workspace:{mib}"
        words.append(pool if self.version >= POOLS_FROM else f"--workspace={mib}")
        words += ["--" + flag.lower() for flag in attempt["flags"]]
        if attempt["precision"] == "fp32":
            words.append("--noTF32")
        typed = "STRONGLY_TYPED" in attempt["network"]
        if typed and STRONGLY_TYPED_FROM <= self.version < FLAGS_GONE_FROM:
            words.append("--stronglyTyped")
        if options["sparse"]:
            words += ["--sparsity=enable", "--verbose"]
        if options["open_shape"]:
            height, width = options["largest"]
            middle = (max(1, height // 2), max(1, width // 2))
            shapes = (("min", (1, 1)), ("opt", middle), ("max", (height, width)))
            words += ["--{}Shapes=input:1x3x{}x{}".format(name, *size) for name, size in shapes]
        return [*words, "--timingCacheFile=" + options["timing_cache"]]


def find(path: Optional[str] = None) -> Optional[str]:
    """Where trtexec is: `path` if given, else on PATH, else where JetPack puts it."""
    if path:
        return path
    return shutil.which("trtexec") or (USUAL if os.access(USUAL, os.X_OK) else None)


def version_of(number: int) -> Tuple[Tuple[int, int], str]:
    """8201 → ((8, 2), "8.2.1"), 100300 → ((10, 3), "10.3.0"): the digits grew with 10."""
    unit = 10000 if number >= 100000 else 1000
    major, rest = divmod(number, unit)
    minor, patch = divmod(rest, 100)
    return (major, minor), f"{major}.{minor}.{patch}"


def _found(log: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """What the log of a build says besides."""
    found: Dict[str, Any] = {"workspace_bytes": options["workspace"]}
    time = _TIME.search(log)
    if time:
        found["timing"] = {
            "by": "trtexec, GPU compute time of one tile",
            "min_ms": float(time.group(1)),
            "median_ms": float(time.group(2)),
        }
    if options["sparse"]:
        sparse = from_lines(log.splitlines())
        found["sparse_layers"] = sparse.facts()
        say("  " + sparse.words())
    return found


def _run(command: List[str]) -> Tuple[int, str]:
    """(exit code, stdout and stderr together). Raises NoTensorRT when it does not start."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = process.communicate()[0]
    except OSError as error:
        raise NoTensorRT(f"{command[0]}: {error.strerror}") from error
    return process.returncode, output.decode("utf-8", "replace")


def _last(log: str) -> str:
    """The errors of a log on one line, or its last words."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line]
    return " ".join(errors or lines[-1:])[-400:] or "no reason given"
