"""The peers: where each is from, its quality as cited, and how fast it was on another machine.

Quality comes from two kinds of source, kept apart everywhere:

- `measured`: the authors' own weights, measured by us in 2026-11 in EdgeSR's convention (BT.601 Y,
  border of 4, output rounded to uint8, grey pictures as RGB);
- `published`: what papers report; most take Set14's grey picture as one channel, which alone
  lowers Set14 by about 0.09 dB.

`ratio_avx2` is the CPU-time ratio to the SRGAN generator of that same 2026-11 run: two cores with
AVX2 only, ONNX Runtime 1.31.1, 2 threads, spinning off, 180×320, medians of 12 interleaved rounds
(3 for EDSR-baseline, 6 for the generator).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.peers import networks
from benchmarks.peers.networks import Built

SETS = ("Set5", "Set14", "B100")
OURS_2026 = "by us in 2026-11, authors' weights"


@dataclass(frozen=True)
class Quality:
    """PSNR-Y in dB on `SETS` (None where the source has none), and where that is from."""

    psnr_y: tuple[float | None, float | None, float | None]
    kind: Literal["measured", "published"]
    source: str


@dataclass(frozen=True)
class Peer:
    """A network that is timed: `build` gives it for a height and width.

    `sides` is what height and width must be multiples of; `about` says what a reader must know.
    """

    name: str
    origin: str
    build: Callable[[int, int], Built]
    quality: Quality | None
    ratio_avx2: float | None
    about: str = ""
    sides: int = 1


@dataclass(frozen=True)
class Cited:
    """A network that is not timed here: quality and CPU-time ratio are those of the 2026-11 run.

    `tileable` is None where its architecture was not looked at.
    """

    name: str
    origin: str
    quality: Quality
    ratio_avx2: float
    params: int
    tileable: bool | None


def _measured(set5: float, set14: float, b100: float) -> Quality:
    return Quality((set5, set14, b100), "measured", OURS_2026)


Y_ONLY = "luma only: its enlarging of colour is not timed"
PEERS = (
    Peer(
        "FSRCNN", "Dong et al., ECCV 2016", networks.fsrcnn,
        Quality((30.72, 27.61, 26.98), "published", "as later papers tabulate it"), None, Y_ONLY,
    ),
    Peer(
        "ESPCN", "Shi et al., CVPR 2016", networks.espcn, None, 131.7,
        Y_ONLY + "; the weights at hand are for another degradation",
    ),
    Peer(
        "SESR-M5", "Bhardwaj et al., MLSys 2022", networks.sesr_m5,
        Quality((31.0, None, None), "published", "about 31.0 in the paper"), None, Y_ONLY,
    ),
    Peer(
        "ECBSR-M4C16", "Zhang et al., ACM MM 2021", networks.ecbsr(4, 16), None, None,
        Y_ONLY + "; no weights at hand, the paper's table not checked",
    ),
    Peer(
        "ECBSR-M10C32", "Zhang et al., ACM MM 2021", networks.ecbsr(10, 32), None, None,
        Y_ONLY + "; no weights at hand, the paper's table not checked",
    ),
    Peer(
        "light-SAFMN++", "AIS 2024 real-time challenge", networks.light_safmnpp,
        _measured(30.43, 27.49, 26.87), 41.0,
        "timed at 320×184; trained for AVIF-compressed input", sides=8,
    ),
    Peer(
        "IESRNet", "NTIRE 2025, entry 21", networks.iesrnet, _measured(31.91, 28.49, 27.50), 23.1,
    ),
    Peer(
        "DIPNet", "NTIRE 2025, entry 15 (slim v2)", networks.dipnet,
        _measured(32.04, 28.54, 27.53), 22.0,
    ),
    Peer("TSR", "NTIRE 2025, entry 58", networks.tsr, _measured(31.94, 28.47, 27.48), 20.7),
    Peer("SPANF", "NTIRE 2025, entry 24", networks.spanf, _measured(31.77, 28.37, 27.42), 20.8),
    Peer("SMRN", "NTIRE 2024, entry 10", networks.smrn, _measured(32.00, 28.59, 27.57), 15.4),
    Peer("EECNet", "NTIRE 2025, entry 47", networks.eecnet, _measured(32.05, 28.58, 27.56), 14.0),
    Peer(
        "ExpandRepNet", "NTIRE 2025, entry 39", networks.expandrepnet,
        _measured(32.12, 28.58, 27.57), 10.3, "timed at 320×184", sides=8,
    ),
    Peer("RLFN", "NTIRE 2022, winner", networks.rlfn, _measured(32.10, 28.60, 27.58), 9.1),
    Peer("EFQN", "NTIRE 2024, entry 11", networks.efqn, _measured(31.96, 28.58, 27.54), 8.9),
    Peer("RFDN", "AIM 2020, winner", networks.rfdn, _measured(32.16, 28.65, 27.61), 5.6),
    Peer(
        "IMDN", "Hui et al., ACM MM 2019", networks.imdn,
        Quality((32.21, 28.58, 27.56), "published", "the paper"), None,
    ),
    Peer(
        "EDSR-baseline", "Lim et al., CVPRW 2017", networks.edsr_baseline,
        Quality((32.09, 28.58, 27.57), "published", "as later papers tabulate it"), 1.6,
    ),
)  # fmt: skip

# Networks of EdgeSR's own tables that play the part of peers.
SPAN_QUALITY, SPAN_RATIO = _measured(32.20, 28.65, 27.61), 7.3
SRVGG_RATIO = 4.8
SRGAN_QUALITY = Quality(
    (32.05, 28.49, 27.58), "published", "SRResNet, the generator's PSNR phase, as published"
)

CITED = (
    Cited("espan", "NTIRE 2025, entry 36", _measured(31.94, 28.52, 27.51), 16.4, 192_000, None),
    Cited("EFDN", "NTIRE 2025, baseline", _measured(32.08, 28.59, 27.56), 8.4, 276_000, False),
    Cited("MAAN", "NTIRE 2025, entry 29", _measured(32.20, 28.65, 27.61), 6.4, 169_000, None),
    Cited("EagleSR", "NTIRE 2025, entry 33", _measured(32.35, 28.74, 27.65), 4.6, 352_000, None),
)
