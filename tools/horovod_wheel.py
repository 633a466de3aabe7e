"""Build the Horovod wheel for this Python and this torch, once, and keep it.

Horovod 0.28.1 (June 2023) is the last release and its sdist does not build on torch >= 2.1
as it stands: torch wants C++17 where two CMakeLists.txt ask for C++14 (mended upstream in
horovod/horovod#3998, never released), and its bundled Gloo asks for a CMake older than 3.5,
which CMake >= 4 refuses unless CMAKE_POLICY_VERSION_MINIMUM says otherwise.

    python tools/horovod_wheel.py            build if need be, print the wheel's path
    python tools/horovod_wheel.py --install  ... and install it into this Python

The wheel is kept in ${XDG_CACHE_HOME:-~/.cache}/edgesr/wheels/<torch>-<python>-<platform>/.
Needs a C++ compiler, make, and torch and numpy in this Python; CMake comes from pip. For
GPUs set HOROVOD_GPU_OPERATIONS=NCCL first. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HOROVOD = "0.28.1"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
PATCHED = ("CMakeLists.txt", "horovod/torch/CMakeLists.txt")
BUILD_TOOLS = ("cmake>=3.26", "setuptools", "wheel", "packaging", "cloudpickle", "psutil", "pyyaml")
RUN_NEEDS = ("cloudpickle", "psutil", "pyyaml", "packaging")
SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
}
_STANDARD = re.compile(r"set\(CMAKE_CXX_STANDARD 14\)")
_TAIL_LINES = 30
_SAY_EVERY_S = 30.0


class BuildError(Exception):
    """The wheel cannot be built; the message says what to do."""


def say(line: str) -> None:
    """One progress line on stderr."""
    print(f"horovod: {line}", file=sys.stderr, flush=True)


def cache_key(torch: str, gpu_operations: str = "") -> str:
    """What a wheel fits: torch version, CPython tag and platform (and the GPU back end)."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[^A-Za-z0-9]", "_", sysconfig.get_platform())
    key = f"torch-{torch}-{python}-{platform}"
    return f"{key}-{gpu_operations.lower()}" if gpu_operations else key


def cache_folder(key: str) -> Path:
    """Where the wheel for `key` is kept; the folder need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgesr" / "wheels" / key


def patch(text: str, name: str) -> str:
    """The CMakeLists `text` with C++14 raised to C++17; `BuildError` unless it is there once."""
    patched, count = _STANDARD.subn("set(CMAKE_CXX_STANDARD 17)", text)
    if count != 1:
        raise BuildError(f"{name}: expected one CMAKE_CXX_STANDARD 14, found {count}")
    return patched


def jobs() -> int:
    """Parallel compilations: one a core, but 2 GiB of memory for each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // 2**31))


def pip(*arguments: str, env: dict[str, str] | None = None, log: Path) -> None:
    """Run pip, its output appended to `log`; a line now and then says that it lives."""
    command = [sys.executable, "-m", "pip", *arguments]
    started = said = time.monotonic()
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - said >= _SAY_EVERY_S:
                    said = time.monotonic()
                    say(f"  ... {said - started:.0f} s")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        tail = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        raise BuildError("\n".join([f"pip {arguments[0]} failed; the end of {log}:", *tail]))


def fetch_source(work: Path, env: dict[str, str], log: Path) -> Path:
    """Download, check, unpack and patch the sdist; returns the source folder."""
    say(f"downloading the {HOROVOD} sdist")
    how = ("--no-deps", "--no-binary", "horovod", "--no-build-isolation")
    pip("download", *how, "-d", str(work), f"horovod=={HOROVOD}", env=env, log=log)
    archive = work / f"horovod-{HOROVOD}.tar.gz"
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SDIST_SHA256:
        raise BuildError(f"{archive.name} is not the release that this patch was made for")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(work, filter="data")
        else:
            tar.extractall(work)
    source = work / f"horovod-{HOROVOD}"
    for name in PATCHED:
        path = source / name
        path.write_text(patch(path.read_text(), name))
    return source


def environment(tools: Path) -> dict[str, str]:
    """The build's environment: settings, and the build tools in `tools` found first."""
    env = dict(os.environ) | SETTINGS
    env["PATH"] = os.pathsep.join([str(tools / "bin"), env.get("PATH", os.defpath)])
    env["PYTHONPATH"] = str(tools)
    env["MAKEFLAGS"] = f"-j{jobs()}"
    return env


def check_machine() -> str:
    """The installed torch's version; `BuildError` when something is missing."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        raise BuildError("torch is not installed in this Python; run: make install") from None
    for program in ("c++", "make"):
        if not shutil.which(program):
            raise BuildError(f"no {program} here; install a C++ compiler and make")
    return torch


def build(target: Path) -> Path:
    """Build the wheel into the folder `target`; minutes of all cores."""
    target.mkdir(parents=True, exist_ok=True)
    log = target / "build.log"
    log.write_bytes(b"")
    with tempfile.TemporaryDirectory(prefix="edgesr-horovod-") as name:
        work = Path(name)
        tools, out = work / "tools", work / "out"
        say("installing CMake and the build tools into a temporary folder")
        pip("install", "--target", str(tools), *BUILD_TOOLS, log=log)
        env = environment(tools)
        source = fetch_source(work, env, log)
        say(f"compiling with {jobs()} jobs, about 6 minutes on two cores; log: {log}")
        how = ("--no-deps", "--no-build-isolation", "-w", str(out))
        pip("wheel", *how, str(source), env=env, log=log)
        built = next(out.glob("horovod-*.whl"))
        partial = target / f"{built.name}.partial"
        shutil.copyfile(built, partial)
        partial.replace(target / built.name)
    return target / built.name


def wheel(rebuild: bool = False) -> Path:
    """The cached wheel, built first when there is none (or `rebuild`)."""
    torch = check_machine()
    target = cache_folder(cache_key(torch, os.environ.get("HOROVOD_GPU_OPERATIONS", "")))
    cached = sorted(target.glob("horovod-*.whl"))
    if cached and not rebuild:
        say(f"using the cached {cached[0]}")
        return cached[0]
    say(f"building Horovod {HOROVOD} for torch {torch}")
    return build(target)


def install(path: Path) -> None:
    """Install the wheel and the few packages it runs with, not its declared dependencies."""
    log = path.parent / "install.log"
    log.write_bytes(b"")
    pip("install", *RUN_NEEDS, log=log)
    pip("install", "--no-deps", "--force-reinstall", str(path), log=log)
    say("installed")


def main() -> int:
    """Parse, build, perhaps install; the exit status."""
    parser = argparse.ArgumentParser(description="Build and cache the Horovod wheel.")
    parser.add_argument("--install", action="store_true", help="install it into this Python")
    parser.add_argument("--rebuild", action="store_true", help="build even if it is cached")
    options = parser.parse_args()
    try:
        path = wheel(options.rebuild)
        if options.install:
            install(path)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
