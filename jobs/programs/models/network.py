"""From a resolved `model` section to the network that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from jobs.programs.models.dense import CNN, MLP
from jobs.programs.models.recurrent import LSTMClassifier, LSTMLanguageModel
from jobs.programs.models.resnet import ResNet
from jobs.programs.models.sequential import Sequential
from jobs.programs.models.setting import Setting
from jobs.programs.models.transformer import Transformer
from jobs.programs.models.vit import ViT
from jobs.programs.user_code import build_own_model, build_plugin

NETWORKS: Mapping[str, Callable[[dict[str, Any], Setting, nnx.Rngs], nnx.Module]] = {
    "transformer": Transformer,
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "vit": ViT,
    "lstm": LSTMClassifier,
    "lstm_lm": LSTMLanguageModel,
    "sequential": Sequential,
    "import": build_own_model,
    "plugin": build_plugin,
}


def build_network(model: dict[str, Any], setting: Setting, rngs: nnx.Rngs) -> nnx.Module:
    """A fresh network.

    Args:
        model: the resolved `model` section.
        setting: formats, mesh, remat.
        rngs: random streams for parameters and dropout.
    """
    return NETWORKS[model["type"]](model, setting, rngs)
