"""The same transformer in PyTorch, trained by hand: a peer of `step` and `accelerator`. Imports PyTorch and NumPy alone.

`python -m benchmarks.torch_loop SPEC TEXT STEPS [--compile] [--device cuda]` trains; it prints seconds per step after ten.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

WARM_STEPS = 10
ROTARY_BASE = 10_000.0
INIT_STD = 0.02


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn pairs of features by their position's angle. x: (batch, heads, length, features)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Block(nn.Module):
    """Attention and a GELU network, each on a normalised input: (batch, length, dim) → the same."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        """Attend, then transform."""
        batch, length, dim = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self.attention_norm(x)).split(dim, dim=-1)
        )
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.down(functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Tokens (batch, length) → logits (batch, length, vocab_size)."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__()
        dim, half = model["dim"], model["dim"] // model["n_heads"] // 2
        self.embed = nn.Embedding(model["vocab_size"], dim)
        self.position = nn.Embedding(model["context"], dim) if model["positions"] == "learned" else None
        self.blocks = nn.ModuleList(Block(dim, model["n_heads"], model["mlp_dim"]) for _ in range(model["n_layers"]))
        self.norm = nn.RMSNorm(dim)
        rates = ROTARY_BASE ** (-torch.arange(half, dtype=torch.float32) / half)
        angles = torch.arange(model["context"], dtype=torch.float32)[:, None] * rates
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=INIT_STD)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits for the token after each position."""
        x = self.embed(tokens)
        angles = None
        if self.position is not None:
            x = x + self.position.weight[: tokens.shape[1]]
        else:
            angles = (self.cos.to(x.dtype), self.sin.to(x.dtype))
        for block in self.blocks:
            x = block(x, angles)
        return functional.linear(self.norm(x), self.embed.weight)


def train(spec: dict[str, Any], tokens: np.ndarray, steps: int, device: str, *, compiled: bool) -> float:
    """Seconds per step with fused AdamW and clipping, over random windows; bfloat16 by autocast where the spec computes in it."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = Transformer(spec["model"]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    low = spec["precision"]["compute"] == "bfloat16"
    context, batch_size = spec["model"]["context"], spec["data"]["batch_size"]
    generator, offsets = np.random.default_rng(0), np.arange(context + 1)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        logits = model(batch[:, :-1])
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))

    measured = torch.compile(loss_of) if compiled else loss_of
    began = time.perf_counter()
    for i in range(steps):
        if i == WARM_STEPS:
            began = _now(device)
        starts = generator.integers(0, len(tokens) - context - 1, batch_size)
        batch = torch.from_numpy(tokens[starts[:, None] + offsets].astype(np.int64))
        batch = batch.pin_memory().to(device, non_blocking=True) if device == "cuda" else batch
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = measured(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (_now(device) - began) / (steps - WARM_STEPS)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    spec, tokens = json.loads(given.spec.read_text()), np.memmap(given.text, np.uint8, mode="r")
    print(train(spec, tokens, given.steps, given.device, compiled=given.compile))


if __name__ == "__main__":
    main()
