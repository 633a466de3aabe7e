"""The README of a bundle: the kit's template, filled in for one device."""

from __future__ import annotations

import re
from string import Template

from edgesr import resources
from edgesr.bundle.kit import README_TEMPLATE
from edgesr.bundle.manifest import Manifest
from edgesr.device import DeviceProfile


def text(about: Manifest, profile: DeviceProfile) -> str:
    """The filled-in template."""
    template = (resources.folder("export") / README_TEMPLATE).read_text(encoding="utf-8")
    filled = Template(template).substitute(
        student=about.models["student"].name,
        title=profile.title,
        target=about.target,
        edgesr=about.edgesr,
        precision=about.precision,
        scale=about.models["student"].scale,
        models="\n".join(_models(about)),
        forms=_INT8_FILES if about.int8 and about.int8["drop_db"] else "",
        int8="\n".join(_int8(about)),
        sparsity=_sparsity(about),
        gates="\n".join(_gates(about)),
        steps=_STEPS[profile.kind],
        jetpack="\n".join(_jetpack(profile, about)),
    )
    return re.sub(r"\n{3,}", "\n\n", filled)  # sections that this bundle has not


def _models(about: Manifest) -> list[str]:
    lines = ["| | network | parameters | MACs per input pixel | tile | halo |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for role, m in sorted(about.models.items()):
        note = " (untrained)" if m.lineage.get("untrained") else ""
        lines.append(
            f"| {role} | {m.name}{note} | {m.parameters:,} | {m.macs_per_pixel:,} "
            f"| {m.tile[1]}×{m.tile[0]} | {m.halo} |"
        )
    return lines


def _int8(about: Manifest) -> list[str]:
    if about.int8 is None:
        return []
    facts = about.int8
    origin = "trained into the network"
    if facts["scales"] == "calibrated":
        origin = f"the largest values on {facts['calibration_pictures']} pictures"
    high = ", ".join(facts["high"]) or "nothing"
    lines = ["## int8", "", f"- Scales: {origin}. Weights: {facts['weight_bits']} bits, one scale "
             "a channel.", f"- In higher precision: {high}."]  # fmt: skip
    for kept in facts["repaired"]:
        alone = "" if kept["alone_db"] is None else f", {kept['alone_db']:.1f} dB alone"
        lines.append(f"- `{kept['layer']}` was taken out of int8 at export: {kept['why']}{alone}.")
    lines += [f"- Scale of `{name}`: {what}." for name, what in facts["suspects"].items()]
    if facts["drop_db"]:
        drops = ", ".join(f"{drop:+.3f} ({form})" for form, drop in facts["drop_db"].items())
        lines.append(f"- PSNR-Y lost against fp32 on the photographs, in dB: {drops}; allowed: "
                     f"{facts['max_drop_db']:g}.")  # fmt: skip
    return [*lines, ""]


def _sparsity(about: Manifest) -> str:
    facts = about.sparsity
    share = f"{facts['in_pattern']} of {facts['eligible']} eligible layers have the pattern"
    return f"2:4 sparsity: {facts['choice']} ({share}): {facts['why']}."


def _gates(about: Manifest) -> list[str]:
    lines = ["| hop | PSNR, dB | 8-bit values that differ | |", "|---|---|---|---|"]
    for gate in about.gates:
        verdict = "; ".join(gate["failures"]) or "ok"
        if "psnr_db" in gate:
            share = f"{100 * gate['differing_share']:.3f} %"
            lines.append(f"| {gate['hop']} | {gate['psnr_db']:.1f} | {share} | {verdict} |")
        else:
            lines.append(f"| {gate['hop']} | | | {verdict} |")
    return lines


def _jetpack(profile: DeviceProfile, about: Manifest) -> list[str]:
    if not profile.jetpack:
        return []
    lines = ["## Which JetPack brings what", "",
             f"| JetPack | L4T | TensorRT | what build.py takes for {about.precision} "
             "| system Python |",
             "|---|---|---|---|---|"]  # fmt: skip
    for row in profile.jetpack:
        typed = int(row.tensorrt.split(".")[0]) >= 10
        doubt = " (unverified)" if row.source.startswith("unverified") else ""
        takes = _TAKES[about.precision, typed]
        lines.append(
            f"| {row.version} | {row.l4t} | {row.tensorrt}{doubt} | {takes} | {row.python} |"
        )
    return lines


_TAKES = {
    ("fp32", True): "`*.fp32.onnx`, strongly typed",
    ("fp32", False): "`*.fp32.onnx`",
    ("fp16", True): "`*.fp16.onnx`, strongly typed",
    ("fp16", False): "`*.fp32.onnx` and the flag FP16",
    ("int8", True): "`student.int8.trt-fp16.onnx`, strongly typed",
    ("int8", False): "`student.int8.trt.onnx` and the flags INT8 and FP16",
}

_INT8_FILES = """
- The same network in int8, all with the same scales: `student.int8.trt.onnx` (float32 where it
  is not int8: TensorRT 8.2 to 9, which takes types from flags), `student.int8.trt-fp16.onnx`
  (float16 there: TensorRT 10 and later, RTX), `student.int8.ort.onnx` and
  `student.dynamic.int8.ort.onnx` (ONNX Runtime)."""

_JETSON = """\
Copy this folder to the board (`scp -r`), then there, with the system's own `python3`:

```
sudo apt-get install python3-libnvinfer python3-opencv   # JetPack has both; usually there
python3 build.py                # builds the engines for this board into engines/
python3 run.py --verify         # hashes, and the golden tiles through the engines
python3 run.py photo.png        # writes the larger picture beside it
```

Engines belong to the board, the TensorRT and the L4T that built them: build them on the
board, never copy them. `build.py` says in one line why it rebuilds one, and takes 40 % of
the free memory for itself (`--workspace-mb` sets another figure). The power mode and the
clocks matter more than anything here: `nvpmodel -q` names the mode.

TensorRT's buffers come from cuda-python, pycuda or the CUDA runtime library itself, whichever
is there; nothing needs to be installed for it.
`/usr/src/tensorrt/bin/trtexec --loadEngine=engines/student.tile.engine` times an engine.

This kit was tested with ONNX Runtime, with the builder of TensorRT-RTX and with stand-ins
for the boards' TensorRT. It has not been run on a board."""

_CPU = """\
Any machine with Python 3.8 or newer:

```
pip install numpy opencv-python-headless onnxruntime
python3 run.py --verify         # hashes, and the golden tiles through ONNX Runtime
python3 run.py photo.png        # writes the larger picture beside it
```"""

_GPU = """\
On the machine with the card, with TensorRT or TensorRT-RTX from NVIDIA (`pip install
tensorrt-rtx`), numpy and OpenCV; for plain TensorRT leave the option out:

```
python3 build.py --trt-module tensorrt_rtx          # builds the engines into engines/
python3 run.py --verify --trt-module tensorrt_rtx   # hashes, and the golden tiles
python3 run.py photo.png --trt-module tensorrt_rtx  # writes the larger picture beside it
```

Building was tested with TensorRT-RTX, which needs no card for it. Running was not, on any card."""

_STEPS = {"jetson": _JETSON, "cpu": _CPU, "gpu": _GPU}
