"""From a configuration to data, model, loss and handlers."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.builders.automatic import choose_automatically
    from experiments.builders.budget import about_budget, derive_budget, keep_budget
    from experiments.builders.data import (
        Data,
        GivenCohort,
        build_data,
        configured_transforms,
        digest_memory,
        draw_groups,
        evaluation_loader,
        read_cohort,
        with_loaders,
    )
    from experiments.builders.handlers import (
        RunHandlers,
        attach_training,
        attach_validation,
        build_handlers,
    )
    from experiments.builders.model import (
        build_configured_optimizer,
        build_evaluator,
        build_loss,
        build_model_and_loss,
        build_network,
        hide_modality,
        used_modalities,
    )
    from experiments.builders.split import make_folds, split_cohort, split_fold
else:
    __getattr__ = lazy_exports(__name__, __file__)
