"""The README of a bundle: the kit's template, filled in for one device."""

from __future__ import annotations

from string import Template

from edgesr import resources
from edgesr.bundle.kit import README_TEMPLATE
from edgesr.bundle.manifest import Manifest
from edgesr.device import DeviceProfile


def text(about: Manifest, profile: DeviceProfile) -> str:
    """The filled-in template."""
    template = (resources.folder("export") / README_TEMPLATE).read_text(encoding="utf-8")
    return Template(template).substitute(
        student=about.models["student"].name,
        title=profile.title,
        target=about.target,
        edgesr=about.edgesr,
        precision=about.precision,
        scale=about.models["student"].scale,
        models="\n".join(_models(about)),
        gates="\n".join(_gates(about)),
        steps=_STEPS[profile.kind],
        jetpack="\n".join(_jetpack(profile)),
    )


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


def _jetpack(profile: DeviceProfile) -> list[str]:
    if not profile.jetpack:
        return []
    lines = ["## Which JetPack brings what", "",
             "| JetPack | L4T | TensorRT | what build.py takes for fp16 | system Python |",
             "|---|---|---|---|---|"]  # fmt: skip
    for row in profile.jetpack:
        typed = int(row.tensorrt.split(".")[0]) >= 10
        takes = "`*.fp16.onnx`, strongly typed" if typed else "`*.fp32.onnx` and the flag FP16"
        doubt = " (unverified)" if row.source.startswith("unverified") else ""
        lines.append(
            f"| {row.version} | {row.l4t} | {row.tensorrt}{doubt} | {takes} | {row.python} |"
        )
    return lines


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

_STEPS = {"jetson": _JETSON, "cpu": _CPU}
