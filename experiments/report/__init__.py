"""The report page of a run."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.report.report_content import content_of, sample_source
    from experiments.report.report_page import check_sections, render_report, write_report
    from experiments.report.report_payload import pack_samples
    from experiments.report.result_pages import (
        ResultPages,
        write_images,
        write_images_of,
        write_named_figures,
    )
    from experiments.report.words import Words, names_of_kinds
else:
    __getattr__ = lazy_exports(__name__, __file__)
