"""Which ONNX file and which flags a TensorRT takes for a precision, best first.

8.2 to 9    fp32 tensors, and int8 as fp32 Q/DQ; the builder flags FP16 and INT8 choose
10          types are in the file (fp16, fp16 Q/DQ); network flag STRONGLY_TYPED
11, RTX     the same, and no flag: strongly typed is all there is, FP16 and INT8 are gone

Sources: NvInfer.h of NVIDIA/TensorRT's release branches 8.2 to 11.1; TensorRT-RTX 1.7 as run.
"""

from typing import Any, Dict, List, Tuple

OLDEST = (8, 2)
NEWEST = (11, 4)
STRONGLY_TYPED_FROM = (10, 0)
FLAGS_GONE_FROM = (11, 0)
PRECISIONS = ("fp32", "fp16", "int8")
WEAK_INT8, STRONG_INT8 = "int8.trt", "int8.trt-fp16"  # the forms of an int8 file
FORMS = ("fp32", "fp16", WEAK_INT8, STRONG_INT8)  # of what is meant for TensorRT


def attempts(
    version: Tuple[int, int], rtx: bool, precision: str, files: Dict[str, str]
) -> List[Dict[str, Any]]:
    """What to try, best first: dicts of onnx, precision, builder flags, network flags, why.

    `files` maps forms (`fp32`, perhaps `fp16`, `int8.trt`, `int8.trt-fp16`) to ONNX names;
    what was asked for comes first, then what to fall back to: int8, fp16, fp32. `why` says
    why the first is not what was asked for; it is empty otherwise.
    """
    typed = rtx or version >= STRONGLY_TYPED_FROM
    wanted = PRECISIONS[: PRECISIONS.index(precision) + 1]
    found: List[Dict[str, Any]] = []
    missing = ""
    for kind in reversed(wanted):
        choice = _typed(version, rtx, kind, files) if typed else _flagged(kind, files)
        if choice is not None:
            found.append(choice)
        elif not found:
            missing = missing or kind
    if missing:
        had = ", ".join(kind for kind in PRECISIONS if any(f.startswith(kind) for f in files))
        found[0]["why"] = f"the bundle has this shape in {had} only"
    return found


def _flagged(precision: str, files: Dict[str, str]) -> Any:
    """Before 10: one fp32 file and flags; int8 has scales of its own file."""
    known: Dict[str, List[str]] = {"fp32": [], "fp16": ["FP16"], "int8": ["INT8", "FP16"]}
    name = files.get(WEAK_INT8) if precision == "int8" else files["fp32"]
    return _choice(name, precision, known[precision], ["EXPLICIT_BATCH"])


def _typed(version: Tuple[int, int], rtx: bool, precision: str, files: Dict[str, str]) -> Any:
    """From 10 on: the types of the file hold."""
    network = [] if rtx else ["STRONGLY_TYPED"]
    if precision != "int8":
        return _choice(files.get(precision), precision, [], network)
    if STRONG_INT8 in files or rtx or version >= FLAGS_GONE_FROM:
        # fp32 around int8 is slower than fp16 around it, but right.
        return _choice(files.get(STRONG_INT8, files.get(WEAK_INT8)), precision, [], network)
    # 10 still knows the flags, and takes with them the file that was made for them.
    return _choice(files.get(WEAK_INT8), precision, ["INT8", "FP16"], ["EXPLICIT_BATCH"])


def _choice(onnx: Any, precision: str, flags: List[str], network: List[str]) -> Any:
    if onnx is None:
        return None
    return {"onnx": onnx, "precision": precision, "flags": flags, "network": network, "why": ""}
