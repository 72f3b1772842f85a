"""A cohort on disk: its files, columns, targets and axis."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.cohort.checksums import ChecksumCache, file_sha256
    from datasets.cohort.cohort import Cohort
    from datasets.cohort.names import (
        AXIS_FILE,
        SAMPLE_ID,
        SAMPLES_FILE,
        SCAN,
        SCANS_FILE,
        SPECTRA_FILE,
        SPECTRAL_FILES,
    )
    from datasets.cohort.roles import (
        ROLES_FILE,
        UNNAMED_AXIS,
        Roles,
        read_cohort_yaml,
        read_roles,
        read_units,
    )
    from datasets.cohort.table import (
        LARGEST_NUMBER,
        MISSING_TEXT,
        as_numbers,
        as_text,
        csv_rows,
        decimal_hint,
        find_spellings,
        is_missing,
        not_utf8,
        read_header,
        read_table,
        require_columns,
        require_file,
        spelled_alike,
    )
    from datasets.cohort.targets import (
        AUTO,
        MISSING_LABEL,
        SEVERAL_COLUMNS,
        TASKS,
        UNLABELLED,
        TargetScaler,
        about_positive,
        has_no_label,
        in_order,
        labels_text,
        match_targets,
        negative_first,
        spread_texts,
        summarise_targets,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
