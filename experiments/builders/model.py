"""From a configuration to a model, its loss and its optimiser."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from datasets.augmentations import PairAugmentation
from datasets.cohort import SPECTRA_FILE, TargetScaler
from datasets.errors import UsageError
from engine.distributed import broadcast_from_main
from engine.evaluator import Evaluator
from engine.losses import FITTING, LOSSES, Term, WeightedLoss, choose_loss, fill_balanced
from engine.metrics import CLASSES, CustomMetric, EpochMetrics
from engine.optim import OPTIMIZERS, GroupSettings, build_optimizer
from experiments.builders.data import TRAIN
from experiments.config import (
    AUTOMATIC,
    ENSEMBLE,
    OptimizerConfig,
    TermConfig,
    construct,
    find_named,
    one_line,
    parameter_types,
)
from models import (
    MODELS,
    ClassicalMember,
    Ensemble,
    LinearPath,
    Members,
    TrainingSet,
    Weighted,
    fit_before_training,
    is_fitted_before,
)

if TYPE_CHECKING:
    from experiments.builders.data import Data
    from experiments.config import ComponentConfig, Config, MemberConfig, ModelConfig


# What is fitted before the training is fitted to so many samples at most; more take minutes.
MOST_FITTED = 5000


def build_model_and_loss(config: Config, data: Data, device: torch.device) -> tuple[nn.Module, Any]:
    """The configured model (moved by the trainer), and its loss on the device."""
    sizes = {"tab_dim": data.tab_dim, "spec_len": data.spec_len, "num_classes": data.num_classes}
    members = config.model.members
    for number, each in enumerate(members if isinstance(members, list) else [config.model]):
        key = "model" if each is config.model else f"model.members.{number}"
        check_modalities(each.name, f"{key}.name", data)
    model = build_network(config.model, sizes, data.cohort.task)
    network = model.network if isinstance(model, LinearPath) else model
    if isinstance(network, Members):
        network = network.networks[0]
    if is_fitted_before(model):
        _fit(model, config, data)
    task, targets = data.cohort.task, torch.from_numpy(data.cohort.targets[data.trained])
    name, params = config.loss.name or "", config.loss.params
    loss = build_loss(name, params, task, targets, data.num_classes)
    return model, choose_loss(network, loss.to(device))


def _fit(model: nn.Module, config: Config, data: Data) -> None:
    """Fit what is fitted before the training, on the main process; sets the samples' offset."""
    train, groups = data.datasets[TRAIN], data.cohort.groups[data.trained]

    def fit() -> tuple[np.ndarray | None, np.ndarray | None, dict[str, Tensor]]:
        rows = data.draw(MOST_FITTED, config.seed)
        of_rows = train.mean_scans(rows), train.tabular[rows], train.targets[rows], groups[rows]
        task, classes = data.cohort.task, len(np.unique(train.targets[rows]))
        if task in CLASSES and classes < data.num_classes:
            raise UsageError(f"model: the {len(rows)} samples drawn to fit it to lack a class")
        fold = _folds(model, data, of_rows[2], of_rows[3], config.seed)
        offset = fit_before_training(model, TrainingSet(*of_rows, task, config.seed, fold))
        if offset is not None and len(rows) < len(train):
            assert isinstance(model, LinearPath)
            others = np.setdiff1d(np.arange(len(train)), rows)
            whole = np.empty((len(train), offset.shape[1]), dtype=np.float32)
            whole[rows] = offset
            whole[others] = model.predict(train.mean_scans(others), train.tabular[others])
            offset = whole
        return offset, fold, model.state_dict()

    train.offset, train.fold, fitted = broadcast_from_main(fit)
    # Not by copying: trees bring their sizes with them.
    model.load_state_dict(fitted)


