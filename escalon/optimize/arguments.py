"""The options of ``escalon optimize``."""

from __future__ import annotations

import argparse
from pathlib import Path

from escalon.argument_types import number, positive

EXAMPLES = """\
examples:
  escalon optimize model.onnx --data samples.npz                 the table
  escalon optimize model.onnx --data samples.npz --out small/    and the model that is kept
  escalon optimize model.onnx --data samples.npz --out small/ --plot
  escalon optimize model.onnx --data samples.npz --json          for programs

samples.npz: `x`, one row a sample, as the model is fed; `y`, the right labels as whole numbers, if
  there are any. A model of several inputs: an array for each, by its name. Half of the samples
  calibrates, the other half tests.
exit codes: 0 a smaller or faster model is kept, 1 refused or failed and was said,
  2 the command line is wrong, 3 fp32 is kept: no candidate gains anything within the budget
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to their part of the command line."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="a float32 model")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE.npz", help="samples, and labels as `y`"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where model.onnx and report.json go"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--plot", action="store_true", help="draw plot.svg in FOLDER (pip install 'escalon[plots]')"
    )
    parser.add_argument(
        "--scores", choices=("logits", "probabilities"),
        help="what the output holds (default: what it looks like)",
    )  # fmt: skip
    parser.add_argument(
        "--max-loss", type=number, default=0.5, metavar="POINTS",
        help="points of accuracy that it may cost; without labels, of agreement (default: 0.5)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-dynamic", action="store_true",
        help="keep also a model whose answers depend on the other samples in a batch",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=positive, default=120.0, metavar="S",
        help="leave out what is not done by then (default: 120)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which samples calibrate (default: 0)"
    )
