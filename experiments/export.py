"""A trained model for other programs: ``python experiments/export.py RUN --format onnx``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from experiments.command_line import CommandParser, path_argument, run_command

# Of experiments.exporting, which takes seconds to import.
KINDS = ("onnx", "torch", "safetensors")


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="export.py",
        usage="%(prog)s RUN [--format onnx|torch|safetensors] [--out FILE]",
        description="Write a finished run's model for other programs, and a JSON beside it that "
        "tells what to feed. The file is checked against the model before it gets its name.",
    )
    parser.add_argument("run", metavar="RUN", help="a run, its folder, its package (zip)")
    parser.add_argument(
        "--format",
        choices=KINDS,
        default=KINDS[0],
        help="onnx: for onnxruntime; torch: torch.export's .pt2; safetensors: the weights",
    )
    parser.add_argument(
        "--out", type=path_argument, metavar="FILE", help="a new file (<run>/<run's name>.onnx)"
    )
    return parser


def export(options: argparse.Namespace) -> int:
    """Export one run; returns the exit code."""
    from experiments.exporting import export_model, load_trained

    exported = export_model(load_trained(options.run), options.format, options.out)
    print(*exported.lines(), sep="\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: export(make_parser().parse_args(words)))


if __name__ == "__main__":
    sys.exit(main())
