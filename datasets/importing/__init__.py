"""From raw files to a cohort: axis, filters, covariates, writing."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.importing.choices import AGGREGATES, REASONS, TIC_SPREAD
    from datasets.importing.imported_cohort import CovariateTable, ImportRoles
    from datasets.importing.raw_import import ImportSettings, ImportSummary, RawImport
    from datasets.importing.scan_intake import ScanFilter
else:
    __getattr__ = lazy_exports(__name__, __file__)
