"""One process, several GPUs: each batch is split among replicas of the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Replicas(nn.DataParallel[nn.Module]):
    """``torch.nn.DataParallel`` for this project's inputs and outputs.

    Parts differ by one sample at most, outputs may be nested and hold scalars (averaged over the
    samples), and each GPU has its own random number stream. Norms over the batch see their part;
    the first GPU's running statistics count.
    """

    def __init__(self, model: nn.Module, devices: Sequence[int]) -> None:
        super().__init__(model, list(devices))
        for device in self.device_ids[1:]:  # else dropout would be equal in all parts
            torch.cuda.default_generators[device].manual_seed(torch.initial_seed() + device)

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor, **further: Any) -> Any:
        """The model's outputs; each replica finds the ``scan_rows`` of its part from the mask."""
        if len(mask) < 2 * len(self.device_ids):
            return self.module(spectra, mask, tabular, **further)
        offset = further.get("offset")
        return super().forward(
            spectra, mask, tabular, **({} if offset is None else {"offset": offset})
        )

    def scatter(self, inputs: Any, kwargs: Any, device_ids: Sequence[Any]) -> Any:
        """Each GPU's part of the inputs."""
        devices = [torch.device("cuda", device) for device in device_ids]
        parts = split_rows((*inputs, *kwargs.values()), devices)
        plain = len(inputs)
        named = [dict(zip(kwargs, part[plain:], strict=True)) for part in parts]
        return [part[:plain] for part in parts], named

    def gather(self, outputs: Any, output_device: Any) -> Any:
        """The outputs of the whole batch, on the first GPU."""
        return join_rows(outputs, torch.device("cuda", output_device))


def split_rows(
    inputs: Sequence[Tensor], devices: Sequence[torch.device]
) -> list[tuple[Tensor, ...]]:
    """Tensors [B, ...], split along B into one part per device."""
    parts = zip(*(tensor.tensor_split(len(devices)) for tensor in inputs), strict=True)
    return [
        tuple(tensor.to(device, non_blocking=True) for tensor in part)
        for part, device in zip(parts, devices, strict=True)
    ]


def join_rows(outputs: Sequence[Mapping[str, Any]], device: torch.device) -> Mapping[str, Any]:
    """The parts' outputs, nested mappings or sequences, as those of the whole batch."""
    sizes = torch.tensor([float(len(each["logits"])) for each in outputs])
    return _join(outputs, (sizes / sizes.sum()).tolist(), device)


def _join(parts: Sequence[Any], shares: Sequence[float], device: torch.device) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        there = [part.to(device, non_blocking=True) for part in parts]
        if first.ndim:
            return torch.cat(there)
        return sum(share * value for share, value in zip(shares, there, strict=True))
    if isinstance(first, Mapping):
        return {key: _join([part[key] for part in parts], shares, device) for key in first}
    if isinstance(first, (list, tuple)):
        return [_join(values, shares, device) for values in zip(*parts, strict=True)]
    return first
