"""Subjects with several samples that no column groups: by covariates, names or spectra."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import scale

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, counted
from datasets.messages import Message

# Shuffles of the columns, which show how many equal rows are chance.
SHUFFLES = 20
# Of the samples: fewer with equal rows are chance, whatever the shuffles say.
FEWEST_EQUAL = 0.1
# Share of a row's values that have to be known.
KNOWN = 0.5
# Samples whose spectra are compared; more are drawn at random.
MOST_COMPARED = 2000
# Of the order of neighbours: the nearest, and those beyond any replicates, up to a share of all.
FIRST_FAR, LAST_FAR = 9, 1 / 3
FEWEST_COMPARED = 24
# Of a class: with fewer, the far neighbours have to be of another one.
FEWEST_OF_CLASS = 20
# Agreement of the nearest neighbour's label above that of far ones, and in standard errors. 120
# simulated cohorts without hidden groups stay below 0.2 and 3; replicates give 0.4 and 10.
LEAST_EXCESS, LEAST_ERRORS = 0.2, 4.0
# What a sample's name may consist of beside its subject's, before or after a mark.
PART = r"(?:rep|replicate|scan|spot|run|tech|bio|t|r|s|b)?"
NAME_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{PART}(?:\d|10|[a-h])[-_. /](?P<stem>.*\d.*)$",  # rep1_P07, A-P07
        r"^(?P<stem>.*\d)(?:[a-h])$",  # P07a
        r"^(?P<stem>.*\d.*)[-_. /][^-_. /]+$",  # P07_baseline, P07-2021
        r"^[^-_. /]+[-_. /](?P<stem>.*\d.*)$",  # week4_P07
    )
]
# Share of names that have to fit a pattern, and stems that there have to be.
MOSTLY, FEWEST_STEMS = 0.5, 8
# Chance that all samples of each stem have one label.
SMALLEST_CHANCE = 1e-6


def check_hidden_groups(context: AuditContext) -> Iterator[Finding]:
    """Subjects whose samples are of several groups."""
    yield from _check_covariates(context)
    groups = context.cohort.groups
    if len(np.unique(groups)) < len(groups):
        return
    labels = _labels(context)
    yield from _check_names(context.cohort.sample_ids, labels)
    if context.cohort.has_spectra:
        yield from _check_spectra(context, labels)


def _labels(context: AuditContext) -> np.ndarray:
    """A class number per sample; of a regression whether the first value is above the median."""
    targets = context.cohort.targets
    if context.cohort.task == "regression":
        values = targets.reshape(len(targets), -1)[:, 0]
        return (values > np.median(values)).astype(int)
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)


def _check_covariates(context: AuditContext) -> Iterator[Finding]:
    """Samples of several groups that have all covariates in common."""
    cohort = context.cohort
    table = cohort.samples[[*cohort.numeric, *cohort.categorical]].reset_index(drop=True)
    # Rows with few known values are equal by chance.
    table = table[table.notna().mean(axis=1) > KNOWN]
    if table.shape[1] < 2 or len(table) < 2:
        return
    groups = cohort.groups[table.index]
    equal = _in_several_groups(table, groups)
    found = int(equal.sum())
    if found < max(4, FEWEST_EQUAL * len(table)):
        return
    rng, chance = np.random.default_rng(0), 0
    for _ in range(SHUFFLES):
        shuffled = table.copy()
        for name, values in table.items():
            known = values.notna()
            shuffled.loc[known, name] = rng.permutation(values[known].to_numpy())
        chance = max(chance, int(_in_several_groups(shuffled, groups).sum()))
    if found > 2 * chance:
        rows = _numbered(table)
        alike = table.index[rows == rows[equal][0]]
        sentence = Message(
            "{} share all covariates with one of another group (by chance at most {}), such as {} "
            "and {}: if they are of one subject, data.group should hold them together",
            *(counted(found, "sample"), chance, *(cohort.sample_ids[n] for n in alike[:2])),
        )
        yield Finding("groups:covariates", "warn", found, sentence)


def _numbered(table: pd.DataFrame) -> np.ndarray:
    """A number per row, equal for equal rows."""
    return table.groupby(list(table), dropna=False).ngroup().to_numpy()


def _in_several_groups(table: pd.DataFrame, groups: np.ndarray) -> np.ndarray:
    """Whether an equal row is of another group, [N]."""
    several = pd.Series(groups).groupby(_numbered(table)).transform("nunique") > 1
    return several.to_numpy()


def _check_names(names: list[str], labels: np.ndarray) -> Iterator[Finding]:
    shares = np.bincount(labels) / len(labels)
    for pattern in NAME_PATTERNS:
        matches = [pattern.match(name) for name in names]
        fits = np.array([match is not None for match in matches])
        if fits.mean() <= MOSTLY:
            continue
        table = pd.DataFrame(
            {"stem": [m["stem"] for m in matches if m is not None], "label": labels[fits]}
        )
        of_stem = table.groupby("stem")["label"].agg(["size", "nunique", "first"])
        several = of_stem[of_stem["size"] > 1]
        if len(several) < FEWEST_STEMS or len(several) <= MOSTLY * len(of_stem):
            continue
        # Samples of one subject have one label; those of a site or a day have several.
        chance = float((shares[:, None] ** several["size"].to_numpy()).sum(axis=0).prod())
        # A stem that stands for the class itself is no subject.
        subjects = table.groupby("label")["stem"].nunique().min() > 1
        if subjects and (several["nunique"] == 1).all() and chance < SMALLEST_CHANCE:
            stem = several.index[0]
            alike = [n for n, m in zip(names, matches, strict=True) if m and m["stem"] == stem]
            sentence = Message(
                "names of samples share a stem and a label, {} times, such as {} and {}: if they "
                "are of one subject, data.group should hold them together",
                *(len(several), *alike[:2]),
            )
            yield Finding("groups:sample_id", "warn", len(several), sentence)
            return


def _check_spectra(context: AuditContext, labels: np.ndarray) -> Iterator[Finding]:
    """Whether the nearest spectrum gives a label away that spectra beyond replicates do not."""
    cohort = context.cohort
    chosen = np.arange(len(cohort.sample_ids))
    if len(chosen) > MOST_COMPARED:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_COMPARED, replace=False))
    labels = labels[chosen]
    if len(chosen) < FEWEST_COMPARED or len(np.unique(labels)) < 2:
        return
    means = np.stack([cohort.spectra[cohort.scan_rows[i]].mean(axis=0) for i in chosen])
    means = scale(means.astype(np.float64), axis=1)
    last = max(FIRST_FAR + 10, int(len(chosen) * LAST_FAR))
    order = NearestNeighbors(n_neighbors=last).fit(means).kneighbors(return_distance=False)
    agree = labels[order] == labels[:, None]
    near, far = agree[:, 0], agree[:, FIRST_FAR:].mean(axis=1)
    common = (np.bincount(labels) >= FEWEST_OF_CLASS)[labels]
    near, far = near[common], far[common]
    if len(near) < FEWEST_COMPARED:
        return
    excess = near - far
    # Neighbours come in pairs: half of the samples are independent.
    error = float(excess.std()) / np.sqrt(len(excess) / 2)
    if excess.mean() >= LEAST_EXCESS and excess.mean() >= LEAST_ERRORS * error:
        sentence = Message(
            "the sample with the nearest spectrum has the same label in {}, those beyond the "
            "nearest {} in {}: a random split rewards recognising a subject, and a split by "
            "subject would give about the latter; if subjects have several samples, set data.group",
            *(f"{near.mean():.0%}", FIRST_FAR, f"{far.mean():.0%}"),
        )
        yield Finding("groups:spectra", "warn", float(near.mean()), sentence)
