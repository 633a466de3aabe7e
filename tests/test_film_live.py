"""Live sources: a camera played by an HTTP server, and files taken as one.

V4L2 cameras and GStreamer pipelines need hardware and another OpenCV; only how they are
refused here is tested.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import HEIGHT, WIDTH, enlarge, make_film, picture, read, scale_size

from edgesr.errors import BadImage, BadModel, Impossible, WouldOverwrite
from edgesr.film import FilmOptions, upscale_live


class Camera(BaseHTTPRequestHandler):
    """Motion JPEG, as network cameras send it."""

    frames = 10_000

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for number in range(self.frames):
                data = cv2.imencode(".jpg", picture(number)[..., ::-1])[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.01)
        except OSError:
            pass  # the viewer has gone

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def camera(frames: int = 10_000) -> Iterator[str]:
    handler = type("Served", (Camera,), {"frames": frames})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def slow(pixels: Any) -> Any:
    time.sleep(0.06)
    return enlarge(pixels)


def test_frames_that_come_while_the_network_is_busy_are_dropped(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    seen: list[tuple[int, int | None, float]] = []
    with camera() as source:
        result = upscale_live(
            source, output, slow, scale_size, on_progress=lambda *n: seen.append(n), max_frames=8
        )
    film = read(output)
    assert result.frames == len(film.times) == 8
    assert result.dropped > 0
    assert result.source_fps is not None and result.source_fps > result.fps > 0
    assert (film.first.height, film.first.width) == (4 * HEIGHT, 4 * WIDTH)
    # The times are those of arrival: a network of 60 ms cannot have taken frames closer together
    # on the whole.
    assert film.times == sorted(set(film.times)) and film.times[-1] - film.times[0] > 0.2
    assert [done for done, _, _ in seen] == list(range(1, 9)) and seen[0][1] == 8
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_colours_come_through(tmp_path: Path) -> None:
    with camera() as source:
        upscale_live(
            source, tmp_path / "out.mkv", enlarge, scale_size, FilmOptions(crf=5), max_frames=3
        )
    first = read(tmp_path / "out.mkv").first
    assert (first.colorspace, first.color_range) == (1, 1)
    red = first.to_ndarray(format="rgb24")[64, 16:48].astype(int)
    assert np.abs(red - (200, 60, 40)).mean() < 12  # JPEG, and swscale's chroma


def test_seconds_end_it_too(tmp_path: Path) -> None:
    with camera() as source:
        result = upscale_live(source, tmp_path / "o.mp4", enlarge, scale_size, max_seconds=0.5)
    assert result.frames > 1
    assert float(read(tmp_path / "o.mp4").times[-1]) < 0.5


def test_the_end_of_the_source_ends_the_film(tmp_path: Path) -> None:
    with camera(frames=20) as source:
        result = upscale_live(source, tmp_path / "out.mp4", enlarge, scale_size)
    assert result.notes == ("the source ended",)
    assert 1 <= result.frames == len(read(tmp_path / "out.mp4").times)
    assert result.frames + result.dropped <= 20


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from films import enlarge, scale_size
from edgesr.film import upscale_live
def show(done, total, fps):
    print(done, flush=True)
result = upscale_live({source!r}, Path({output!r}), enlarge, scale_size, on_progress=show)
print(result.notes, result.frames)
"""


def test_ctrl_c_ends_it_with_a_whole_film(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with camera() as source:
        code = CHILD.format(tests=str(Path(__file__).parent), source=source, output=str(output))
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert child.stdout is not None
        while child.stdout.readline().strip() not in ("5", ""):
            pass
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    frames = int(said.split()[-1])
    assert "Ctrl-C ended it" in said and frames >= 5
    assert len(read(output).times) == frames
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_failing_network_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    def broken(pixels: Any) -> Any:
        raise BadModel("gave NaN")

    with camera() as source, pytest.raises(BadModel, match="gave NaN"):
        upscale_live(source, tmp_path / "out.mp4", broken, scale_size)
    assert list(tmp_path.iterdir()) == []


def test_a_film_file_can_be_a_source(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=10)
    result = upscale_live(str(source), tmp_path / "out.mp4", enlarge, scale_size)
    assert 1 <= result.frames <= 10


def test_what_cannot_be_opened_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(BadImage, match=r"cannot open http://127\.0\.0\.1:9/x: nothing answers"):
        upscale_live("http://127.0.0.1:9/x", output, enlarge, scale_size)
    with pytest.raises(BadImage, match="cannot open /dev/video97"):
        upscale_live("/dev/video97", output, enlarge, scale_size)
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        with pytest.raises(Impossible, match="built without GSTREAMER"):
            upscale_live("videotestsrc ! videoconvert ! appsink", output, enlarge, scale_size)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_an_output_that_is_there_stays(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"mine")
    with pytest.raises(WouldOverwrite):
        upscale_live("http://127.0.0.1:9/x", output, enlarge, scale_size)
