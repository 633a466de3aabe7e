"""Reads a meter in the background, at random instants.

One reading in each interval of 20 ms, at an instant drawn uniformly inside it: a load that
repeats at the polling rate then cannot hide between the readings, as it does from a fixed
poller. Each reading keeps the monotonic stamps (Linux: CLOCK_MONOTONIC) before and after it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType

from edgesr.errors import Impossible
from edgesr.power.meter import Busy, Meter, Sample, Trace, patiently

NOMINAL_S = 0.020
SLOW_NOMINAL_S = 0.040  # where a read takes longer than SLOW_READ_S; 250 readings in 10 s
SLOW_READ_S = 0.005
# A reading that starts a program (the Raspberry Pi's) must not become a load of its own.
MOST_OF_INTERVAL = 0.2
LONGEST_NOMINAL_S = 0.200


def nominal_s(read_s: float) -> float:
    """The interval in seconds for a meter of which one reading takes `read_s`."""
    if read_s <= SLOW_READ_S:
        return NOMINAL_S
    slower = round(read_s / MOST_OF_INTERVAL, 2)
    return min(max(SLOW_NOMINAL_S, slower), LONGEST_NOMINAL_S)


def new_trace(meter: Meter, clock: Callable[[], float] = time.perf_counter) -> Trace:
    """An empty trace of `meter`, its interval chosen by how long three readings take."""
    start = clock()
    for _ in range(3):
        patiently(meter.read)
    read_s = (clock() - start) / 3
    return Trace(
        meter=meter.name,
        quantity=meter.quantity,
        rails=meter.rails,
        total=meter.total,
        scope=meter.scope,
        nominal_s=nominal_s(read_s),
        conditions=meter.conditions(),
    )


def sample(
    meter: Meter,
    trace: Trace,
    stop: Callable[[], bool],
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> None:
    """Read `meter` into `trace` until `stop()`; `clock` and `sleep` are in seconds.

    A sensor that stops answering ends the sampling and leaves its message in `trace.stopped`.
    One that is busy is asked again in the next interval; the reading counts in `trace.lost`,
    and two in a row are taken for a sensor that stopped.
    """
    draw = (rng or random.Random()).random
    start, interval, missed = clock(), 0, False
    while not stop():
        wait = start + (interval + draw()) * trace.nominal_s - clock()
        if wait > 0:
            sleep(wait)
        before = clock()
        try:
            values = meter.read()
        except Impossible as e:
            busy = isinstance(e, Busy)
            trace.lost += busy
            if missed or not busy:
                trace.stopped = str(e)
                return
            missed, after = True, clock()
        else:
            missed, after = False, clock()
            trace.samples.append(Sample(before, after, values))
        # After a late reading go on in the present interval, not in the missed ones.
        interval = max(interval + 1, int((after - start) / trace.nominal_s))


class Sampler:
    """Samples a meter in a thread for as long as the `with` block runs; gives the trace.

    The sensor's conditions are read once more when it ends.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.trace = new_trace(meter)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=sample, args=(meter, self.trace, self._stop.is_set), daemon=True
        )

    def __enter__(self) -> Trace:
        self._thread.start()
        return self.trace

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.trace.conditions_after = self._meter.conditions()
