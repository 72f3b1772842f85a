"""Baselines in a run's folder, without pickle."""

import io
import re
import zipfile
from pathlib import Path

from datasets.cohort import TargetScaler
from datasets.errors import UsageError
from datasets.files import write_whole
from experiments.baselines.fit import Baselines
from experiments.run_files import RunFile
from models.classical import ClassicalModel

# The classes of the estimators that skops does not trust by itself.
TRUSTED = [
    "models.classical.FlooredScaler",
    "models.classical.PLSScores",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]
# Within the archive, what the classes of its objects are.
SCHEMA = "schema.json"
OWN_MODULE = re.compile(r'("__module__": ")(?:scanfire\.)?models\.')


def save_baselines(baselines: Baselines, folder: Path) -> str | None:
    """Write ``baselines.skops``; returns a line if skops is not installed: nothing is written."""
    try:
        from skops.io import dumps
    except ImportError:
        return "baselines are not saved: skops is not installed (pip install 'scanfire[baselines]')"
    plain = {
        "task": baselines.task,
        "models": {name: model.estimators for name, model in baselines.models.items()},
        "fused": list(baselines.fused),
        "scaler": baselines.scaler.state_dict() if baselines.scaler else None,
        "drawn": baselines.drawn,
    }
    write_whole(dumps(plain, compression=zipfile.ZIP_DEFLATED), folder, RunFile.BASELINES)
    return None


def load_baselines(folder: Path) -> Baselines:
    """Read what :func:`save_baselines` has written, or raise UsageError."""
    try:
        from skops.io import load
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError:
        raise UsageError(
            "reading baselines takes skops: pip install 'scanfire[baselines]'"
        ) from None
    path = folder / RunFile.BASELINES
    if not path.is_file():
        raise UsageError(f"{folder}: there is no {RunFile.BASELINES}; was baselines.enabled false?")
    try:
        plain = load(_with_own_names(path), trusted=TRUSTED)
        models = {}
        for name, estimators in plain["models"].items():
            models[name] = ClassicalModel(name, plain["task"])
            models[name].estimators = estimators
        targets = plain["scaler"]
        scaler = None if targets is None else TargetScaler.from_state_dict(targets)
        return Baselines(plain["task"], models, plain["fused"], scaler, plain["drawn"])
    except (UntrustedTypesFoundException, zipfile.BadZipFile, KeyError, TypeError) as error:
        raise UsageError(f"{path} holds no baselines of this project: {error}") from error


def _with_own_names(path: Path) -> io.BytesIO:
    """The archive with this project's modules as they are called here.

    They are within ``scanfire`` where a wheel was installed, and not in a checkout.
    """
    own = ClassicalModel.__module__.removesuffix("classical")
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as archive:
        schema = archive.read(SCHEMA).decode()
        renamed = OWN_MODULE.sub(rf"\g<1>{own}", schema)
        if renamed == schema:
            return content
        copied = io.BytesIO()
        with zipfile.ZipFile(copied, "w") as copy:
            for name in archive.namelist():
                copy.writestr(name, renamed if name == SCHEMA else archive.read(name))
    return copied
