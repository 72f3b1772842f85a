"""Predict new samples: ``python experiments/predict.py RUN COHORT --out predictions.csv``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from experiments.command_line import CommandParser, path_argument, run_command


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="predict.py",
        description="Predict the samples of a cohort by a trained model, with the run's own "
        "transforms, encoder, temperature and thresholds. Exits with 2, and writes nothing, where "
        "the cohort is not one that the model can predict.",
    )
    parser.add_argument(
        "model",
        metavar="RUN",
        help="a run's folder, name or zip, or the folder of a cross-validation",
    )
    parser.add_argument("cohort", type=path_argument, metavar="COHORT", help="a cohort's folder")
    parser.add_argument(
        "--out", type=path_argument, required=True, metavar="FILE", help="a new CSV file"
    )
    parser.add_argument(
        "--impute",
        action="store_true",
        help="impute missing columns and unknown categories, which are refused otherwise",
    )
    parser.add_argument(
        "--ignore-labels", action="store_true", help="predict only, whatever the cohort's labels"
    )
    parser.add_argument(
        "--report", type=path_argument, metavar="FILE", help="write a page to a new HTML file"
    )
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="add prediction sets (of a regression intervals) that hold the truth so often: 0.9",
    )
    parser.add_argument(
        "--explain", type=int, metavar="N", help="attributions of the first N samples on the page"
    )
    parser.add_argument(
        "--prevalence",
        type=float,
        metavar="SHARE",
        help="predictive values and net benefit at this share of the positive class",
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or auto; the run's own by default"
    )
    return parser


def predict(options: argparse.Namespace) -> int:
    """Predict a cohort and print what came of it; returns the exit code."""
    # Not before: it takes seconds to import what predicts.
    from datasets.errors import UsageError
    from experiments.prediction import (
        Analyses,
        Asked,
        load_model,
        predict_file,
        require_free,
    )

    require_free(options.out)
    if options.report is not None and options.report.resolve() == options.out.resolve():
        raise UsageError(f"--report: {options.report} is the file of --out; name another file")
    model = load_model(options.model, options.device)
    new = model.check(options.cohort, options.impute, options.ignore_labels)
    asked = Asked(options.coverage, options.prevalence, options.explain, options.report)
    analyses = Analyses(model, new, asked)
    print(*new.notes, sep="\n", end="\n" * bool(new.notes))
    predictions = predict_file(model, new, options.out, analyses.columns)
    print(f"{len(predictions)} samples predicted by {model.where}: {options.out}")
    for line in analyses.conclude(predictions):
        print(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: predict(make_parser().parse_args(words)))


if __name__ == "__main__":
    sys.exit(main())
