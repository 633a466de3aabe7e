"""The one file that goes to the board: the benchmark and the modules that it needs, zipped.

The modules are those of this installation, found as the imports' closure and spelt for Python
3.8. What the bundle brings itself (`runtime`, `bundle`, `board`, `tiling`) is not among them:
what is timed there is what the bundle runs. The same modules give the same bytes.
"""

from __future__ import annotations

import functools
import io
import zipfile
from importlib.resources import files
from pathlib import Path

from edgesr.bench.host.lower import lowered
from edgesr.bundle.kit import closure

OF_THE_BUNDLE = ("runtime", "bundle", "board", "tiling.py")
_TIME = (2020, 1, 1, 0, 0, 0)
MAIN = '''"""Python 3.8: python3 bench.pyz FOLDER [NUMBER]"""
import json
import os
import sys
import types

folder = sys.argv[1]
number = int(sys.argv[2]) if len(sys.argv) > 2 else None
sys.path[:] = [p for p in sys.path if os.path.abspath(p) != os.path.abspath(folder)]
with open(os.path.join(folder, "request.json")) as file:
    bundle = json.load(file)["networks"][-1]["bundle"]


def fail(words, code):
    with open(os.path.join(folder, "records.jsonl"), "a") as file:
        file.write(json.dumps({"kind": "error", "message": words, "exit_code": code}) + "\\n")
    sys.exit(code)


try:
    import numpy
except ImportError as error:
    fail("import numpy: %s; on a Jetson: apt-get install python3-numpy" % error, 4)
try:
    import numpy.typing
except ImportError:  # numpy 1.17 of Ubuntu 20.04: annotations use it, nothing evaluates them
    sys.modules["numpy.typing"] = types.ModuleType("numpy.typing")
    sys.modules["numpy.typing"].NDArray = numpy.ndarray

import edgesr

edgesr.__path__.append(os.path.join(bundle, "edgesr"))
try:
    from edgesr.bench.host.program import main
except (ImportError, SyntaxError, ValueError, TypeError) as error:
    fail("the modules of %s do not load (%s): deploy it again" % (bundle, error), 1)

from pathlib import Path

sys.exit(main(sys.argv[0], Path(folder), number))
'''


def modules() -> list[Path]:
    """The files that travel."""
    package = Path(str(files("edgesr")))
    program = package / "bench" / "host" / "program.py"
    found = {program, *closure([program], package)}
    return sorted(p for p in found if p.relative_to(package).parts[0] not in OF_THE_BUNDLE)


@functools.cache
def pack() -> bytes:
    """The file: `python3 FILE FOLDER` runs what FOLDER/request.json asks for."""
    package = Path(str(files("edgesr")))
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", MAIN.encode())
        for path in modules():
            name = path.relative_to(package.parent).as_posix()
            _add(archive, name, lowered(path.read_text(encoding="utf-8")).encode())
    return data.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _TIME), data, zipfile.ZIP_DEFLATED)
