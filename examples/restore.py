"""Use what a job made with nothing of Meshyard installed: plain Orbax, plain safetensors, plain JAX, plain xarray.

    python examples/restore.py --checkpoint ckpt/400 --safetensors params.safetensors --posterior posterior.nc

Restores a transformer's checkpoint onto one device, whatever mesh saved it, sees that the safetensors file holds the same
parameters, writes a little text with them, and prints the posterior table of a sampling job.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from orbax.checkpoint import v1 as ocp
from safetensors.numpy import load_file

EPSILON = 1e-6
ROTARY_BASE = 10_000.0


def restore(folder: Path) -> tuple[dict, dict, dict]:
    """The parts `state`, `data` and `meta` of a checkpoint, on this process's first device."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = ocp.checkpointables_metadata(str(folder)).metadata["state"]
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=one), shapes)
    found = ocp.load_checkpointables(str(folder), {"state": target, "data": None, "meta": None})
    return found["state"], found["data"], found["meta"]


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """X / rms(x) · scale over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON) * scale


def rotate(x: jax.Array) -> jax.Array:
    """Rotary positions of (length, heads, features)."""
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[0])[:, None] * ROTARY_BASE ** (-jnp.arange(half) / half)
    cos, sin, first, second = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None], x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def logits(params: dict, model: dict, tokens: jax.Array) -> jax.Array:
    """(length,) tokens → (length, vocab_size), from parameters by dotted path."""
    x = params["embed.embedding"][tokens]
    if model["positions"] == "learned":
        x = x + params["position.embedding"][: len(tokens)]
    mask = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
    for i in range(model["n_layers"]):
        block = f"blocks.{i}."
        h = rms_norm(x, params[block + "attention_norm.scale"])
        q, k, v = jnp.einsum("ld,dthf->tlhf", h, params[block + "attention.qkv.kernel"])
        if model["positions"] == "rotary":
            q, k = rotate(q), rotate(k)
        scores = jnp.where(mask, jnp.einsum("qhf,khf->hqk", q, k) / q.shape[-1] ** 0.5, -jnp.inf)
        mixed = jnp.einsum("hqk,khf->qhf", jax.nn.softmax(scores), v)
        x = x + jnp.einsum("lhf,hfd->ld", mixed, params[block + "attention.out.kernel"])
        h = rms_norm(x, params[block + "mlp_norm.scale"])
        x = x + jax.nn.gelu(h @ params[block + "mlp.up.kernel"]) @ params[block + "mlp.down.kernel"]
    head = params["embed.embedding"].T if model["tie_embeddings"] else params["head.kernel"]
    return rms_norm(x, params["norm.scale"]) @ head


def write(params: dict, model: dict, prompt: bytes, length: int, seed: int = 0) -> str:
    """`length` more bytes after a prompt, drawn at temperature 0.8."""
    context = model["context"]

    @jax.jit
    def draw(window: jax.Array, last: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.categorical(key, logits(params, model, window)[last] / 0.8)

    tokens = list(prompt)
    for key in jax.random.split(jax.random.key(seed), length):
        window = tokens[-context:]
        padded = jnp.asarray(window + [0] * (context - len(window)))
        tokens.append(int(draw(padded, len(window) - 1, key)))
    return bytes(tokens).decode("utf-8", "replace")


def same_parameters(params: dict, file: Path) -> int:
    """Compare with a safetensors file; gives how many tensors agree. Raises SystemExit where one differs."""
    tensors = load_file(file)
    if set(tensors) != set(params):
        sys.exit(f"{file} and the checkpoint name different parameters")
    for name, tensor in tensors.items():
        if not np.array_equal(tensor, np.asarray(params[name])):
            sys.exit(f"{name} differs between safetensors and the checkpoint")
    return len(tensors)


def print_posterior(file: Path) -> None:
    """Mean, sd and quantiles of every scalar in the group `posterior` of a NetCDF file."""
    posterior = xr.open_dataset(file, group="posterior", engine="h5netcdf")
    print(f"{'':12}{'mean':>9}{'sd':>9}{'5 %':>9}{'50 %':>9}{'95 %':>9}")
    for name, site in posterior.data_vars.items():
        draws = site.values.reshape(site.shape[0] * site.shape[1], -1)
        for i, column in enumerate(draws.T):
            label = f"{name}[{i}]" if site.ndim > 2 else str(name)
            row = (column.mean(), column.std(ddof=1), *np.quantile(column, (0.05, 0.5, 0.95)))
            print(f"{label:12}" + "".join(f"{value:9.2f}" for value in row))


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--safetensors", type=Path, required=True)
    parser.add_argument("--posterior", type=Path)
    parser.add_argument("--prompt", default="def ")
    parser.add_argument("--length", type=int, default=200)
    options = parser.parse_args()
    state, data, meta = restore(options.checkpoint.resolve())
    spec = json.loads(meta["resolved_spec"])
    tensors = same_parameters(state["params"], options.safetensors)
    mesh = json.loads(meta["mesh_axes"])
    print(
        f"step {meta['step']} of {spec['steps']}, saved on mesh {mesh}, next batch {data['next_index']}; {tensors} tensors agree\n"
    )
    print(write(state["params"], spec["model"], options.prompt.encode(), options.length))
    if options.posterior:
        print()
        print_posterior(options.posterior)


if __name__ == "__main__":
    main()
