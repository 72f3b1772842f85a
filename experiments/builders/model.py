"""From a configuration to a model, its loss and its optimiser."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from engine.losses import choose_loss
from engine.optim import OPTIMIZERS, GroupSettings, build_optimizer
from experiments.builders.data import Data
from experiments.builders.loss import build_loss
from experiments.builders.modalities import check_modalities
from experiments.config import Config, OptimizerConfig, construct, find_named, parameter_types
from models import MODELS


def build_model_and_loss(config: Config, data: Data, device: torch.device) -> tuple[nn.Module, Any]:
    """The configured model, and its loss on the device.

    Args:
        config: Names both and their parameters.
        data: What a constructor may want to know of it is offered.
        device: Where the loss's tensors go; the trainer moves the model.

    Raises:
        UsageError: A name is unknown, or its parameters do not fit.
    """
    # Whatever a constructor may want to know of the data; it is given what it names.
    offered = {
        "tab_dim": data.tab_dim,
        "spec_len": data.spec_len,
        "num_classes": data.num_classes,
    }
    model_class = find_named(config.model.name, MODELS, "model.name")
    check_modalities(config.model.name, model_class, data)
    model = construct(model_class, config.model.params, "model.params", offered)
    loss = build_loss(
        config.loss.name or "",
        config.loss.params,
        data.cohort.task,
        data.train_targets(),
        data.num_classes,
    )
    return model, choose_loss(model, loss.to(device))


def build_configured_optimizer(
    settings: OptimizerConfig, model: nn.Module
) -> torch.optim.Optimizer:
    """The configured optimiser of a model's parameters.

    Args:
        settings: Its section of the configuration.
        model: Has the parameters.

    Raises:
        UsageError: A name is unknown, or its parameters do not fit.
    """
    cls = find_named(settings.name, OPTIMIZERS, "optimizer.name")

    def build(**params: Any) -> torch.optim.Optimizer:
        return build_optimizer(
            model,
            cls,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            groups=[GroupSettings(**group.model_dump()) for group in settings.groups],
            layer_decay=settings.layer_decay,
            **params,
        )

    # Checked as its own: what else it takes is in keys beside `params`.
    own = inspect.signature(cls).parameters
    taken = [p for n, p in own.items() if n not in ("params", *OptimizerConfig.model_fields)]
    build.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    build.__name__, build.__annotations__ = cls.__name__, parameter_types(cls)
    return construct(build, settings.params, "optimizer.params")  # type: ignore[no-any-return]
