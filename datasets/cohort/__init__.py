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
    from datasets.cohort.cohort_yaml import read_cohort_yaml
    from datasets.cohort.positive_class import about_positive, labels_text, negative_first
    from datasets.cohort.roles import MISSING_LABEL, ROLES_FILE, SAMPLE_ID, Roles, in_order
    from datasets.cohort.scan_rows import SCAN
    from datasets.cohort.spelling import find_spellings, spelled_alike
    from datasets.cohort.table import (
        DECIMAL_COMMA,
        LARGEST_NUMBER,
        MISSING_TEXT,
        as_numbers,
        find_separator,
        is_missing,
        one_line,
        read_table,
        require_columns,
        require_file,
    )
    from datasets.cohort.target_scaler import TargetScaler
    from datasets.cohort.targets import (
        AUTO,
        SEVERAL_COLUMNS,
        spread_texts,
        summarise_targets,
    )
    from datasets.cohort.units import UNNAMED_AXIS, read_units
else:
    __getattr__ = lazy_exports(__name__, __file__)
