"""A trained model out of its checkpoint: built anew on one device from the card beside it, its parameters put in, in eval mode."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jobs.errors import MeshyardError
from jobs.programs import stored
from jobs.programs.card import CARD, Card
from jobs.programs.mesh import Layout, build_mesh
from jobs.programs.models.network import build_network
from jobs.programs.models.setting import Setting
from jobs.programs.module import ModuleForm


class CannotLoad(MeshyardError):
    """A checkpoint that no model can be made of here; the text says why and what to do."""


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        module: in eval mode: no dropout, batch statistics as they were gathered.
        card: what lies beside the checkpoint as `card.json`.
        folder: the checkpoint.
    """

    module: nnx.Module
    card: Card
    folder: Path

    @property
    def spec(self) -> dict[str, Any]:
        """The resolved spec of the job."""
        return self.card["resolved_spec"]


def load(folder: Path) -> Trained:
    """The model of a checkpoint, on the first device there is.

    Args:
        folder: the checkpoint, whose bytes the caller has verified.

    Raises:
        CannotLoad: it is a sampler's, or not a checkpoint of ours, or asks for 64 bits that are turned off.
    """
    card = read_card(folder)
    spec = card["resolved_spec"]
    if card["kind"] != "train":
        message = f"{card['job']} is a sampling job: it has draws and no model to call. Get them with `meshyard artifacts get`"
        raise CannotLoad(f"{message} {card['job']} posterior.nc` and open them with ArviZ.")
    if spec["precision"]["x64"] and not jax.config.read("jax_enable_x64"):
        raise CannotLoad('it was trained with 64 bits: call jax.config.update("jax_enable_x64", True) first')
    if spec["model"]["type"] == "import":
        how = "build it from your code and put in the arrays of the checkpoint, as docs/checkpoints.md shows"
        raise CannotLoad(f"its model is code of its owner's: {how}")
    layout = Layout(build_mesh({"data": 1}), ())
    form = ModuleForm(builder(spec, layout))
    wanted = {
        name: {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout.replicated) for path, leaf in section.items()}
        for name, section in jax.eval_shape(lambda: form.fresh(0)).items()
        if name in stored.PARAMETERS
    }
    module = form.give({**form.fresh(spec["seed"]), **stored.read(folder, wanted)})
    return Trained(still(module), card, folder)


def builder(spec: dict[str, Any], layout: Layout) -> Callable[[nnx.Rngs], nnx.Module]:
    """What makes a fresh model of a resolved spec, without its data."""
    setting = Setting.of(spec, layout)
    return lambda rngs: build_network(spec["model"], setting, rngs)


def still(module: nnx.Module) -> Any:
    """A module as it is evaluated."""
    return nnx.view(module, deterministic=True, use_running_average=True, raise_if_not_found=False)


def read_card(folder: Path) -> Card:
    """The card of a checkpoint.

    Raises:
        CannotLoad: there is none, so it is none of ours.
    """
    try:
        card: Card = json.loads((folder / CARD).read_text())
    except (OSError, ValueError) as error:
        raise CannotLoad(f"{folder} holds no {CARD}: give the folder of a checkpoint, or a job's id") from error
    return card
