"""The run's page: ``report/index.html``, one file that needs no network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from datasets.audit import Finding
from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.messages import Message, sentences
from engine.reporting import (
    PLOTLY_CONFIG,
    figure_text,
    figure_texts,
    make_panels,
    metric_message,
    page_template,
    plotly_js,
)
from engine.statistics import Interval
from experiments.analysis import Outcome, about_positive_class, finding_number
from experiments.baselines import about_leaderboard, title_of, verdict
from experiments.config import ComponentConfig, arguments_for, find_named
from experiments.report.figures import (
    PALETTE,
    TEMPLATES,
    Part,
    ReportInput,
    Section,
    about_unranked,
    choices_of,
    outcome_sections,
    reliability_section,
    sections_of,
    styled,
)
from experiments.report.report_content import ReportContent, content_of
from experiments.report.report_payload import as_script, outcome_payload, pack_samples
from experiments.report.words import Words, read_words

NOT_EXPLAINED = "No attributions were computed."
NO_VECTORS = "Embeddings were not stored."
NO_ATTENTION = "Attention was not measured."


def report_parts(examined: ReportInput) -> list[Part]:
    """Parts of the page; where nothing was found out a sentence says so."""
    return [
        Part("importance", "Global importance", sections_of(examined, "importance"), NOT_EXPLAINED),
        Part("embedding", "Embeddings", sections_of(examined, "embedding"), NO_VECTORS),
        Part("attention", "Gates and attention", sections_of(examined, "attention"), NO_ATTENTION),
    ]


REPORT_NAME = "index.html"
# A function is given those of the fields of ReportInput that it names.
OFFERED = tuple(field.name for field in fields(ReportInput) if field.init)
# As the page's script writes it; a line may break at a hyphen (2.51e-05), not at a minus sign.
MINUS = "\N{MINUS SIGN}"
# A page of a run in progress is reloaded so often.
RELOAD_S = 30
# Metrics that lie between 0 and 1, so that an interval can be drawn to scale.
SHARES = (
    *("accuracy", "precision", "recall", "f1", "auroc", "auprc", "balanced_accuracy"),
    *("recall_at_fpr", "specificity_at_sensitivity"),
)
NOT_RANKED = "No ranking: all samples are of one class, or a score is not finite."
NO_LABEL_RANKED = (
    "No ranking: each label is present in all samples or in none, or a score is not finite."
)
NO_TEMPERATURE = "No temperature could be fitted on the validation set: see the warnings above."


def write_report(outcome: Outcome, examined: ReportInput) -> Path:
    """Write ``report/index.html`` of a finished run."""
    own = custom_parts(outcome.config.report.sections, examined)
    content = content_of(outcome, [*report_parts(examined), *own])
    folder = outcome.run_dir / "report"
    folder.mkdir(exist_ok=True)
    write_whole(render_report(content).encode(), folder, REPORT_NAME, durable=False)
    return folder / REPORT_NAME


def check_sections(entries: Sequence[ComponentConfig]) -> None:
    """Import the functions of ``report.sections`` and check their arguments, before training."""
    for number, entry in enumerate(entries):
        _find(entry, f"report.sections.{number}", dict.fromkeys(OFFERED))


def custom_parts(entries: Sequence[ComponentConfig], examined: ReportInput) -> Iterator[Part]:
    """One part of the page for each entry of ``report.sections``."""
    offered = {name: getattr(examined, name) for name in OFFERED}
    for number, entry in enumerate(entries):
        key = f"report.sections.{number}"
        draw, arguments = _find(entry, key, offered)
        drawn = draw(**arguments)
        sections = list(drawn) if isinstance(drawn, list | tuple) else [drawn]
        if not sections or not all(isinstance(section, Section) for section in sections):
            raise UsageError(
                f"{key}: {entry.name} returned {drawn!r:.60}; a Section or a list of Sections was "
                "expected"
            )
        # Their names are addresses within the page, and others' must not be taken.
        name = f"custom-{number}"
        own = [replace(section, name=f"{name}-{section.name}") for section in sections]
        yield Part(name, own[0].heading, own)


def _find(
    entry: ComponentConfig, key: str, offered: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    draw = find_named(entry.name, {}, key)
    if not callable(draw):
        raise UsageError(f"{key}: {entry.name} is no function")
    return draw, arguments_for(draw, entry.params, key, offered)


def render_report(content: ReportContent) -> str:
    """The page as text."""
    outputs, task = content.outputs, content.task
    words = Words(content.language, _names(content))
    panels = [p | {"title": metric_message(p["title"])} for p in make_panels(content.epochs)]
    findings, outcome = content.findings, None
    if outputs is not None:
        outcome = outcome_payload(outputs, content.class_names, findings.decisions)
    ranked = outcome["ranked"] if outcome else []
    before = list(_parts_before(content, bool(ranked)))
    samples: dict[str, Any] = {}
    if content.samples is not None and content.test is not None:
        sets = findings.explained
        samples = pack_samples(content.samples, content.test, sets, findings.scan_weights)
    errors = outcome is not None and (task == "regression" or bool(ranked))
    explorer = bool(samples) and errors
    shown = {
        "overview": ("Overview", True),
        "training": ("Training curves", bool(panels)),
        **({"threshold": ("Threshold explorer", True)} if ranked else {}),
        **{part.name: (part.heading, True) for part in before},
        "errors": ("Samples, worst first", errors),
        "explorer": ("Sample explorer", explorer),
        **{part.name: (part.heading, True) for part in content.parts},
        "settings": ("Configuration", True),
        "environment": ("Environment", bool(content.environment)),
    }
    sections = [section for part in (*before, *content.parts) for section in part.sections]
    drawn = [s.figure.to_plotly_json() for s in sections if s.figure is not None]
    about_ranks = ""
    if outputs is not None and task != "regression":
        about_ranks = about_unranked(outputs, content.class_names)
    # Of several labels or values, those that are explained.
    explained = [str(content.class_names[int(one.target[0])]) for one in findings.explained]
    board = content.leaderboard
    payload = {
        "heading": "{} - Scanfire report",
        "title": content.title,
        "language": content.language,
        "task": task,
        "names": list(content.class_names),
        "known": list(content.names),
        "samples": _samples(content),
        "outcome": outcome,
        "panels": panels,
        "explorer": explorer,
        "palette": PALETTE,
        "config": PLOTLY_CONFIG,
        "words": read_words() | words.found_in(drawn),
    }
    return page_template(TEMPLATES / "index.html.j2").render(
        content=content,
        words=words,
        reload_s=RELOAD_S,
        about_positive=about_positive_class(task, content.class_names),
        contents=[(name, heading) for name, (heading, there) in shown.items() if there],
        interval=Interval,
        figure=figure_text,
        figures=figure_texts,
        metric=metric_message,
        minus=_with_minus,
        shares=SHARES,
        verdict=Message("Verdict: {}.", verdict(board)) if board else "",
        about_leaderboard=about_leaderboard(board) if board else "",
        title_of=title_of,
        number=finding_number,
        sentence=_sentence,
        panels=panels,
        ranked=ranked,
        parts_before=before,
        choices_of=choices_of,
        figure_json=_figure_json,
        errors=errors,
        about_ranks=about_ranks,
        message=Message,
        sentences=sentences,
        explorer=explorer,
        explained_outputs=explained if len(explained) > 1 else [],
        samples=samples,
        entries=_entries,
        page_data=as_script(payload),
        samples_data=as_script(samples),
        plotly_js=plotly_js(),
    )


def _names(content: ReportContent) -> set[str]:
    ids = content.outputs.sample_id if content.outputs is not None else []
    groups = (content.groups.get(name, "") for name in ids)
    return {content.title, *content.class_names, *content.names, *ids, *groups}


def _samples(content: ReportContent) -> dict[str, list[Any]]:
    ids = list(content.outputs.sample_id) if content.outputs is not None else []
    rows = content.samples.scan_rows if content.samples is not None else {}
    return {
        "id": ids,
        "group": [content.groups.get(name, "") for name in ids],
        "scans": [len(rows[name]) if name in rows else None for name in ids],
    }


def _with_minus(figure: str) -> str:
    return figure if isinstance(figure, Message) else figure.replace("-", MINUS)


def _sentence(found: Finding) -> Message:
    told = Message("{} (it was accepted)", found.sentence) if found.accepted else found.sentence
    return Message("{}.", told)


def _parts_before(content: ReportContent, ranked: bool) -> Iterator[Part]:
    """The parts on all samples together, ahead of single ones."""
    outputs, names = content.outputs, content.class_names
    if outputs is None:
        return
    if content.task == "regression":
        yield Part("predictions", "Predictions and truth", outcome_sections(outputs, names))
        return
    if not ranked:
        why = NO_LABEL_RANKED if content.task == "multilabel" else NOT_RANKED
        yield Part("threshold", "Threshold explorer", absent=why)
    if content.test is None:
        return  # a temperature is fitted once the training is over
    calibration = content.findings.calibration
    sections = []
    if calibration is not None:
        sections = [reliability_section(calibration, content.task, names)]
    yield Part("reliability", "Reliability", sections, absent=NO_TEMPERATURE)


def _figure_json(section: Section) -> Markup:
    """A figure for the page's own script to draw when it is seen."""
    text = "" if section.figure is None else styled(section.figure).to_json()
    return Markup(text.replace("<", "\\u003c"))


def _entries(value: Any) -> Iterator[str]:
    """What is known of one key of the environment."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from (Message(f"{key} {{}}", entry) for entry in _entries(item))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _entries(item)
    elif isinstance(value, bool):
        yield "yes" if value else "no"
    elif value is not None:
        yield str(value)
