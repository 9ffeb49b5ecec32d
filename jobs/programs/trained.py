"""A trained model out of its checkpoint: built anew on one device from the card beside it, its parameters put in, in eval mode."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
from jobs.spec.models import on_any_device

AVERAGED = "averaged"
"""The section with an average of the parameters: what was evaluated."""


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


def load(folder: Path, trial: int | None = None, target: Callable[..., nnx.Module] | None = None) -> Trained:
    """The model of a checkpoint, on the first device there is. Where an average of its parameters was kept, with that.

    Args:
        folder: the checkpoint, whose bytes the caller has verified.
        trial: the member of an ensemble; None for any other job.
        target: for a model of the job's owner's own, what its `target` names: called as `target(**config, rngs=rngs)`.

    Raises:
        CannotLoad: it is a sampler's, or not a checkpoint of ours, or asks for 64 bits that are turned off, or is of another's code
            that is not given, or of other code than that.
    """
    card = read_card(folder)
    spec = card["resolved_spec"]
    if card["kind"] != "train":
        message = f"{card['job']} is a sampling job: it has draws and no model to call. Get them with `meshyard artifacts get`"
        raise CannotLoad(f"{message} {card['job']} posterior.nc` and open them with ArviZ.")
    if spec["precision"]["x64"] and not jax.config.read("jax_enable_x64"):
        raise CannotLoad('it was trained with 64 bits: call jax.config.update("jax_enable_x64", True) first')
    if spec["model"]["type"] == "import" and target is None:
        named = spec["model"]["target"]
        raise CannotLoad(
            f"its model is its owner's own code, which is not run unasked: import {named} yourself and give it as target="
        )
    _check_trial(spec["ensemble"], trial)
    layout = Layout(build_mesh({"data": 1}), ())
    form = ModuleForm(builder(spec, layout) if target is None else lambda rngs: target(**spec["model"]["config"], rngs=rngs))
    found, fresh = _parameters(folder, layout, trial), form.fresh(spec["seed"])
    _check_fit(found, fresh)
    return Trained(still(form.give({**fresh, **found})), card, folder)


def _check_fit(found: Mapping[str, stored.Flat], fresh: Mapping[str, stored.Flat]) -> None:
    for section, arrays in found.items():
        held = {path: array.shape for path, array in arrays.items()}
        built = {path: array.shape for path, array in fresh.get(section, {}).items()}
        if held != built:
            odd = sorted({path for path, _ in held.items() ^ built.items()})
            raise CannotLoad(f"the model that was built is not the one that was saved: {section} differs in {', '.join(odd[:5])}")


def _check_trial(members: int | None, trial: int | None) -> None:
    if members is None and trial is not None:
        raise CannotLoad("the job is no ensemble: leave trial out")
    if members is not None and (trial is None or not 0 <= trial < members):
        raise CannotLoad(f"the job is an ensemble: say which of its members to load, trial=0 to trial={members - 1}")


def _parameters(folder: Path, layout: Layout, trial: int | None) -> dict[str, stored.Flat]:
    held = stored.shapes(folder)
    source = {name: AVERAGED if name == "params" and AVERAGED in held else name for name in stored.PARAMETERS if name in held}
    wanted = {
        section: {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout.replicated) for path, leaf in held[section].items()
        }
        for section in source.values()
    }
    found = stored.read(folder, wanted)
    return {
        name: {path: value if trial is None else value[trial] for path, value in found[section].items()}
        for name, section in source.items()
    }


def builder(spec: dict[str, Any], layout: Layout) -> Callable[[nnx.Rngs], nnx.Module]:
    """What makes a fresh model of a resolved spec, without its data, for the devices that are here."""
    setting, model = Setting.of(spec, layout), on_any_device(spec)["model"]
    return lambda rngs: build_network(model, setting, rngs)


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
