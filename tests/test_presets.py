"""Every preset that ships makes sense before an hour is spent on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig
from edgesr.graph.groups import prune_groups
from edgesr.graph.spec import Conv, Graph
from edgesr.models.srresnet import srresnet
from edgesr.models.table import untrained_weights
from edgesr.pruning.budget import parse_budget
from edgesr.pruning.magnitude import cubic_keep
from edgesr.training.first import first_net, narrowed
from edgesr.training.legs import learning_rate, legs_of
from edgesr.training.recipe import Recipe, load_recipe, preset_names

PROMISED = {"paper", "quality", "balanced", "fast", "tiny", "gan", "smoke", "srgan"}


def test_the_promised_presets_ship() -> None:
    assert set(preset_names()) >= PROMISED


@pytest.mark.parametrize("name", preset_names())
def test_the_legs_of_a_preset_make_sense(name: str) -> None:
    recipe = load_recipe(name)
    legs = legs_of(recipe)
    assert not legs[0].reduces  # something is trained before it is made smaller
    assert sum(leg.steps for leg in legs) == sum(s.steps for s in recipe.stages)
    assert [leg.shrink for leg in legs if leg.stage.kind == "prune"] == [
        (r + 1) / s.rounds for s in recipe.stages if s.kind == "prune" for r in range(s.rounds)
    ]
    for leg in legs:
        rates = [learning_rate(leg, step) for step in (0, leg.steps // 10, leg.steps - 1)]
        assert max(rates) <= leg.stage.lr and min(rates) > 0
        assert rates[2] < rates[1]  # it has cooled down at the end
        side = (leg.stage.patch or recipe.data.patch) * recipe.scale
        assert not leg.stage.loss.adversarial or side >= 32
        later = recipe.stages[recipe.stages.index(leg.stage) + 1 :]
        if leg.stage.kind == "gan":
            # Anything after would be judged by PSNR, which a GAN gives away.
            assert not any(s.kind in ("prune", "quantize") for s in later)
    if recipe.budget:
        assert parse_budget(recipe.budget)
        assert any(s.prunes_channels for s in recipe.stages)
    assert recipe.checkpoint_every <= max(leg.steps for leg in legs)


@pytest.mark.parametrize("name", sorted(PROMISED - {"paper"}))
def test_the_network_of_a_preset_is_built_for_its_scale(name: str) -> None:
    recipe = load_recipe(name)
    net, trained = first_net(recipe, None, None)
    assert net.graph == trained.graph
    assert trained.graph.scale == recipe.scale
    convs = [c for c in trained.graph.convs() if c.kernel == 3]
    assert {c.out for c in convs} >= {recipe.student.width}


def test_train_presets_follow_no_teacher_and_the_others_do() -> None:
    follows = {n: any(s.loss.needs_teacher for s in load_recipe(n).stages) for n in PROMISED}
    assert [name for name, does in follows.items() if not does] == ["srgan"]
    srgan = load_recipe("srgan")
    assert [s.kind for s in srgan.stages] == ["finetune", "gan"]
    assert not srgan.stages[0].loss.adversarial and not srgan.stages[0].loss.perceptual


def counted(graph: Graph) -> int:
    """Parameters by hand: out · (in · k² + 1) of each convolution, and one slope a PReLU."""
    total = 0
    for layer in graph.layers:
        if isinstance(layer, Conv):
            into = graph.channels[layer.inputs[0]]
            total += layer.out * (into * layer.kernel**2 + bool(layer.bias))
        elif layer.kind == "act":
            total += 1
    return total


def by_l1(recipe: Recipe) -> Recipe:
    """The recipe with an importance that needs no photographs."""
    return replace(recipe, student=replace(recipe.student, importance="l1"))


def teacher_of(graph: Graph) -> Checkpoint:
    return Checkpoint(graph, untrained_weights(graph, 0), {}, {})


def test_the_papers_student_has_60_percent_of_the_generators_parameters() -> None:
    recipe, teacher = by_l1(load_recipe("paper")), teacher_of(srresnet())
    assert counted(teacher.graph) == 1_545_238  # what the architecture is known for
    graph, weights = narrowed(teacher, recipe)
    assert 0.59 <= counted(graph) / counted(teacher.graph) <= 0.61
    graph.check_weights(weights)
    widths = {c.name: c.out for c in graph.convs()}
    for c in teacher.graph.convs():
        units = widths[c.name] // 4 if c.name.startswith("up") else widths[c.name]
        assert units in recipe.widths or c.name == "tail", c.name
    assert widths["tail"] == 3
    smaller = [c.name for c in teacher.graph.convs() if widths[c.name] < c.out]
    print("narrowed:", ", ".join(smaller))
    assert {"head", "body", "up0", *(f"b{i}_conv2" for i in range(16))} <= set(smaller)


def test_the_papers_student_keeps_what_the_loss_depends_on() -> None:
    """By Taylor importance: here all filters but every second one inside the blocks."""
    recipe, teacher = load_recipe("paper"), teacher_of(srresnet())
    assert recipe.student.importance == "taylor"
    matter = {c.name: np.full((3, c.out), 1.0) for c in teacher.graph.convs()}
    for i in range(16):
        matter[f"b{i}_conv1"][:, ::2] = 1e-6
    graph, _ = narrowed(teacher, recipe, matter)
    assert 0.59 <= counted(graph) / counted(teacher.graph) <= 0.61
    widths = {c.name: c.out for c in graph.convs()}
    inner = [widths[f"b{i}_conv1"] for i in range(16)]
    assert max(inner) <= 32
    assert sum(inner) <= 16 * 32 and widths["head"] >= 56


def test_narrowing_reaches_every_part_of_the_generator() -> None:
    teacher, recipe = teacher_of(srresnet(blocks=2)), by_l1(load_recipe("paper"))
    tight = replace(recipe, student=replace(recipe.student, budget="params=20%"))
    graph, _ = narrowed(teacher, tight)
    assert counted(graph) <= 0.2 * counted(teacher.graph)
    widths = {c.name: c.out for c in graph.convs()}
    assert all(widths[c.name] < c.out for c in teacher.graph.convs() if c.name != "tail")
    # The tail keeps its three colours and reads fewer channels.
    assert graph.channels["up1_act"] < 64
    assert len(prune_groups(graph)) == len(prune_groups(teacher.graph))
    beyond = replace(recipe, student=replace(recipe.student, budget="params=0.1%"))
    with pytest.raises(BadConfig, match=r"'params=0\.1%' is out of reach"):
        narrowed(teacher, beyond)


def test_the_paper_preset_is_the_papers_schedule() -> None:
    recipe = load_recipe("paper")
    assert recipe.student.family == "teacher" and recipe.student.budget == "params=60%"
    assert recipe.teacher_floor_db == 31.8
    prune = recipe.stages[-1]
    assert (prune.kind, prune.method, prune.keep) == ("prune", "magnitude", 0.82)
    assert prune.rounds > 1  # iterative
    last = legs_of(recipe)[-1]
    assert last.shrink is not None
    assert cubic_keep(prune.keep, last.shrink) == pytest.approx(0.82)


def test_presets_are_files_of_their_own_name() -> None:
    from edgesr import resources

    for path in Path(resources.presets()).glob("*.toml"):
        assert load_recipe(path.stem).name == path.stem


def test_the_gan_preset_is_the_realistic_track() -> None:
    recipe = load_recipe("gan")
    assert recipe.data.degrade == "web" and recipe.data.cache_teacher
    assert "bsds_*" in recipe.data.exclude  # for research only
    assert [s.kind for s in recipe.stages] == ["distill", "gan"]
    for stage in recipe.stages:
        # Nothing pulls towards the photograph, whose detail the low resolution has lost.
        assert stage.loss.pixel == 0 < stage.loss.teacher
    assert recipe.data.truth == "teacher"
    # Head, 16 convolutions of 32 channels, tail and anchor to 3 · 4² channels, by hand.
    body, head = 16 * (32 * 32 * 9 + 32), 3 * 32 * 9 + 32
    tail, anchor = 32 * 48 * 9 + 48, 3 * 48 + 48
    graph = first_net(recipe, None, None)[1].graph
    slopes = sum(layer.kind == "act" for layer in graph.layers)  # `counted` has PReLUs in mind
    assert counted(graph) - slopes == head + body + tail + anchor
