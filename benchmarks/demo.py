"""The main job on real photographs: compress → export → bench → upscale.

`make demo` runs this. It takes the photographs that scikit-image ships, trains on some,
measures on others, and runs the four commands as a user would type them. Everything goes
to `demo/`; a run that was interrupted while compressing goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Never seen in training.
UNSEEN = ("astronaut", "chelsea")


def main() -> None:
    """Run the demo; exit with the first failing command's status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where to put it all")
    parser.add_argument("--minutes", type=float, default=5.0, help="at most, for compress")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of timed calls")
    args = parser.parse_args()
    started = time.monotonic()
    root: Path = args.folder
    prepare(root)
    run, student = root / "run", root / "run" / "student.safetensors"
    if (run / "manifest.json").is_file() and not student.is_file():
        edgesr("1/4 compress (going on)", "compress", "--resume", run)
    else:
        shutil.rmtree(run, ignore_errors=True)
        edgesr("1/4 compress: SPAN → student, distilled and pruned", "compress", "--preset",
               "smoke", "--teacher", "span", "--data", root / "photos" / "train", "--out", run,
               "--max-minutes", args.minutes)  # fmt: skip
    edgesr("2/4 export: a bundle for Jetson Orin", "export", student, "--teacher", "span",
           "--target", "jetson-orin", "-o", root / "bundle", "-y")  # fmt: skip
    # srgan is trained for looks: it is there for its size and speed, not for its decibels.
    edgesr("3/4 bench: student against teacher", "bench", student, "balanced", "srgan",
           "--teacher", "span", "--power", "--quality", root / "photos" / "unseen",
           "--duration", args.duration, "--json", root / "bench.json",
           "--html", root / "bench.html", "-y")  # fmt: skip
    edgesr("4/4 upscale with the new student", "upscale", root / "in.png", "-m", student,
           "-o", root / "in_x4_student.png", "-y")  # fmt: skip
    edgesr("    and with the bundled one", "upscale", root / "in.png", "-y")
    closing(root, time.monotonic() - started)


def prepare(root: Path) -> None:
    """Lay out photographs to train on and unseen ones, and the small picture to upscale."""
    import skimage.data
    from PIL import Image

    from edgesr import image, resize
    from edgesr.training.samples import sample_folder

    # Only a folder that an earlier demo made is emptied: --folder may name any other by mistake.
    marker = root / ".edgesr-demo"
    if root.exists() and any(root.iterdir()) and not marker.is_file():
        sys.exit(f"{root} holds something that is not a demo's; choose another --folder")
    root.mkdir(parents=True, exist_ok=True)
    marker.touch()
    photos = root / "photos"
    shutil.rmtree(photos, ignore_errors=True)
    sample_folder(photos / "train")
    (photos / "unseen").mkdir()
    for name in UNSEEN:
        source = Path(skimage.data.__file__).parent / f"{name}.png"
        shutil.copy2(source, photos / "unseen" / source.name)
    original = image.read(photos / "unseen" / "astronaut.png").pixels
    Image.fromarray(resize.downscale_bicubic(original, 4)).save(root / "in.png")


def edgesr(title: str, *arguments: object) -> None:
    """Run one command, showing it first; stop the demo if it fails."""
    words = [str(a) for a in arguments]
    print(f"\n== {title}\n$ edgesr {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "edgesr", *words], check=False)
    # A missed gate (3) has kept its best student: the demo goes on with that.
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)


def closing(root: Path, seconds: float) -> None:
    """Say where everything is."""
    print(f"\n== done in {seconds / 60:.1f} minutes; look at")
    for path, what in (
        ("bench.html", "the report: teacher, students, latency, quality"),
        ("run/report.html", "how the student came about"),
        ("in.png", "the small picture, an unseen photograph reduced 4:1"),
        ("in_x4_student.png", "upscaled by the student that was just trained"),
        ("in_x4.png", "upscaled by the bundled student"),
        ("bundle/README.md", "what to type on the Jetson"),
    ):
        print(f"  {root / path!s:28} {what}")


if __name__ == "__main__":
    main()
