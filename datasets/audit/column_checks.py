"""Checks of columns: groups and names, label leakage, missingness, confounders, batches, splits."""

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from scipy import stats
from scipy.stats.contingency import association

from datasets.audit.context import (
    MOST_CATEGORIES,
    AuditContext,
    as_order,
    ask_order,
    is_batch,
    is_personal,
    names_subjects,
)
from datasets.audit.findings import Finding, Level, counted
from datasets.audit.small_model import FAMILY_ERROR, Contrast, Prediction, strongest
from datasets.cohort import MISSING_LABEL, SAMPLE_ID, find_spellings
from datasets.messages import Message
from datasets.splits import SUBSETS

# With fewer groups, performance on new ones can hardly be estimated.
FEW_GROUPS = 10
# Sample names that end in a small number or a letter, after a mark: P07_1, P07-rep2, P07.a
REPLICATE = re.compile(
    r"^(?P<stem>.*\d.*?)[-_. ](?:rep|replicate|scan|spot|run|tech|t|r|s)?(?P<number>\d|10|[a-h])$",
    re.IGNORECASE,
)
# Share of names that have to look so; fewer are chance.
MOSTLY = 0.5
MOST_EXAMPLES = 3
# No marker in use ranks 99% of the pairs of patients correctly; a column made from the label does.
SAME = 0.99
# Longer lists of batches would not be read.
MOST_LISTED = 6
# With fewer of a class in a split each sample moves its sensitivity by more than a tenth.
FEW = 10
# A class whose share in a split is off by more: a threshold set there does not hold elsewhere.
MUCH = 0.2


def check_groups(context: AuditContext) -> Iterator[Finding]:
    """Groups in several splits, and columns of subjects that several groups share."""
    groups, split = context.cohort.groups, context.split
    torn = np.empty(0) if split is None else _spanning(groups, split)
    if len(torn):
        sentence = Message(
            "{} of {} in several splits, such as {}: the test set holds groups that were "
            "trained on",
            *(counted(len(torn), "group"), len(np.unique(groups)), torn[0]),
        )
        yield Finding("groups:sides", "refuse", len(torn), sentence)
    for column in context.columns:
        values = context.cohort.samples[column]
        if names_subjects(column, values):
            yield from _check_subjects(context, column, values)
    yield from _check_names(context)
    number = len(np.unique(groups))
    if number < FEW_GROUPS:
        told = "{}: how a model does on a new one rests on very few"
        yield Finding("groups:few", "note", number, Message(told, counted(number, "group")))


def _check_subjects(context: AuditContext, column: str, values: pd.Series) -> Iterator[Finding]:
    known = values.notna().to_numpy()
    named = values[known].to_numpy(dtype=str)
    shared = _spanning(named, context.cohort.groups[known])
    if not len(shared):
        return
    torn = np.empty(0) if context.split is None else _spanning(named, context.split[known])
    level: Level = "refuse" if len(torn) else "warn"
    where = ", {} of them in several splits" if len(torn) else ""
    told = [counted(len(shared), "value"), column, *([len(torn)] if len(torn) else [])]
    sentence = Message(
        f"{{}} of {{}} in several groups{where}, such as {{}}: if {{}} identifies the subject, it "
        "should be data.group",
        *(*told, torn[0] if len(torn) else shared[0], column),
    )
    yield Finding(f"groups:{column}", level, len(shared), sentence)


def _check_names(context: AuditContext) -> Iterator[Finding]:
    names = context.cohort.sample_ids
    matches = [REPLICATE.match(name) for name in names]
    fits = np.array([match is not None for match in matches])
    if fits.mean() <= MOSTLY:
        return
    stems = np.array([match["stem"] for match in matches if match is not None])
    _, labels = np.unique(context.cohort.targets[fits], axis=0, return_inverse=True)
    shared = _spanning(stems, context.cohort.groups[fits])
    # Replicates have one label; numbered patients of a site have several.
    if len(shared) > MOSTLY * len(np.unique(stems)) and not len(_spanning(stems, labels)):
        sentence = Message(
            "names of samples read like replicates, {} of them in several groups, such as those "
            "of {}: if they are, data.group should hold them together",
            *(len(shared), shared[0]),
        )
        yield Finding("groups:sample_id", "warn", len(shared), sentence)


def _spanning(names: np.ndarray, parts: np.ndarray) -> np.ndarray:
    counts = pd.Series(np.asarray(parts)).groupby(np.asarray(names)).nunique()
    return np.asarray(counts.index[counts > 1])


