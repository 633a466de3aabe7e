"""`--lock-clocks` on trees of boards: what is set, and that everything is put back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import machines
import pytest

from edgesr.bench.lock import locked_clocks
from edgesr.errors import EdgeSRError, Impossible

P0, P4 = (f"devices/system/cpu/cpufreq/policy{n}/scaling_" for n in (0, 4))
GPU = "class/devfreq/17000000.gpu/"


def contents(sys: Path) -> dict[str, bytes]:
    return {str(p.relative_to(sys)): p.read_bytes() for p in sys.rglob("*") if p.is_file()}


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return machines.orin_nano(tmp_path) / "sys"


def test_locked_to_what_the_power_mode_allows_and_back(nano: Path) -> None:
    before = contents(nano)
    with locked_clocks(nano) as changes:
        during = {k: v for k, v in contents(nano).items() if v != before[k]}
    assert during == {
        f"{P0}governor": b"performance", f"{P0}min_freq": b"1344000",
        f"{P4}governor": b"performance", f"{P4}min_freq": b"1344000",
        f"{GPU}min_freq": b"918000000",
    }  # fmt: skip
    assert changes[0] == {"file": f"/sys/{P0}governor", "was": "schedutil", "set": "performance"}
    assert len(changes) == 5 and contents(nano) == before


def test_an_error_inside_puts_everything_back(nano: Path) -> None:
    before = contents(nano)
    with pytest.raises(ZeroDivisionError), locked_clocks(nano):
        assert contents(nano) != before
        raise ZeroDivisionError
    assert contents(nano) == before


@pytest.fixture
def attended() -> Iterator[None]:
    """SIGINT as at a terminal: a shell has what it starts in the background ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_everything_back(nano: Path, number: signal.Signals, attended: None) -> None:
    before, handler = contents(nano), signal.getsignal(number)
    error = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(error) as raised, locked_clocks(nano):
        os.kill(os.getpid(), number)
        threading.Event().wait(5)  # Python sees to the signal before it waits
    assert contents(nano) == before and signal.getsignal(number) is handler
    if error is SystemExit:
        assert raised.value.code == 128 + number


def test_a_second_signal_while_putting_back_waits_for_it(
    nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgesr.bench.lock as lock

    before, put_back = contents(nano), lock._put_back
    order: list[str] = []
    former = signal.signal(signal.SIGTERM, lambda *_: order.append("SIGTERM"))

    def interrupted(done: list[lock.Change]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        put_back(done)
        order.append("back")

    monkeypatch.setattr(lock, "_put_back", interrupted)
    try:
        with locked_clocks(nano):
            pass
    finally:
        signal.signal(signal.SIGTERM, former)
    assert order == ["back", "SIGTERM"] and contents(nano) == before


def test_without_the_right_to_write_nothing_is_touched(nano: Path) -> None:
    before = contents(nano)
    with (
        pytest.raises(Impossible, match=r"needs root: sudo .*nothing was changed") as raised,
        locked_clocks(nano, may_write=lambda path: "devfreq" not in str(path)),
    ):
        pytest.fail("must not be entered")
    assert raised.value.exit_code == 4 and contents(nano) == before


def test_a_value_that_the_kernel_rounds_ends_it_as_it_began(
    nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = contents(nano), Path.write_bytes

    def rounded(path: Path, data: bytes) -> int:
        return write(path, b"900000000" if data == b"918000000" else data)

    monkeypatch.setattr(Path, "write_bytes", rounded)
    with (
        pytest.raises(Impossible, match="gpu/min_freq took '900000000' for '918000000'"),
        locked_clocks(nano),
    ):
        pytest.fail("must not be entered")
    assert contents(nano) == before


def test_a_clock_that_tells_nothing_is_left_alone(nano: Path) -> None:
    (nano / GPU / "min_freq").write_text("")
    with locked_clocks(nano) as changes:
        assert len(changes) == 4 and (nano / GPU / "min_freq").read_text() == ""


def test_a_policy_without_the_governor_keeps_its_own(nano: Path) -> None:
    (nano / f"{P0}available_governors").write_text("powersave userspace\n")
    with locked_clocks(nano) as changes:
        assert (nano / f"{P0}governor").read_text() == "schedutil\n"
    assert [c["file"] for c in changes if P0 in c["file"]] == [f"/sys/{P0}min_freq"]


def test_a_file_that_cannot_be_put_back_is_named_with_the_command(nano: Path) -> None:
    before = contents(nano)
    gone = nano / GPU / "min_freq"
    said = r"echo 306000000 \| sudo tee .*min_freq"
    with pytest.raises(EdgeSRError, match=said), locked_clocks(nano):
        gone.unlink()
        gone.mkdir()
    gone.rmdir()
    gone.write_bytes(before[f"{GPU}min_freq"])
    assert contents(nano) == before, "the others are back all the same"


def test_where_there_are_no_clocks(tmp_path: Path) -> None:
    with (
        pytest.raises(Impossible, match="no clocks that could be locked"),
        locked_clocks(machines.virtual(tmp_path) / "sys"),
    ):
        pytest.fail("must not be entered")
