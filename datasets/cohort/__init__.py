"""A cohort on disk: its files, columns, targets and axis."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.cohort.checksums import ChecksumCache, file_sha256
    from datasets.cohort.cohort import (
        AXIS_FILE,
        SAMPLES_FILE,
        SCANS_FILE,
        SPECTRA_FILE,
        SPECTRAL_FILES,
        Cohort,
    )
    from datasets.cohort.positive_class import about_positive, labels_text, negative_first
    from datasets.cohort.roles import (
        MISSING_LABEL,
        ROLES_FILE,
        SAMPLE_ID,
        UNNAMED_AXIS,
        Roles,
        in_order,
        read_cohort_yaml,
        read_units,
    )
    from datasets.cohort.scan_files import SCAN
    from datasets.cohort.table import (
        DECIMAL_COMMA,
        LARGEST_NUMBER,
        MISSING_TEXT,
        as_numbers,
        find_separator,
        find_spellings,
        is_missing,
        one_line,
        read_table,
        require_columns,
        require_file,
        spelled_alike,
    )
    from datasets.cohort.targets import (
        AUTO,
        SEVERAL_COLUMNS,
        TASKS,
        TargetScaler,
        spread_texts,
        summarise_targets,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