def check_spelling(context: AuditContext) -> Iterator[Finding]:
    """Groups, labels, samples and categories that differ by spelling only."""
    cohort, split = context.cohort, context.split
    # Name of the finding, what is spelled so, its spellings.
    named: list[tuple[str, Message, Iterable[object]]] = []
    if cohort.group != SAMPLE_ID:
        named.append(("group", Message("groups"), cohort.groups))
    named.append(("sample_id", Message("samples"), cohort.sample_ids))
    if cohort.task in ("binary", "multiclass"):
        left_out = [name for name in cohort.excluded if name != MISSING_LABEL]
        labels = [*cohort.samples[cohort.label[0]], *left_out]
        named.append(("label", Message("labels"), labels))
    for column in dict.fromkeys([*cohort.categorical, *context.batches]):
        if column != cohort.group and column not in cohort.numeric:
            spelled = cohort.samples[column].dropna()
            named.append((column, Message("values of {}", column), spelled))
    for name, what, values in named:
        found = find_spellings({str(value) for value in values})
        if not found:
            continue
        sets = Message(f"{'set' if len(found) == 1 else 'sets'} of {what.phrase}", *what.values)
        parted = 0
        if name == "group" and split is not None:
            split_of = [split[np.isin(cohort.groups, spellings)] for spellings in found]
            parted = sum(len(set(subsets)) > 1 for subsets in split_of)
        shown = "; ".join(" / ".join(map(repr, spellings)) for spellings in found[:MOST_EXAMPLES])
        sentence = Message(
            "{} {} that differ by case, blanks, zeros or the form of characters only"
            f"{' ({} in several splits)' if parted else ''}, {{}}: if they are one, spell them "
            "alike",
            *(len(found), sets, *([parted] if parted else []), shown),
        )
        yield Finding(f"spelling:{name}", "warn", len(found), sentence)


def check_label_leakage(context: AuditContext) -> Iterator[Finding]:
    """Covariates that alone determine the label, but for a few errors."""
    for column in context.columns:
        if is_label_leakage(context, column):
            found = context.ask(column)
            assert found is not None
            section = "numeric" if column in context.cohort.numeric else "categorical"
            sentence = Message(
                "{} is {} in another form, or follows from it; leave it out of data.{}",
                *(column, found.contrast.target, section),
            )
            yield Finding(
                f"label_leakage:{column}", "refuse", found.value, sentence, (found.low, found.high)
            )


def is_label_leakage(context: AuditContext, column: str) -> bool:
    """Whether a column is a covariate that is the label in another form."""
    found = context.ask(column) if context.is_covariate(column) else None
    if found is None or not found.beyond_chance or found.value < SAME:
        return False
    numbers = context.numbers(column)
    if context.cohort.task != "regression" or numbers is None:
        return True
    # It orders the samples as a target does, beyond predicting it.
    known = ~np.isnan(numbers)
    targets = context.cohort.targets[known].T
    return any(abs(stats.spearmanr(numbers[known], t).statistic) >= SAME for t in targets)


def check_missingness(context: AuditContext) -> Iterator[Finding]:
    """Columns whose empty cells, which a model sees, separate the classes."""
    for column in context.columns:
        missing = context.cohort.samples[column].isna().to_numpy()
        found = context.examiner.ask_numbers(missing.astype(np.float64)) if missing.any() else None
        if found is None or not found.beyond_chance:
            continue
        given = context.is_covariate(column)
        use = "" if given else "; the model is not given it"
        yield found.finding(
            f"missingness:{column}",
            f"missingness of {{}} predicts {{}}: missing in {{}} of {{}} and {{}} of {{}}{use}",
            *(column, found.contrast.target, *found.contrast.compare(missing, ".0%")),
            may_warn=given,
        )


def check_confounding(context: AuditContext) -> Iterator[Finding]:
    """Columns that are associated with the label.

    Personal columns (age, sex, ...), which spectra reflect, and categorical covariates are warned
    of even where the model is not given them. A number may be a genuine marker: a note.
    """
    for column in context.columns:
        values = context.cohort.samples[column]
        if is_batch(column) or names_subjects(column, values) or is_label_leakage(context, column):
            continue
        told = context.is_covariate(column) or is_personal(column)
        if not told and values.nunique() > MOST_CATEGORIES:
            continue
        found = context.ask(column)
        if found is not None and found.beyond_chance:
            yield _column_finding(context, column, found)


def _column_finding(context: AuditContext, column: str, found: Prediction) -> Finding:
    numbers, contrast = context.numbers(column), found.contrast
    if numbers is None:
        seen = _categories(context.cohort.samples[column], contrast)
    else:
        medians = contrast.compare(numbers, ".4g", np.nanmedian)
        seen = Message("its median is {} in {}, {} in {}", *medians)
    is_confounder = is_personal(column) or column in context.cohort.categorical
    if is_confounder:
        kind, says = "confounding", "is confounded with {}"
    elif context.is_covariate(column):
        kind, says = "marker", "alone predicts {}, as marker or as confounder"
    else:
        kind, says = "column", "predicts {}; the model is not given it, but spectra may tell it"
    return found.finding(
        f"{kind}:{column}",
        f"{{}} {says}: {seen.phrase}",
        *(column, contrast.target, *seen.values),
        may_warn=is_confounder,
    )


