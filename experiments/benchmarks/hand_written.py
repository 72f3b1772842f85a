"""Training loops as one writes them by hand: with all features, and with none."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from experiments.benchmarks.tiny_task import Mark, TinyTask


def minimal(task: TinyTask, folder: Path, mark: Mark, fused: bool | None = None) -> nn.Module:
    """Forward, loss, backward, step; nothing is measured or kept.

    Args:
        task: What to train on.
        folder: Nothing is written.
        mark: Told of each epoch's start and of the end.
        fused: AdamW's option; None for torch's default.
    """
    model = task.make_model()
    optimizer = AdamW(model.parameters(), task.lr, weight_decay=task.weight_decay, fused=fused)
    criterion = nn.CrossEntropyLoss()
    train = task.pairs("train")
    for _ in range(task.epochs):
        mark()
        model.train()
        for points, target in train:
            optimizer.zero_grad()
            criterion(model(points), target).backward()
            optimizer.step()
    mark()
    return model


def full(task: TinyTask, folder: Path, mark: Mark, fused: bool | None = None) -> nn.Module:
    """What a careful user writes: clipping, cosine, EMA, metrics, validation, checkpoints.

    Args:
        task: What to train on.
        folder: Gets ``last.pt``, ``best.pt`` and ``log.jsonl``.
        mark: Told of each epoch's start and of the end.
        fused: AdamW's option; None for torch's default.
    """
    device = torch.device("cpu")
    model = task.make_model().to(device)
    averaged = copy.deepcopy(model).eval()
    optimizer = AdamW(model.parameters(), task.lr, weight_decay=task.weight_decay, fused=fused)
    scheduler = CosineAnnealingLR(optimizer, T_max=task.steps)
    criterion = nn.CrossEntropyLoss()
    train, val = task.pairs("train"), task.pairs("val")
    best = -1.0
    for epoch in range(1, task.epochs + 1):
        mark()
        model.train()
        scores = _Scores()
        for points, target in train:
            points, target = points.to(device), target.to(device)
            optimizer.zero_grad()
            logits = model(points)
            loss = criterion(logits, target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), task.max_norm)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                pairs = zip(averaged.parameters(), model.parameters(), strict=True)
                for average, parameter in pairs:
                    average.lerp_(parameter, 1 - task.ema_decay)
            scores.add(loss, logits, target)
        metrics = scores.compute("train/")

        scores = _Scores()
        with torch.no_grad():
            for points, target in val:
                points, target = points.to(device), target.to(device)
                logits = averaged(points)
                scores.add(criterion(logits, target), logits, target)
        metrics |= scores.compute("val/")

        print(f"epoch {epoch}/{task.epochs}", metrics)
        with open(folder / "log.jsonl", "a") as log:
            log.write(json.dumps({"epoch": epoch, **metrics}) + "\n")
        states = {
            "epoch": epoch,
            "model": model.state_dict(),
            "averaged": averaged.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        }
        torch.save(states, folder / "last.pt")
        if metrics["val/auroc"] > best:
            best = metrics["val/auroc"]
            torch.save(states, folder / "best.pt")
    mark()
    return model


class _Scores:
    """Loss, accuracy and AUROC over an epoch."""

    def __init__(self) -> None:
        self.loss, self.correct, self.count = 0.0, 0, 0
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        self.loss += loss.item() * len(target)
        self.correct += int((logits.argmax(dim=1) == target).sum().item())
        self.count += len(target)
        self.scores.append(logits.detach().softmax(dim=1)[:, 1].cpu())
        self.targets.append(target.cpu())

    def compute(self, prefix: str) -> dict[str, float]:
        auroc = roc_auc_score(torch.cat(self.targets).numpy(), torch.cat(self.scores).numpy())
        return {
            f"{prefix}loss": self.loss / self.count,
            f"{prefix}accuracy": self.correct / self.count,
            f"{prefix}auroc": float(auroc),
        }
