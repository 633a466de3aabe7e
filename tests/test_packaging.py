"""Wheel, sdist, editable install and bare checkout carry and find the same data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import missing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from edgesr.bundle.kit import closure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DATA = {"devices": "edgesr/_devices", "export": "edgesr/_export"}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The command's stdout; its stderr in the failure."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` but Python's caches, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    return folder


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


FIND = """
import json
from edgesr import resources
print(json.dumps([str(resources.folder("devices")), str(resources.folder("export")),
                  str(resources.zoo()), str(resources.presets()), str(resources.samples())]))
"""


def found_by(python: Path, cwd: Path, **environment: str) -> list[Path]:
    return [Path(p) for p in json.loads(run(python, "-c", FIND, cwd=cwd, **environment))]


def assert_same_data(folders: list[Path]) -> None:
    devices, export, zoo, presets, samples = folders
    assert tree(devices) == tree(ROOT / "devices")
    assert tree(export) == tree(ROOT / "export")
    assert tree(zoo) == tree(ROOT / "edgesr/models/zoo")
    assert tree(presets) == tree(ROOT / "edgesr/training/presets")
    assert tree(samples) == tree(ROOT / "edgesr/samples")


def test_the_folders_hold_what_they_should() -> None:
    assert any(name.endswith(".toml") for name in tree(ROOT / "devices"))
    assert {"build.py", "run.py"} <= set(tree(ROOT / "export"))
    zoo = tree(ROOT / "edgesr/models/zoo")
    assert {Path(name).suffix for name in zoo} >= {".onnx", ".safetensors"}
    assert any(name.endswith(".toml") for name in tree(ROOT / "edgesr/training/presets"))
    samples = tree(ROOT / "edgesr/samples")
    assert set(samples) == {"README.md", "chelsea.jpg"}
    assert sum(map(len, samples.values())) < 100_000  # every wheel carries them


def test_the_wheel_is_the_package_and_its_data_and_nothing_else(wheel: Path) -> None:
    inside = contents(wheel)
    info = next(name.split("/")[0] for name in inside if ".dist-info/" in name)
    package = {name for name in inside if not name.startswith(info)}
    assert {name.split("/")[0] for name in package} == {"edgesr"}

    expected = {f"edgesr/{name}": data for name, data in tree(ROOT / "edgesr").items()}
    for folder, place in DATA.items():
        expected |= {f"{place}/{name}": data for name, data in tree(ROOT / folder).items()}
    assert sorted(package) == sorted(expected)
    assert all(inside[name] == data for name, data in expected.items())

    entry = inside[f"{info}/entry_points.txt"].decode()
    assert re.search(r"^edgesr = edgesr\.cli\.main:main$", entry, re.MULTILINE)
    assert inside[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"Requires-Python: >=3.10" in inside[f"{info}/METADATA"]


def test_the_installed_wheel_finds_its_data(wheel: Path, bare: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=tmp_path)
    folders = found_by(python_of(bare), tmp_path, PYTHONPATH=str(target))
    assert all(target in folder.parents for folder in folders)
    assert_same_data(folders)


def test_a_wheel_from_the_sdist_is_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(tmp_path, filter="data")
        else:
            archive.extractall(tmp_path)
    source = next(tmp_path.glob("edgesr-*"))
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=source)
    assert contents(next(tmp_path.glob("*.whl"))) == contents(wheel)


def test_an_editable_install_finds_the_checkout(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path, cwd=ROOT)
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = run(python_of(environment), "-c", site, cwd=tmp_path).strip()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(packages)
    folders = found_by(python_of(environment), tmp_path)
    assert folders[:2] == [ROOT / "devices", ROOT / "export"]
    assert_same_data(folders)


def test_a_bare_checkout_finds_its_data(bare: Path, tmp_path: Path) -> None:
    folders = found_by(python_of(bare), tmp_path, PYTHONPATH=str(ROOT))
    assert folders[:2] == [ROOT / "devices", ROOT / "export"]
    assert_same_data(folders)


def test_the_makefile_takes_its_versions_from_pyproject() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    torch = re.findall(r'"torch==([^"]+)"', project)
    teachers = re.findall(r'^teachers = \["([^"]+)"\]$', project, re.MULTILINE)
    assert len(torch) == len(teachers) == 1
    plan = run("make", "-n", "-B", "install", "MAKEFLAGS=", cwd=ROOT)
    assert f"'torch=={torch[0]}+cpu'" in plan
    assert f"--no-deps '{teachers[0]}'" in plan
    assert teachers[0] in (ROOT / "edgesr/doctor.py").read_text()


def test_ruff_holds_what_goes_to_the_boards_to_their_python() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        versions = tomllib.load(file)["tool"]["ruff"]["per-file-target-version"]
    scripts = sorted((ROOT / "export").glob("*.py"))
    modules = closure(scripts, ROOT / "edgesr")
    taken = {path.relative_to(ROOT).as_posix() for path in modules if path.stem != "__init__"}
    kit = {path.relative_to(ROOT).as_posix() for path in scripts}
    old = {name for name in taken if name.startswith("edgesr/board/")} | {"export/build.py"}
    agents = {"edgesr/remote/agent.py", "edgesr/remote/bench_agent.py"}
    packed = {f"edgesr/bench/host/{name}.py" for name in ("program", "networks", "memory")}
    named = {*(taken - old), *kit, *agents, *packed, "edgesr/board/*.py"}
    assert set(versions) == named
    oldest = {*agents, "edgesr/board/*.py", "export/build.py"}
    assert {name for name in named if versions[name] == "py37"} == oldest
    assert {versions[name] for name in named - oldest} == {"py38"}


# glibc 2.28 and older: what wheels for JetPack 6 (Ubuntu 22.04) and 7 (24.04) may ask for.
AARCH64 = ("manylinux2014_aarch64", *(f"manylinux_2_{n}_aarch64" for n in range(17, 29)))
EM_AARCH64 = 183  # of the ELF header
COMPILED = {"numpy", "opencv-python-headless", "pillow", "onnxruntime"}


def board(python: str) -> dict[str, str]:
    """The environment of markers such as `python_version < '3.11'`, on a board."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": "aarch64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def wanted(requirements: list[str], python: str) -> list[str]:
    """Those that the board's environment asks for, without their markers.

    pip evaluates markers for the Python that runs it, also when it resolves for another.
    """
    kept = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(board(python)):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def resolved(requirements: list[str], python: str, target: Path) -> list[dict[str, Any]]:
    """What pip would install on such a board, from wheels alone; nothing is installed."""
    dry = ["install", "--dry-run", "--ignore-installed", "-q", "--report", "-", "--target",
           str(target)]  # fmt: skip
    platforms = [part for tag in AARCH64 for part in ("--platform", tag)]
    done = pip(*dry, "--only-binary=:all:", "--python-version", python, "--implementation", "cp",
               *platforms, *requirements)  # fmt: skip
    if done.returncode != 0:
        # Is it the requirements, or is there no index at all?
        if pip(*dry, "--no-deps", "tomli").returncode != 0:
            missing(f"pip reaches no package index: {done.stderr.strip().splitlines()[-1]}")
        pytest.fail(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return found


@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_the_base_install_resolves_to_wheels_on_a_board(python: str, tmp_path: Path) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        base = wanted(tomllib.load(file)["project"]["dependencies"], python)
    asked = list(base)
    for _ in range(3):
        found = resolved(asked, python, tmp_path)
        names = {canonicalize_name(item["metadata"]["name"]) for item in found}
        needs = [text for item in found for text in item["metadata"].get("requires_dist", [])]
        absent = {r for r in wanted(needs, python)
                  if canonicalize_name(Requirement(r).name) not in names}  # fmt: skip
        if not absent:
            break
        asked += sorted(absent)  # only the board's environment asks for these
    assert not absent
    assert {canonicalize_name(Requirement(r).name) for r in base} <= names
    assert ("tomli" in names) == (python == "3.10")
    for item in found:
        wheel = item["download_info"]["url"].rsplit("/", 1)[-1]
        name, _, _, tags = parse_wheel_filename(wheel)
        platforms = {tag.platform for tag in tags}
        assert platforms & {*AARCH64, "any"}, wheel
        assert name not in COMPILED or platforms <= {*AARCH64}, wheel
    download_and_look(found, python, tmp_path / "wheels")


def download_and_look(found: list[dict[str, Any]], python: str, folder: Path) -> None:
    """The wheels themselves: what is compiled in them is for this processor."""
    platforms = [part for tag in AARCH64 for part in ("--platform", tag)]
    exact = [f"{i['metadata']['name']}=={i['metadata']['version']}" for i in found]
    done = pip("download", "-q", "--no-deps", "-d", str(folder), "--only-binary=:all:",
               "--python-version", python, "--implementation", "cp",
               *platforms, *exact)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(folder.iterdir())) == len(found)
    compiled = set()
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.namelist():
                if member.endswith(".so"):
                    head = wheel.open(member).read(20)
                    assert head[:4] == b"\x7fELF" and head[18] == EM_AARCH64, (path.name, member)
                    compiled.add(parse_wheel_filename(path.name)[0])
    assert compiled >= COMPILED
