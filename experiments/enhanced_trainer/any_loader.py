"""Loaders of the user's own: what they yield, made into the batches that the engine takes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.batches import Batch
from datasets.cohort import TargetScaler
from datasets.errors import UsageError, nearest
from engine.checkpointing import preserve_rng_state

TARGET_KEYS = ("target", "label")
KEYS = ("spectra", "mask", "tabular", *TARGET_KEYS, "sample_id", "aux")
IN_ORDER = ("spectra", "mask", "tabular", "label")
BATCH_PARTS = ("spectra", "mask", "tabular", "target", "sample_id", "to")


class AnyLoader:
    """A loader whose batches are :class:`datasets.batches.Batch`, whatever the inner one yields.

    That may be batches already, dicts (``spectra``, ``tabular``, ``target`` or ``label``; ``mask``,
    ``sample_id`` and ``aux``, a dict of further targets for the loss, where they are) or tuples
    (spectra, mask, tabular, label), of tensors or arrays. Without a mask all scans are real;
    without names the samples are numbered in the loader's order. Whole-number labels [B] are
    classes, [B, T] labels that are there or not; floating point ones are values to regress.

    Once known, ``task`` makes targets what its losses take, and ``num_classes`` refuses classes
    beyond it. By ``scaler`` the values of a regression are standardised; None leaves their units.
    """

    def __init__(self, loader: Any, name: str) -> None:
        if not hasattr(loader, "__len__") or not hasattr(loader, "__iter__"):
            raise UsageError(
                f"{name} must have a length and yield batches again in each epoch, such as a "
                f"DataLoader or a list of batches, not a {type(loader).__name__}"
            )
        if len(loader) == 0:
            raise UsageError(f"{name} is empty: there is no batch")
        self.loader = loader
        self.name = name
        self.task: str | None = None
        self.num_classes: int | None = None
        self.scaler: TargetScaler | None = None

    @property
    def batch_sampler(self) -> Any:
        """The inner loader's, so that its epochs are set and resumed."""
        return getattr(self.loader, "batch_sampler", None)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """The batches of one epoch, checked."""
        for batch in self._checked():
            target = batch.target
            if self.scaler is not None:
                values = self.scaler.standardize(target.cpu().numpy())
                target = torch.from_numpy(values).to(target.device)
            elif self.task in ("multilabel", "regression"):
                target = target.float()
            yield batch if target is batch.target else replace(batch, target=target)

    def _checked(self) -> Iterator[Any]:
        seen = 0
        for number, item in enumerate(self.loader):
            batch = to_batch(item, f"{self.name}, batch {number}", seen, self.task)
            if self.num_classes is not None:
                self._check_classes(batch.target, number)
            seen += len(batch.sample_id)
            yield batch

    def fit_scaler(self) -> TargetScaler:
        """A scaler of all values of a regression; one pass, the random streams are left alone."""
        with preserve_rng_state():
            return TargetScaler().fit(
                np.concatenate([batch.target.cpu().numpy() for batch in self._checked()])
            )

    def first(self) -> Any:
        """The first batch, to look at."""
        return next(iter(self))

    def _check_classes(self, target: Tensor, number: int) -> None:
        # On a GPU a class that does not exist would end the process; and asking there waits.
        if target.is_floating_point() or target.device.type != "cpu" or not len(target):
            return
        low, high = int(target.min()), int(target.max())
        if low < 0 or high >= (self.num_classes or 0):
            raise UsageError(
                f"{self.name}, batch {number}: label {low if low < 0 else high}, but the model's "
                f"logits are for the classes 0 to {(self.num_classes or 0) - 1}"
            )


def to_batch(item: Any, where: str, seen: int = 0, task: str | None = None) -> Any:
    """Make a batch of what a loader yielded; errors name ``where`` it comes from.

    Samples without names are numbered from ``seen`` on. Values to regress become float64 [B, T].
    """
    if all(hasattr(item, part) for part in BATCH_PARTS):
        if task != "regression":
            return item
        return replace(item, target=_as_target(item.target, where, task))
    if isinstance(item, Mapping):
        parts = _from_mapping(item, where)
    elif isinstance(item, (tuple, list)):
        if len(item) != len(IN_ORDER):
            raise UsageError(
                f"{where}: {len(item)} parts, expected 4: (spectra, mask, tabular, label); mask "
                "may be None"
            )
        parts = dict(zip(IN_ORDER, item, strict=True))
    else:
        raise UsageError(
            f"{where}: a {type(item).__name__}, expected a Batch, a dict or a tuple (spectra, "
            "mask, tabular, label)"
        )
    spectra = _floats(parts["spectra"], "spectra", where, 3, "[B, S, L]")
    tabular = _floats(parts["tabular"], "tabular", where, 2, "[B, D]")
    mask = _as_mask(parts.get("mask"), spectra, where)
    target = _as_target(next(parts[key] for key in TARGET_KEYS if key in parts), where, task)
    names = _names(parts.get("sample_id"), len(spectra), seen)
    aux = parts.get("aux")
    if aux is not None:
        if not isinstance(aux, Mapping):
            raise UsageError(f"{where}: aux is a {type(aux).__name__}, expected a dict of targets")
        aux = {n: _as_target(part, f"{where}, aux '{n}'", None) for n, part in aux.items()}
    sized: dict[str, Any] = {"spectra": spectra, "tabular": tabular, "label": target}
    sized["sample_id"] = names
    sized |= {f"aux.{name}": part for name, part in (aux or {}).items()}
    if len({len(part) for part in sized.values()}) > 1:
        counts = ", ".join(f"{name} {len(part)}" for name, part in sized.items())
        raise UsageError(f"{where}: the parts differ in their number of samples: {counts}")
    return Batch(spectra, mask, tabular, target, names, aux=aux)


