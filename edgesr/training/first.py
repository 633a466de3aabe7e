"""The network that a run starts from."""

from __future__ import annotations

from collections.abc import Callable

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig
from edgesr.graph.spec import Graph, Weights
from edgesr.models.grow import embed, enlarge, is_plain
from edgesr.models.srresnet import srresnet
from edgesr.models.student import ANCHOR, student
from edgesr.models.table import untrained_weights
from edgesr.pruning.budget import parse_budget
from edgesr.pruning.channels import prune_to
from edgesr.pruning.importance import Sensitivity
from edgesr.sparsity import pattern
from edgesr.training.net import GraphNet
from edgesr.training.recipe import Recipe
from edgesr.training.start import Trained, continued_student, fresh_student


def first_net(
    recipe: Recipe, narrow: Callable[[], tuple[Graph, Weights]], start: Checkpoint | None
) -> tuple[GraphNet, Trained]:
    """The network at the first step, and the same as data.

    `narrow` gives the teacher without its least important channels. The network is `start`
    where one is given (its zeros stay zeros if it was pruned), else what the recipe's
    `[student]` describes. A plain student that an SRGAN recipe is to start from is set into
    SRGAN's generator, which then computes the same. Raises `BadConfig` when it does not fit, or
    was pruned: what grows is dense.
    """
    rep, seed, spec = recipe.reparameterize, recipe.seed, recipe.student
    if start is not None and spec.family == "srgan" and is_plain(start.graph):
        _need_dense(start)
        graph = _generator(recipe)
        trained = Trained(graph, embed(start.graph, start.weights, graph, seed=seed))
        return continued_student(trained, rep=rep, seed=seed), trained
    if spec.grow:
        if start is None:
            raise BadConfig(
                "grow = true needs a student to start from; give --student (or train --network)"
            )
        _need_dense(start)
        grown = enlarge(
            start.graph, start.weights, spec.width, spec.depth, name=recipe.name, seed=seed
        )
        trained = Trained(*grown)
        return continued_student(trained, rep=rep, seed=seed), trained
    if start is not None:
        zeros = pattern(start.weights) != "dense"
        trained = Trained(start.graph, start.weights, keeps_zeros=zeros)
        return continued_student(trained, rep=rep, seed=seed), trained
    if spec.family == "plain":
        graph = student(spec.width, spec.depth, scale=recipe.scale, act=spec.act, name=recipe.name)
        net = fresh_student(graph, rep=rep, seed=seed)
        return net, Trained(graph, net.weights())
    if spec.family == "srgan":
        graph = _generator(recipe)
        trained = Trained(graph, untrained_weights(graph, seed))
    else:
        graph, weights = narrow()
        fresh = spec.init == "fresh"
        trained = Trained(graph, untrained_weights(graph, seed) if fresh else weights)
    return continued_student(trained, rep=rep, seed=seed), trained


def _need_dense(start: Checkpoint) -> None:
    # The anchor of a student that was hardly trained repeats pixels: nearly all of it is zero.
    learned = {k: w for k, w in start.weights.items() if not k.startswith(f"{ANCHOR}.")}
    if pattern(learned) != "dense":
        raise BadConfig(
            f"student '{start.graph.name}' is pruned, and growing would fill its zeros: start from "
            "the network before it was pruned"
        )


def _generator(recipe: Recipe) -> Graph:
    spec, doublings = recipe.student, recipe.scale.bit_length() - 1
    return srresnet(spec.depth, spec.width, upsamples=doublings, name=recipe.name)


def narrowed(
    teacher: Checkpoint, recipe: Recipe, sensitivity: Sensitivity | None = None
) -> tuple[Graph, Weights]:
    """The teacher without its least important channels, within the student's budget.

    `sensitivity` is what Taylor importance needs. Raises `BadConfig` when even the narrowest of
    the recipe's widths is over the budget.
    """
    budget = parse_budget(recipe.student.budget)
    pruned = prune_to(
        teacher.graph,
        teacher.weights,
        cost=budget.cost,
        target=budget.limit(teacher.graph),
        widths=recipe.widths_for(teacher.graph),
        importance=recipe.student.importance,
        sensitivity=sensitivity,
    )
    if not pruned.within_budget:
        raise BadConfig(
            f"[student] budget '{recipe.student.budget}' is out of reach: the teacher is at "
            "the narrowest of the recipe's widths before"
        )
    return Graph(recipe.name, pruned.graph.layers), pruned.weights
