"""Lightning on the tiny task, by its documentation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl  # type: ignore[import-not-found,unused-ignore]
import torch
from lightning.pytorch.callbacks import (  # type: ignore[import-not-found,unused-ignore]
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from experiments.benchmarks.peers import KEPT_CHECKPOINTS, PATIENCE
from experiments.benchmarks.tiny_task import Mark, TinyTask


class PlainModule(pl.LightningModule):  # type: ignore[misc,unused-ignore]
    """Forward, loss and step."""

    def __init__(self, task: TinyTask) -> None:
        super().__init__()
        self.task = task
        self.mlp = task.make_model()
        self.criterion = nn.CrossEntropyLoss()

    def training_step(self, batch: Any, index: int) -> Tensor:
        """The loss; Lightning does the rest."""
        points, target = batch
        return self.criterion(self.mlp(points), target)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        """Torch's default AdamW."""
        task = self.task
        return AdamW(self.mlp.parameters(), task.lr, weight_decay=task.weight_decay)


class MeasuredModule(PlainModule):
    """With metrics and a cosine.

    Args:
        task: What to train on.
        each_step: Call the metric objects, as Lightning's documentation does, which computes
            each step's value too; else only update them.
    """

    def __init__(self, task: TinyTask, each_step: bool) -> None:
        super().__init__(task)
        self.each_step = each_step
        self.scores = nn.ModuleDict(
            {
                f"{side}_{name}": metric()
                for side in ("fit", "val")
                for name, metric in (("accuracy", BinaryAccuracy), ("auroc", BinaryAUROC))
            }
        )

    def _measure(self, batch: Any, side: str) -> Tensor:
        points, target = batch
        logits = self.mlp(points)
        loss: Tensor = self.criterion(logits, target)
        likelier = logits.detach().softmax(dim=1)[:, 1]
        self.log(f"{side}_loss", loss, on_step=False, on_epoch=True, batch_size=len(target))
        for name, metric in self.scores.items():
            if name.startswith(side):
                if self.each_step:
                    metric(likelier, target)
                else:
                    metric.update(likelier, target)  # type: ignore[operator]
                self.log(name, metric, on_step=False, on_epoch=True, batch_size=len(target))
        return loss

    def training_step(self, batch: Any, index: int) -> Tensor:
        """The loss, measured."""
        return self._measure(batch, "fit")

    def validation_step(self, batch: Any, index: int) -> None:
        """Measure the averaged weights."""
        self._measure(batch, "val")

    def configure_optimizers(self) -> Any:
        """AdamW and a cosine that moves each step."""
        optimizer = super().configure_optimizers()
        scheduler = CosineAnnealingLR(optimizer, T_max=self.task.steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class _Loader:
    """Batches in memory; Lightning takes a list for several loaders."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class _Marks(Callback):  # type: ignore[misc,unused-ignore]
    def __init__(self, mark: Mark) -> None:
        self.mark = mark

    def on_train_epoch_start(self, *_: Any) -> None:
        self.mark()

    def on_train_end(self, *_: Any) -> None:
        self.mark()


def minimal(task: TinyTask, folder: Path, mark: Mark) -> nn.Module:
    """The trainer with everything turned off."""
    module = PlainModule(task)
    _fit(task, folder, module, callbacks=[_Marks(mark)], logger=False, enable_checkpointing=False)
    return module.mlp


def full(task: TinyTask, folder: Path, mark: Mark, each_step: bool = True) -> nn.Module:
    """The trainer with its own callbacks and loggers for all features.

    Args:
        task: What to train on.
        folder: For checkpoints and the log.
        mark: Told of each epoch's start and of the end.
        each_step: As for :class:`MeasuredModule`.
    """
    module = MeasuredModule(task, each_step)
    callbacks = [
        _Marks(mark),
        EMAWeightAveraging(decay=task.ema_decay),
        EarlyStopping("val_auroc", mode="max", patience=PATIENCE),
        ModelCheckpoint(
            folder, monitor="val_auroc", mode="max", save_top_k=KEPT_CHECKPOINTS, save_last=True
        ),
    ]
    _fit(
        task,
        folder,
        module,
        val=_Loader(task.pairs("val")),
        callbacks=callbacks,
        gradient_clip_val=task.max_norm,
        logger=CSVLogger(str(folder)),
    )
    return module.mlp


def _fit(task: TinyTask, folder: Path, module: PlainModule, val: Any = None, **params: Any) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that lists are no DataLoaders with workers
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=task.epochs,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **params,
        )
        trainer.fit(module, _Loader(task.pairs("train")), val)
    assert torch.isfinite(next(module.parameters())).all()
