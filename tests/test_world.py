"""A process alone has the same form as several; Horovod is asked for only when it is there."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass

import pytest
import torch

from edgesr.errors import Impossible
from edgesr.training.world import Alone, World, open_world, under_horovod


@dataclass
class State:
    leg: int
    step: int


@pytest.fixture(autouse=True)
def no_horovodrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOROVOD_RANK", "HOROVOD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_alone_every_mean_is_its_own_value() -> None:
    world: World = Alone()
    assert (world.rank, world.size, world.local_rank) == (0, 1, 0)
    tensor = torch.tensor([1.0, float("nan")])
    world.average_([tensor])
    assert tensor[0] == 1.0 and torch.isnan(tensor[1])
    values = {"b": 0.1, "a": 2.0}
    means = world.mean(values)
    assert means == values and list(means) == ["b", "a"] and means is not values
    thing = {"x": [1]}
    assert world.broadcast(thing) is thing
    world.barrier()


def test_alone_a_run_starts_once_with_its_state() -> None:
    seen: list[State | None] = []

    def start(state, commit):
        seen.append(state)
        commit(State(0, 5))
        return "result"

    assert Alone().run(start, State(1, 2), pytest.fail) == "result"
    assert seen == [State(1, 2)]


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not under_horovod()
    assert isinstance(open_world(), Alone)
    monkeypatch.setenv("HOROVOD_RANK", "0")
    assert not under_horovod()
    monkeypatch.setenv("HOROVOD_SIZE", "1")
    assert under_horovod()
    assert isinstance(open_world(distributed=False), Alone)


def test_without_horovod_the_line_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "horovod", None)
    monkeypatch.setitem(sys.modules, "horovod.torch", None)
    monkeypatch.setenv("HOROVOD_RANK", "0")
    monkeypatch.setenv("HOROVOD_SIZE", "2")
    with pytest.raises(Impossible) as caught:
        open_world()
    text = str(caught.value)
    assert "make horovod" in text and "edgesr doctor --horovod" in text and "\n" not in text
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [(("127.0.1.1",), "means 127.0.1.1"), (("127.0.0.1", "::1"), "means 127"), ((), "no address")],
)
def test_a_host_whose_name_leads_others_astray_is_told(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], reason: str
) -> None:
    from edgesr.training.horovod import check_host_name

    def getaddrinfo(host: str, port: object) -> list[object]:
        assert host == "node7"
        if not addresses:
            raise socket.gaierror("unknown")
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(Impossible, match=f"node7.*{reason}.*/etc/hosts"):
        check_host_name()


def test_a_host_whose_name_is_its_address_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgesr.training.horovod import check_host_name

    found = [(0, 0, 0, "", (address, 0)) for address in ("127.0.1.1", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: found)
    check_host_name()


def test_a_committed_state_is_a_copy() -> None:
    from edgesr.training.horovod import _packed, _unpacked

    weight = torch.arange(4.0)
    kept = _packed({"net": weight, "at": State(1, 7)})
    weight += 1
    again = _unpacked(kept)
    assert torch.equal(again["net"], torch.arange(4.0)) and again["at"] == State(1, 7)
    assert _unpacked(_packed(None)) is None
