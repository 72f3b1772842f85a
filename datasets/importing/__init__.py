"""From raw files to a cohort: axis, filters, covariates, writing."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.importing.common_axis import AGGREGATES
    from datasets.importing.covariate_join import CovariateTable
    from datasets.importing.import_roles import ImportRoles
    from datasets.importing.import_settings import ImportSettings
    from datasets.importing.raw_import import ImportSummary, RawImport
    from datasets.importing.scan_quality import REASONS, TIC_SPREAD, ScanFilter
else:
    __getattr__ = lazy_exports(__name__, __file__)