def _folds(
    model: nn.Module, data: Data, targets: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray | None:
    """The fold of each training sample, where members are to be trained without one; else None.

    They choose weights, as the validation set does. A training on all samples has neither: it takes
    known weights. A mixture of two samples is of two folds.
    """
    from models.classical import inner_fold

    train = data.datasets[TRAIN]
    mixed = any(isinstance(augment, PairAugmentation) for augment in train.augmentations)
    wanted = isinstance(model, Weighted) and model.leaves_out
    apart = bool((data.split[~data.trained] == "val").any())
    if not (wanted and apart) or mixed or len(targets) < len(train):
        return None
    fold = inner_fold(targets, groups, data.cohort.task, seed)
    return fold if fold.max() > 0 else None


def build_network(settings: ModelConfig, sizes: Mapping[str, int], task: str) -> nn.Module:
    """The configured model; ``sizes`` are offered to constructors that have these parameters."""
    if isinstance(settings.members, list):
        return _build_ensemble(settings, settings.members, sizes, task)
    model = _build_members(settings, settings.members, "model", sizes, task)
    if not settings.linear_path:
        return model
    # The linear model sees what the network sees.
    takes = inspect.signature(find_named(settings.name, MODELS, "model.name")).parameters
    both = SPECTRA not in takes and COVARIATES not in takes
    seen = {name: sizes[name] if both or name in takes else 0 for name in (SPECTRA, COVARIATES)}
    try:
        return LinearPath(model, **seen, num_classes=sizes["num_classes"])
    except ValueError as error:
        raise UsageError(f"model.linear_path: {error}") from error


def _build_members(
    settings: ComponentConfig, count: int, key: str, sizes: Mapping[str, int], task: str
) -> nn.Module:
    """A model, or several of it."""
    model_class = _find_model(settings.name, f"{key}.name", task)
    networks = [
        construct(model_class, settings.params, f"{key}.params", sizes) for _ in range(count)
    ]
    return networks[0] if count == 1 else Members(networks)


def _build_ensemble(
    settings: ModelConfig, members: Sequence[MemberConfig], sizes: Mapping[str, int], task: str
) -> nn.Module:
    networks: dict[str, nn.Module] = {}
    classical: dict[str, ClassicalMember] = {}
    for number, member in enumerate(members):
        key, name = f"model.members.{number}", member.name.rpartition(".")[2]
        while name in (*networks, *classical):  # a second one of a name
            name = f"{name}_{number + 1}"
        if member.name not in classical_names(task):
            networks[name] = network = _build_members(member, member.members, key, sizes, task)
            if any(hasattr(part, "compute_loss") for part in (network, *network.children())):
                raise UsageError(
                    f"{key}.name: '{member.name}' brings a loss of its own (compute_loss), but all "
                    "members of an ensemble have the configured loss; train it alone"
                )
            continue
        if member.params or member.members > 1:
            raise UsageError(f"{key}: '{member.name}' has neither params nor several members")
        features = sizes[SPECTRA if member.name.startswith("spectra") else COVARIATES]
        classical[name] = ClassicalMember(member.name, features, sizes["num_classes"], task)
    if not networks:
        raise UsageError(
            "model.members: classical models are not trained; name a network too (choices: "
            f"{', '.join(MODELS)}), or compare them as baselines"
        )
    own = {"networks": networks, "classical": classical}
    ensemble: nn.Module = construct(Ensemble, settings.params, "model.params", own)
    return ensemble


def build_evaluator(
    model: nn.Module,
    loss: Any,
    device: torch.device,
    task: str,
    scaler: TargetScaler | None,
    names: Sequence[str],
    metrics: Sequence[str | CustomMetric] | None = None,
) -> Evaluator:
    """An evaluator of a task's metrics, by default all; ``scaler``: of a regression's targets."""
    targets = names if task == "regression" else ()
    restore = scaler.restore if scaler else None
    return Evaluator(
        model, loss, EpochMetrics(metrics, task=task, restore=restore, targets=targets), device
    )


def build_configured_optimizer(
    settings: OptimizerConfig, model: nn.Module
) -> torch.optim.Optimizer:
    """The configured optimiser of a model's parameters."""
    cls = find_named(settings.name, OPTIMIZERS, "optimizer.name")

    def build(**params: Any) -> torch.optim.Optimizer:
        _try_step(cls, settings, params, next(model.parameters()).device)
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


def _try_step(
    cls: type[torch.optim.Optimizer],
    settings: OptimizerConfig,
    params: Mapping[str, Any],
    device: torch.device,
) -> None:
    """One step on a single weight: some parameters fail only there; any failure is a ValueError."""
    probe = torch.nn.Linear(1, 1, bias=False, device=device)
    probe.weight.grad = torch.zeros_like(probe.weight)
    try:
        build_optimizer(probe, cls, settings.lr, settings.weight_decay, **params).step()
    except Exception as error:
        raise ValueError(str(error)) from error


# The argument by which a model is told the size of a modality, and with it that it takes it.
SPECTRA, COVARIATES = "spec_len", "tab_dim"


def check_modalities(name: str, key: str, data: Data) -> None:
    """Refuse a model of spectra where there are none, and one of covariates likewise.

    A class of the user's own may do with no covariates, and is asked itself. ``key`` is that of the
    name.
    """
    cohort = data.cohort
    if not cohort.has_spectra and _needs(name, key, SPECTRA, task=cohort.task):
        raise UsageError(
            f"{key}: '{name}' takes spectra, and the cohort {cohort.root.name} has none "
            f"(no {SPECTRA_FILE}); choose {_without(SPECTRA)}"
        )
    known = name in MODELS or name in classical_names(cohort.task)
    if not data.tab_dim and known and _needs(name, key, COVARIATES, task=cohort.task):
        raise UsageError(
            f"{key}: '{name}' takes covariates, and none is named for the cohort "
            f"{cohort.root.name}; name some by data.numeric and data.categorical, or choose "
            f"{_without(COVARIATES)}"
        )


MODALITIES = {"spectra": SPECTRA, "covariates": COVARIATES}


def used_modalities(settings: ModelConfig, task: str) -> set[str]:
    """What a configured model reads of a sample: ``spectra``, ``covariates`` or both.

    A class of the user's own is taken to read both.
    """
    members = settings.members
    used: set[str] = set()
    for each in members if isinstance(members, list) else [settings]:
        known: Mapping[str, Any] = dict.fromkeys(MODALITIES.values())
        if each.name in MODELS:
            known = inspect.signature(_find_model(each.name, "model.name", task)).parameters
        elif each.name in classical_names(task):
            known = {MODALITIES[each.name.partition("_")[0]]: None}
        used |= {modality for modality, size in MODALITIES.items() if size in known}
    return used


def hide_modality(model: nn.Module, modality: str | None) -> bool:
    """Let a model do without a modality of all samples, as it was trained to; None ends that.

    Returns whether it was trained to: by ``modality_dropout``, in each of its members.
    """
    networks = model.networks if isinstance(model, Members) else [model]
    if not all(getattr(network, "modality_dropout", 0) > 0 for network in networks):
        return False
    for network in networks:
        network.hidden = modality  # type: ignore[assignment]
    return True


def _needs(name: str, key: str, modality: str, task: str) -> bool:
    """Whether a model needs a modality; one whose size is 0 by default can do without."""
    if name in classical_names(task):
        return name.startswith("spectra") == (modality == SPECTRA)
    parameter = inspect.signature(_find_model(name, key, task)).parameters.get(modality)
    return parameter is not None and parameter.default != 0


def _find_model(name: str, key: str, task: str) -> Any:
    """A network's class; the nearest name of an ensemble's member may be of a classical model."""
    of_member = key.startswith("model.members.")
    further: dict[str, Any] = dict.fromkeys(classical_names(task))
    if not of_member:
        further = {whole: whole for whole in (AUTOMATIC, ENSEMBLE)}  # shown, built elsewhere
    return find_named(name, {**MODELS, **further}, key)


def _without(modality: str) -> str:
    """The models that do not need a modality."""
    names = [name for name in MODELS if not _needs(name, "model.name", modality, "")]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def classical_names(task: str) -> tuple[str, ...]:
    """The classical models that can be members of an ensemble."""
    kinds = ("ridge",) if task == "regression" else ("logistic", "pca_logistic")
    found = [f"spectra_{kind}" for kind in (*kinds, "extra_trees")]
    return (*found, f"covariates_{kinds[0]}", "covariates_extra_trees")


# Parameters that may be one number for each class or label.
ONE_EACH = ("class_weights", "pos_weight", "alpha")


def build_loss(
    name: str,
    params: Mapping[str, Any],
    task: str,
    targets: Tensor,
    num_classes: int,
    key: str = "loss",
) -> nn.Module:
    """Build a configured loss; what is ``balanced`` in ``params`` is so by ``targets``.

    ``terms`` of ``weighted`` map a name to ``{name, weight, on, optional, params}``, or to the name
    of a loss alone.
    """
    cls = find_named(name, LOSSES, f"{key}.name")
    fitting = [known for known, tasks in FITTING.items() if task in tasks]
    if name in FITTING and name not in fitting:
        raise UsageError(
            f"{key}.name: '{name}' does not fit task '{task}' (choices: {', '.join(fitting)})"
        )
    params = fill_balanced(params, targets, num_classes)
    for parameter in ONE_EACH:
        given = params.get(parameter)
        if isinstance(given, Sequence) and not isinstance(given, str) and len(given) != num_classes:
            raise UsageError(
                f"{key}.params.{parameter}: {len(given)} numbers given, {num_classes} are needed"
            )
    if cls is WeightedLoss and isinstance(params.get("terms"), Mapping):
        params["terms"] = {
            term: _build_term(spec, f"{key}.params.terms.{term}", task, targets, num_classes)
            for term, spec in params["terms"].items()
        }
    loss: nn.Module = construct(cls, params, f"{key}.params")
    return loss


def _build_term(spec: Any, key: str, task: str, targets: Tensor, num_classes: int) -> Term:
    try:
        term = TermConfig.model_validate(spec)
    except ValidationError as error:
        raise UsageError(one_line(error, spec, TermConfig, key)) from error
    loss = build_loss(term.name, term.params, task, targets, num_classes, key)
    return Term(loss, term.weight, term.on, term.optional)
