"""What is known of the network after a leg: sizes, speed and quality."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgesr import checkpoint, sparsity
from edgesr.checkpoint import Checkpoint
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Graph, Weights
from edgesr.runtime.calibrate import post_training
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.lpips import why_not
from edgesr.training.reduce import calibration
from edgesr.training.setup import Run
from edgesr.training.start import Trained
from edgesr.training.validate import (
    network_upscaler,
    quality,
    runtime_upscaler,
    student_upscaler,
)

SIZE = (180, 320)  # height and width of the low-resolution picture that is timed
TIME_S = 3.0  # at most this long, once there are three samples
SAMPLES = (3, 9)
VALIDATION_PICTURES = 4


def measure(
    run: Run, index: int, trained: Trained, waiting: float, seconds: float
) -> dict[str, Any]:
    """Everything the report says about a leg; its student is saved beside.

    The quality of a quantised network is that of its int8 form for ONNX Runtime; its fp32
    form, TensorRT's form, and plain post-training quantisation stand beside it. LPIPS is
    measured from the leg before the first GAN leg on: what that gains is not in PSNR.
    """
    leg, threads = run.legs[index], run.request.threads
    graph, weights = trained.graph, trained.weights
    perceptual = trained.quant is None and measures_lpips(run, index)
    upscale = network_upscaler(graph, weights, threads=threads)
    result: dict[str, Any] = {
        "leg": leg.name,
        "kind": leg.stage.kind if leg.steps else "start",
        "method": leg.stage.method if leg.shrink is not None else "",
        "steps": leg.steps,
        **sizes(graph, weights),
        **quality(upscale, run.pairs, perceptual=perceptual),
    }
    speed = leg.steps / max(seconds, 1e-9)
    timing: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "data_wait": round(waiting, 4),
        "steps_per_s": round(speed, 3),
        "images_per_s": round(speed * run.batches(index).batch * run.world.size, 2),
        "cpu_ms": cpu_ms(to_onnx(graph, weights, shape=SIZE), threads),
    }
    if trained.quant is not None:
        result |= _int8(run, index, trained, trained.quant, result)
        fast = to_onnx_int8(graph, weights, trained.quant, form="ort", shape=SIZE)
        timing["cpu_ms_int8"] = cpu_ms(fast, threads)
    saved = Checkpoint(graph, weights, lineage(run), {"held_out": result}, trained.quant)
    checkpoint.save(run.folder.leg_checkpoint(index), saved)
    return {**result, "timing": timing}


def measures_lpips(run: Run, index: int | None = None) -> bool:
    """Whether LPIPS is measured after leg `index` (None: of teacher and bicubic)."""
    until = None if index is None else index + 2
    return any(leg.stage.kind == "gan" for leg in run.legs[:until]) and not why_not()


def sizes(graph: Graph, weights: Weights) -> dict[str, int]:
    """Counted, not measured: parameters, non-zeros, MACs per pixel, bytes."""
    return {
        "params": counts.parameters(graph),
        "nonzeros": sparsity.nonzeros(weights),
        "macs_per_pixel": counts.macs_per_pixel(graph),
        "bytes_dense": sparsity.dense_bytes(weights),
        "bytes_coded": sparsity.coded_bytes(weights),
    }


def validate(run: Run, trained: Trained) -> float:
    """PSNR-Y (dB) on the first held-out pictures: a point of the curve, not a result.

    Of the int8 form for ONNX Runtime where there is one, as at the end of the leg.
    """
    upscale = student_upscaler(
        trained.graph, trained.weights, trained.quant, threads=run.request.threads
    )
    return quality(upscale, run.pairs[:VALIDATION_PICTURES])["psnr_y"]


def cpu_ms(model: bytes, threads: int) -> dict[str, Any]:
    """Median CPU time of one 320×180 picture in ONNX Runtime, in ms: all threads' together."""
    runtime = OrtRuntime(model, threads=threads)
    x = np.random.default_rng(0).random((1, 3, *SIZE), dtype=np.float32)
    runtime.run(x)
    samples: list[float] = []
    begun = time.monotonic()
    while len(samples) < SAMPLES[0] or (
        len(samples) < SAMPLES[1] and time.monotonic() - begun < TIME_S
    ):
        before = time.process_time()
        runtime.run(x)
        samples.append((time.process_time() - before) * 1e3)
    return {
        "median": round(float(np.median(samples)), 2),
        "samples": len(samples),
        "size": f"{SIZE[1]}x{SIZE[0]}",
        "threads": threads,
    }


def _int8(
    run: Run, index: int, trained: Trained, quant: QuantSpec, fp32: dict[str, Any]
) -> dict[str, Any]:
    before = checkpoint.load(run.folder.leg_checkpoint(index - 1))
    plain = post_training(
        before.graph, before.weights, calibration(run.pack), bits=quant.bits, high=quant.high
    )
    forms: dict[str, dict[str, float]] = {}
    file_bytes: dict[str, int] = {}
    for what, net, spec in (("", trained, quant), ("ptq_", before, plain)):
        for form in ("trt", "ort"):
            model = to_onnx_int8(net.graph, net.weights, spec, form=form)
            upscale = runtime_upscaler(model, threads=run.request.threads, optimize=form == "ort")
            perceptual = f"{what}{form}" == "ort" and measures_lpips(run, index)
            forms[f"{what}{form}"] = quality(upscale, run.pairs, perceptual=perceptual)
            file_bytes[f"{what}{form}"] = len(model)
    best = forms["ort"]
    return {
        "psnr_y_fp32": fp32["psnr_y"],
        "psnr_y_int8_trt": forms["trt"]["psnr_y"],
        "psnr_y_int8_ort": best["psnr_y"],
        "psnr_y_ptq_trt": forms["ptq_trt"]["psnr_y"],
        "psnr_y_ptq_ort": forms["ptq_ort"]["psnr_y"],
        "bits": quant.bits,
        "bytes_int8_trt": file_bytes["trt"],
        "bytes_int8_ort": file_bytes["ort"],
        **best,
    }


def lineage(run: Run) -> dict[str, Any]:
    """Where a student comes from."""
    inputs = run.inputs
    return {
        "parent": inputs.get("teacher", ""),
        "teacher": Path(run.request.teacher).name,
        "data": inputs["data"],
        **({"start": inputs["student"]} if run.start else {}),
        "recipe": dataclasses.asdict(run.recipe),
    }
