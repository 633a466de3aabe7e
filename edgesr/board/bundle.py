"""What a bundle holds for the builder, read without trust: names, hashes, shapes."""

import json
import os
import re
from typing import Any, Dict, List

from edgesr.board.cache import sha256_of
from edgesr.board.choice import FORMS, PRECISIONS
from edgesr.board.engine import Job
from edgesr.board.failed import Failed

_PLAIN_NAME = re.compile(r"[a-z0-9_-]+")


def load_manifest(folder: str) -> Dict[str, Any]:
    """The bundle's manifest. Raises Failed if there is none, or one that cannot be used."""
    path = os.path.join(folder, "manifest.json")
    try:
        with open(path, encoding="utf-8") as file:
            manifest: Dict[str, Any] = json.load(file)
        for role, model in manifest["models"].items():
            for shape, files in model["onnx"].items():
                # They become file names; "fp32" is what every attempt can fall back to.
                plain = _PLAIN_NAME.fullmatch(role) and _PLAIN_NAME.fullmatch(shape)
                if not plain or len(model["tile"]) != 2 or "fp32" not in files:
                    raise ValueError(role)
                model["scale"], model["halo"]
        if manifest["precision"] not in PRECISIONS:
            raise ValueError(manifest["precision"])
        manifest["files"]
        return manifest
    except OSError as error:
        raise Failed(f"no manifest.json in {folder}: run build.py inside a bundle") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failed(f"{path} is damaged: copy the bundle again") from error


def checked(folder: str, manifest: Dict[str, Any], name: str) -> str:
    """The path of a bundle file whose hash is right."""
    if os.path.basename(name) != name or name not in manifest["files"]:
        raise Failed(f"manifest.json names {name!r}, which is no file of this bundle")
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise Failed(f"{name} is missing: copy the bundle again")
    if sha256_of(path) != manifest["files"][name]["sha256"]:
        raise Failed(f"{name} is not the file that was exported: copy the bundle again")
    return path


def jobs(folder: str, manifest: Dict[str, Any], model: str) -> List[Job]:
    """What to build, each file checked by its hash; `model` is a role, or all."""
    known = sorted(manifest["models"])
    if model != "all" and model not in known:
        raise Failed("no model '{}' in this bundle; known: {}".format(model, ", ".join(known)))
    found = []
    for role in known:
        if model in ("all", role):
            network = manifest["models"][role]
            for shape in sorted(network["onnx"], reverse=True):  # tile before dynamic
                files = {
                    form: checked(folder, manifest, name)
                    for form, name in network["onnx"][shape].items()
                    if form in FORMS
                }
                facts = {"scale": int(network["scale"]), "halo": int(network["halo"])}
                height, width = network["tile"]
                open_shape = shape != "tile"
                found.append(Job(f"{role}.{shape}", files, (height, width), open_shape, facts))
    return found


def wants_sparse(manifest: Dict[str, Any]) -> bool:
    """Whether the bundle was exported for 2:4 kernels."""
    sparsity = manifest.get("sparsity")
    return isinstance(sparsity, dict) and sparsity.get("choice") == "2:4"
