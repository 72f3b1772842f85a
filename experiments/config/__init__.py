"""The configuration: its schema, where it is read from, and what a change to it means."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.config.automatic import AUTOMATIC, is_automatic, keep_automatic
    from experiments.config.changed_settings import (
        ATTACH,
        Change,
        changes_between,
        describe_changes,
        refuse_changes,
        refuse_without_effect,
        training_settings,
        unused_settings,
        with_training_settings,
    )
    from experiments.config.components import (
        ComponentConfig,
        Section,
        arguments_for,
        construct,
        find_named,
        metric_name,
        parameter_types,
    )
    from experiments.config.data import IN_FOLDS, SHARED_ROWS, BatchingConfig, DataConfig
    from experiments.config.families import FAMILIES, choose_families, family_override
    from experiments.config.metrics import build_metrics, recompute_metrics
    from experiments.config.names import SUFFIXES, config_names, find_config, section_names
    from experiments.config.report import (
        BASELINE_NAMES,
        FINDINGS,
        LATE_FUSION,
        BaselinesConfig,
        ReportConfig,
        ThresholdConfig,
    )
    from experiments.config.schema import (
        AUXILIARY_TERMS,
        ENSEMBLE,
        Config,
        EarlyStoppingConfig,
        MemberConfig,
        ModelConfig,
        OptimizerConfig,
        SchedulerConfig,
        TermConfig,
        TrainerConfig,
        default_loss,
    )
    from experiments.config.source import (
        all_keys,
        check_config,
        check_written,
        load_config,
        one_line,
        set_key,
        shorten,
    )
    from experiments.config.yaml_text import read_yaml, write_inline, write_yaml
else:
    __getattr__ = lazy_exports(__name__, __file__)
