"""A film of 60 s, made larger: speed, memory, what is kept, and kill -9 with resume.

    python -m benchmarks.upscale.film --out benchmarks/upscale/results/film-2026-11.json

The film is made here: 320x180, 24 frames a second, a photograph that pans, with AAC sound. Each
run is a process of its own, whose resident set's high water is read. `overhead` is the run's
wall time over the time inside the network: what decoding, encoding and joining add though they
run beside it. The killed run gets SIGKILL when half of its segments are whole.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from edgesr.bench.conditions import conditions
from edgesr.film import FilmOptions, upscale_film
from edgesr.models.find import onnx_of
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles

RATE, WIDTH, HEIGHT = 24, 320, 180
SOUND_RATE = 48_000
MB = 1024**2


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help="a run as JSON: for the processes that this starts")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(**json.loads(arguments.one))))
        return
    with tempfile.TemporaryDirectory() as folder:
        record = measured(Path(folder), arguments.model, arguments.seconds)
    text = json.dumps(record, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def measured(folder: Path, model: str, seconds: int) -> dict[str, Any]:
    """All runs; asserts what must be equal."""
    short = make_film(folder / "short.mp4", seconds // 6)
    source = make_film(folder / "film.mp4", seconds)
    runs = {
        "short": run(short, folder / "short-x4.mp4", model),
        "whole": run(source, folder / "whole.mp4", model),
        "resumed": killed_and_resumed(source, folder / "resumed.mp4", model, seconds // 20),
    }
    before, whole, resumed = (
        content(folder / name) for name in ("film.mp4", "whole.mp4", "resumed.mp4")
    )
    return {
        "what": f"{seconds} s of {WIDTH}x{HEIGHT} at {RATE} fps with AAC sound, x4 by {model}",
        "conditions": {
            **conditions(),
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {
            "av": av.__version__,
            **{k: ".".join(map(str, v)) for k, v in av.library_versions.items()},
        },
        "runs": runs,
        "kept": {
            "duration_s": [before["duration_s"], whole["duration_s"]],
            "same_sound_packets": before["sound"] == whole["sound"],
            "same_frame_times": before["times"] == whole["times"],
            "frames": [len(before["times"]), len(whole["times"])],
            "resumed_is_whole": resumed == whole,
        },
        "peak_growth_mb": runs["whole"]["peak_mb"] - runs["short"]["peak_mb"],
    }


def make_film(path: Path, seconds: int) -> Path:
    """A window that moves over a photograph, and a tone."""
    photograph = cv2.imread(str(Path(__file__).parents[2] / "edgesr/samples/chelsea.jpg"))
    photograph = cv2.cvtColor(cv2.resize(photograph, (480, 320)), cv2.COLOR_BGR2RGB)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=RATE, options={"crf": "20"})
        video.width, video.height = WIDTH, HEIGHT
        sound: Any = out.add_stream("aac", rate=SOUND_RATE)
        for number in range(seconds * RATE):
            angle = number / RATE
            x, y = int(80 + 79 * np.sin(angle)), int(70 + 69 * np.sin(1.7 * angle))
            window = np.ascontiguousarray(photograph[y : y + HEIGHT, x : x + WIDTH])
            frame = av.VideoFrame.from_ndarray(window, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for start in range(0, seconds * SOUND_RATE, 1024):
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(start, start + 1024) / SOUND_RATE)
            samples = av.AudioFrame.from_ndarray(np.float32([tone, tone]), "fltp", "stereo")
            samples.sample_rate, samples.pts = SOUND_RATE, start
            samples.time_base = Fraction(1, SOUND_RATE)
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
    return path


def one(source: str, output: str, model: str, resume: bool) -> dict[str, Any]:
    """One run in this process."""
    network = OrtRuntime(onnx_of(model))
    result = upscale_film(
        Path(source),
        Path(output),
        lambda frame: upscale_tiles(frame, network),
        lambda height, width: (network.scale * height, network.scale * width),
        FilmOptions(resume=resume, enlarger=model),
    )
    return {
        "frames": result.frames,
        "resumed": result.resumed,
        "seconds": round(result.seconds, 2),
        "fps": round(result.fps, 3),
        "network_s": round(result.network_s, 2),
        "overhead": round(result.seconds / result.network_s, 3),
        "cpu_s": round(time.process_time(), 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MB,
        "notes": result.notes,
    }


def start(source: Path, output: Path, model: str, resume: bool) -> subprocess.Popen[str]:
    """A run in a process of its own."""
    given = {"source": str(source), "output": str(output), "model": model, "resume": resume}
    command = [sys.executable, "-m", "benchmarks.upscale.film", "--one", json.dumps(given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(source: Path, output: Path, model: str, resume: bool = False) -> dict[str, Any]:
    """The same, to its end."""
    child = start(source, output, model, resume)
    said, _ = child.communicate()
    assert child.returncode == 0
    done: dict[str, Any] = json.loads(said)
    return done


def killed_and_resumed(source: Path, output: Path, model: str, segments: int) -> dict[str, Any]:
    """SIGKILL after that many segments, then a run that goes on."""
    child = start(source, output, model, resume=False)
    parts = output.with_name(f".{output.name}.parts")
    while len(list(parts.glob("0*.json"))) < segments:
        assert child.poll() is None
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not output.exists()
    return run(source, output, model, resume=True)


def content(path: Path) -> dict[str, Any]:
    """The packets of sound, the times and bytes of the pictures."""
    found: dict[str, Any] = {"sound": [], "pictures": [], "times": []}
    with av.open(str(path)) as film:
        found["duration_s"] = film.duration / 1_000_000
        for packet in film.demux():
            if packet.size and packet.stream.type == "audio":
                found["sound"].append((packet.pts, packet.time_base, bytes(packet)))
            elif packet.size and packet.stream.type == "video":
                found["pictures"].append((packet.pts, packet.dts, bytes(packet)))
    with av.open(str(path)) as film:
        found["times"] = [frame.time for frame in film.decode(video=0)]
    return found


if __name__ == "__main__":
    main()