def _from_mapping(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = [str(key) for key in item if key not in KEYS]
    for key in KEYS:
        # A mask that is misspelt must not pass for none; what is unlike any key is another's.
        close = [] if key in item else get_close_matches(key, unknown, n=1, cutoff=0.75)
        both_targets = key in TARGET_KEYS and any(other in item for other in TARGET_KEYS)
        if close and not both_targets:
            raise UsageError(f"{where}: unknown key '{close[0]}'; did you mean '{key}'?")
    for key in ("spectra", "tabular"):
        if key not in item:
            raise UsageError(f"{where}: no key '{key}'{nearest(key, item)}")
    targets = [key for key in TARGET_KEYS if key in item]
    if len(targets) != 1:
        found = "both 'target' and 'label'" if targets else "neither 'target' nor 'label'"
        raise UsageError(f"{where}: {found}; expected one of them")
    return dict(item)


def _tensor(value: Any, name: str, where: str) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(value) if isinstance(value, Sequence) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{where}: {name} is a {type(value).__name__}, expected a tensor or an array"
        ) from error


def _floats(value: Any, name: str, where: str, dimensions: int, shape: str) -> Tensor:
    tensor = _tensor(value, name, where)
    if tensor.ndim != dimensions:
        flat = (dimensions, tensor.ndim) == (3, 2)
        hint = "; where each sample has one scan, give spectra[:, None]" if flat else ""
        raise UsageError(f"{where}: {name} has shape {list(tensor.shape)}, expected {shape}{hint}")
    tensor = tensor.float()
    if tensor.device.type == "cpu" and not bool(torch.isfinite(tensor).all()):
        raise UsageError(f"{where}: {name} holds NaN or infinite values; fill them in first")
    return tensor


def _as_mask(value: Any, spectra: Tensor, where: str) -> Tensor:
    shape = spectra.shape[:2]
    if value is None:
        return torch.ones(shape, dtype=torch.bool, device=spectra.device)
    mask = _tensor(value, "mask", where)
    if mask.shape != shape:
        raise UsageError(
            f"{where}: mask has shape {list(mask.shape)}, expected [B, S] = {list(shape)}"
        )
    if mask.dtype != torch.bool:
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise UsageError(f"{where}: mask must be True (or 1) for a real scan, False (0) else")
        mask = mask == 1
    if mask.device.type == "cpu" and not bool(mask.any(dim=1).all()):
        empty = int((~mask.any(dim=1)).nonzero()[0])
        raise UsageError(f"{where}: the mask leaves sample {empty} without a single scan")
    return mask


def _as_target(value: Any, where: str, task: str | None) -> Tensor:
    """Classes long [B], labels that are there (1) or not long [B, T], values float [B, T]."""
    target = _tensor(value, "the label", where)
    if target.ndim not in (1, 2):
        shape = list(target.shape)
        raise UsageError(f"{where}: the label has shape {shape}, expected [B] or [B, T]")
    is_float = target.is_floating_point()
    if is_float and not bool(torch.isfinite(target).all()):
        raise UsageError(f"{where}: the label holds NaN or infinite values")
    if task == "regression":
        return target.double().reshape(len(target), -1)
    if is_float and task != "multilabel":
        return target.float().reshape(len(target), -1)
    if target.ndim == 1 and not is_float:
        return target.long()
    if target.shape[-1] == 1 and task != "multilabel":
        raise UsageError(f"{where}: classes have shape [B], these have [B, 1]; use label[:, 0]")
    if not bool(((target == 0) | (target == 1)).all()):
        raise UsageError(f"{where}: several labels a sample must each be 0 or 1")
    return target.float().reshape(len(target), -1) if is_float else target.long()


def _names(value: Any, samples: int, seen: int) -> list[str]:
    if value is None:
        return [str(seen + number) for number in range(samples)]
    return [str(getattr(name, "item", lambda name=name: name)()) for name in value]
