"""ONNX Runtime's execution providers: which there are, how they are asked for, whether they came.

ONNX Runtime goes on with the CPU when a provider does not start, and says so in its log only;
here that is an error. Options: onnxruntime's documentation of the two providers.
Python 3.8: it travels inside bundles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

from edgesr.errors import Impossible

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
LARGEST = (512, 512)  # height, width: what an engine of open shape is built for

Provider = Tuple[str, Dict[str, str]]


def wanted(ort: Any, provider: str, *, open_shape: bool, cache: Path | None) -> list[Provider]:
    """What `InferenceSession` takes, the CPU last: some nodes may have no other place.

    `provider` is a key of `PROVIDERS`; `cache` is where TensorRT's engines are kept. Raises
    `Impossible` when this ONNX Runtime was built without the provider.
    """
    _check_built(ort, provider)
    found: list[Provider] = []
    if provider == "tensorrt":
        found.append((PROVIDERS["tensorrt"], _tensorrt_options(open_shape, cache)))
    if provider == "cuda" or (
        provider == "tensorrt" and PROVIDERS["cuda"] in ort.get_available_providers()
    ):
        found.append((PROVIDERS["cuda"], {"use_tf32": "0"}))  # fp32 means 24 bits here
    return [*found, (PROVIDERS["cpu"], {})]


def check_started(session: Any, provider: str) -> None:
    """Raise `Impossible` when ONNX Runtime went on without the provider."""
    if PROVIDERS[provider] not in session.get_providers():
        raise Impossible(
            f"{PROVIDERS[provider]} is in this onnxruntime and does not start: a GPU, its driver, "
            "CUDA, cuDNN or TensorRT of the version it was built for is missing"
        )


def _check_built(ort: Any, provider: str) -> None:
    name, known = PROVIDERS[provider], ort.get_available_providers()
    if name not in known:
        raise Impossible(
            f"onnxruntime {ort.__version__} has no {name} (it has {', '.join(known)}): install "
            "onnxruntime-gpu in its place, on a Jetson the build for its JetPack"
        )


def _tensorrt_options(open_shape: bool, cache: Path | None) -> dict[str, str]:
    options = {"trt_fp16_enable": "0"}  # the types of the file hold
    if cache is not None:
        for kind in ("engine", "timing"):
            options[f"trt_{kind}_cache_enable"] = "1"
            options[f"trt_{kind}_cache_path"] = str(cache)
    if open_shape:  # without a range it builds again for each new size
        height, width = LARGEST
        sizes = {"min": (1, 1), "opt": (height // 2, width // 2), "max": (height, width)}
        for name, size in sizes.items():
            options[f"trt_profile_{name}_shapes"] = f"input:1x3x{size[0]}x{size[1]}"
    return options