def _categories(values: pd.Series, contrast: Contrast) -> Message:
    known = values.notna().to_numpy()
    given, members = values[known], contrast.members[known]
    table = pd.crosstab(given.to_numpy(), members)
    shares = table / table.sum()
    most = (shares[True] - shares[False]).abs().idxmax()
    known_of = Contrast(contrast.name, contrast.other, members)
    strength = association(table.to_numpy(), method="cramer")
    each = known_of.compare((given == most).to_numpy(), ".0%")
    return Message("{} is {} of {} and {} of {} (Cramer's V {})", most, *each, f"{strength:.2f}")


def check_batches(context: AuditContext) -> Iterator[Finding]:
    """Columns such as plate, site or date that separate the classes, as spectra may too."""
    given = "spectra" if context.cohort.has_spectra else "covariates"
    groups = pd.Series(context.cohort.groups)
    for column in context.batches:
        values = context.cohort.samples[column]
        # Where each batch is within one group, no other group can tell of it.
        is_within = bool((groups.groupby(values.to_numpy()).nunique() <= 1).all())
        examiner = context.examiner.of_samples() if is_within else context.examiner
        order = as_order(values)
        by_order = None if order is None else ask_order(examiner, order)
        found = strongest([examiner.ask_categories(values), by_order])
        if found is not None and found.beyond_chance:
            told = _give_away(column, given, values, found.contrast)
            yield found.finding(f"batch:{column}", told.phrase, *told.values)


def check_order(context: AuditContext) -> Iterator[Finding]:
    """Whether the order of the file, often that of measuring, separates the classes."""
    order = np.arange(len(context.cohort.sample_ids), dtype=np.float64)
    found = ask_order(context.examiner, order)
    if found is not None and found.beyond_chance:
        yield found.finding(
            "order",
            "the order of the file predicts {}: harmless if it was sorted afterwards, not if this "
            "is the order of measuring",
            found.contrast.target,
        )


def _give_away(column: str, given: str, values: pd.Series, contrast: Contrast) -> Message:
    shares = pd.Series(contrast.members).groupby(values.to_numpy()).mean()
    told = f"{{}} predicts {{}}, and {given} may give {{}} away"
    if len(shares) > MOST_LISTED:
        return Message(told, column, contrast.target, column)
    listed = [Message("{} of {}", f"{share:.0%}", name) for name, share in shares.items()]
    return Message(told + ": {} is {}", column, contrast.target, column, contrast.name, listed)


def check_counts(context: AuditContext) -> Iterator[Finding]:
    """Number and share of each class in each split."""
    if context.split is None or context.cohort.task == "regression":
        return
    for subset in SUBSETS:
        here = context.split == subset
        if not here.any():
            continue
        counts = {c.name: int((c.members & here).sum()) for c in context.contrasts}
        if context.cohort.task != "multiclass":
            counts |= {c.other: int((~c.members & here).sum()) for c in context.contrasts}
        few = {name: number for name, number in counts.items() if number < FEW}
        if few:
            told = [Message("{} {}", name, number) for name, number in few.items()]
            sentence = Message(f"fewer than {{}} samples in the {subset} split: {{}}", FEW, told)
            yield Finding(f"counts:{subset}", "note", min(few.values()), sentence)
        for contrast in context.contrasts:
            share, whole = contrast.members[here].mean(), contrast.members.mean()
            if abs(share - whole) > MUCH:
                sentence = Message(
                    f"{{}} makes up {{}} of the {subset} split, but {{}} of the cohort",
                    *(contrast.name, f"{share:.0%}", f"{whole:.0%}"),
                )
                yield Finding(f"shares:{subset}:{contrast.name}", "note", float(share), sentence)


def check_tables(context: AuditContext) -> Iterator[Finding]:
    """Batches without any sample of some class, where chance does not explain it."""
    classes = []
    for contrast in context.contrasts:
        classes.append((contrast.name, contrast.members))
        if context.cohort.task != "multiclass":
            classes.append((contrast.other, ~contrast.members))
    for column in context.batches:
        values = context.cohort.samples[column]
        if values.nunique() > MOST_CATEGORIES:
            continue
        sizes = values.value_counts()
        chance = FAMILY_ERROR / (len(sizes) * 2 * len(context.contrasts))
        empty = [
            Message("{} has no {}", level, name)
            for name, members in classes
            for level, size in sizes.items()
            if not (members & (values == level).to_numpy()).any()
            and (1 - members.mean()) ** size < chance
        ]
        if empty:
            more = " and more" if len(empty) > MOST_LISTED else ""
            told = f"{{}} by class: {{}}{more}; there the classes cannot be compared"
            sentence = Message(told, column, empty[:MOST_LISTED])
            yield Finding(f"table:{column}", "note", len(empty), sentence)
