"""A user's own modules and losses: imported here, in the child of the job that names them, and nowhere else."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jobs.errors import UserFault

PLUGINS = "meshyard.models"
Named = Mapping[str, Any]
Loss = Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]


def install(folders: Sequence[Path]) -> None:
    """Let the modules in these folders be imported from now on."""
    sys.dont_write_bytecode = True  # the folders are read only
    sys.path[:0] = [str(folder) for folder in folders]
    importlib.invalidate_caches()


def resolve(named: Named, pointer: str) -> Any:
    """What a `{"type": "import", "target": "module:name"}` names. Whatever its module raises at import is raised here.

    Raises:
        UserFault: `user_code_error`, where the name is not there after all.
    """
    module_name, _, name = named["target"].partition(":")
    found: Any = importlib.import_module(module_name)
    if not _is_of_a_bundle(found):
        message = f"module {module_name} of the bundle is hidden by an installed one of the same name: rename yours"
        raise UserFault("user_code_error", message, f"{pointer}/target")
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserFault("user_code_error", f"module {module_name} defines no {name}", f"{pointer}/target")
        found = getattr(found, part)
    return found


def build_own_model(model: dict[str, Any], _setting: Any, rngs: nnx.Rngs) -> nnx.Module:
    """A fresh module of a user's own: `Net(**config, rngs=rngs)`.

    Raises:
        UserFault: `user_code_error`, where that is no `nnx.Module`.
    """
    return _built(resolve(model, "/model"), model["target"], model["config"], rngs)


def build_plugin(model: dict[str, Any], _setting: Any, rngs: nnx.Rngs) -> nnx.Module:
    """A fresh module that the worker's operator has installed: the entry point of its name in the group `meshyard.models`.

    Raises:
        UserFault: `user_code_error`, where it is not there, or gives no `nnx.Module`.
    """
    found = next(iter(entry_points(group=PLUGINS, name=model["name"])), None)
    if found is None:
        raise UserFault("user_code_error", f"no plugin {model['name']} is installed on this worker", "/model/name")
    return _built(found.load(), model["name"], model["config"], rngs)


def _built(make: Any, name: str, config: dict[str, Any], rngs: nnx.Rngs) -> nnx.Module:
    found = make(**config, rngs=rngs)
    if not isinstance(found, nnx.Module):
        message = f"{name} gave a {type(found).__name__}, and a job trains an nnx.Module"
        raise UserFault("user_code_error", message, "/model")
    return found


def own_loss(loss: dict[str, Any]) -> Loss:
    """A loss of a user's own: `loss(model, batch)` gives a scalar and a dictionary of scalars, or the scalar alone."""
    found = resolve(loss, "/loss")

    def called(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given = found(model, batch)
        value, metrics = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        value = jnp.asarray(value)
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            message = f"{loss['target']} gave {value.dtype} of shape {value.shape}; a loss is one real number: take its mean"
            raise UserFault("user_code_error", message, "/loss/target")
        if not isinstance(metrics, dict) or any(jnp.shape(metric) != () for metric in metrics.values()):
            message = f"{loss['target']} must give (scalar, metrics), and every one of metrics must be a scalar, too"
            raise UserFault("user_code_error", message, "/loss/target")
        return value, metrics

    return called


def own_posterior(model: dict[str, Any]) -> Callable[..., None]:
    """A NumPyro function of a user's own, called with the columns of its data and with `config`, all by name.

    Raises:
        UserFault: `user_code_error`, where the target is no function, or takes other arguments than the job binds.
    """
    found = resolve(model, "/model")
    if not callable(found) or inspect.isclass(found):
        message = f"{model['target']} is a {type(found).__name__}, and a sampling job takes a NumPyro function of its data"
        raise UserFault("user_code_error", message, "/model/target")

    def own_posterior(**data: Any) -> None:
        _check_call(found, model, data)
        found(**data, **model["config"])

    return own_posterior


def _check_call(found: Callable[..., Any], model: Named, data: Mapping[str, Any]) -> None:
    """Whether a function takes these columns, told before Python would, and in terms of the job."""
    twice = sorted(data.keys() & model["config"].keys())
    if twice:
        raise UserFault(
            "user_code_error", f"{twice[0]} is a column of the data and in model.config: leave one out", "/model/config"
        )
    try:
        signature = inspect.signature(found)
        signature.bind(**data, **model["config"])
    except TypeError as error:
        message = (
            f"{model['target']} cannot be called with the columns {', '.join(data)}: {error}."
            " Bind the arguments that it has with data.args; null leaves a column out"
        )
        raise UserFault("user_code_error", message, "/data/args") from error


def came_through(error: BaseException) -> bool:
    """Whether an exception passed through code of a bundle."""
    folders = [f"{Path(folder).resolve()}/" for folder in sys.path[:2]]
    frames = traceback.extract_tb(error.__traceback__)
    return any(str(Path(frame.filename).resolve()).startswith(folder) for frame in frames for folder in folders)


def _is_of_a_bundle(module: Any) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    first = {str(Path(place).resolve()) for place in places if place}
    return any(place.startswith(str(Path(folder).resolve()) + "/") or place == str(Path(folder).resolve())
               for place in first for folder in sys.path[:2])  # fmt: skip
