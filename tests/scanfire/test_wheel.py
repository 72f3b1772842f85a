"""A wheel holds everything within ``scanfire``, and works beside packages of the same names."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets.simulation import simulate_cohort
from experiments.baselines import load_baselines
from experiments.runs import Experiment
from scanfire import FLOORS
from tests.experiments.conftest import changed_config, small_settings
from tests.scanfire.conftest import OTHER_NAMES, Environment, wheel_in

pytestmark = pytest.mark.slow
ALL_MODULES = """
import importlib, pkgutil, sys, scanfire
for found in pkgutil.walk_packages(scanfire.__path__, "scanfire."):
    importlib.import_module(found.name)
print(*(name for name in sys.modules if name.partition(".")[0] in {floors}))
"""
OWNERS = "import datasets, models, engine; print(datasets.OWNER, models.OWNER, engine.OWNER)"
BASELINES = """
from pathlib import Path
from scanfire.experiments.baselines import load_baselines
print(*load_baselines(Path({run!r})).models)
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cohorts") / "tiny"
    return simulate_cohort(root, 3, n_samples=40, spec_len=64, max_scans=2).root


def tiny(cohort: Path, runs_dir: Path, **changes: Any) -> dict[str, Any]:
    chosen = {
        "model": {"name": "tabular_only", "params": {}},
        "report.enabled": False,
        "baselines.enabled": True,
        "trainer.max_epochs": 1,
    }
    return changed_config(small_settings(cohort, runs_dir), **(chosen | changes)).plain()


@pytest.fixture(scope="module")
def run_of_the_wheel(installed, cohort, tmp_path_factory) -> Path:
    """A run in another folder, whose handler is named as in a checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    names = [{"name": "handlers.gradient_norm.GradientNorm", "params": {}}]
    settings = tiny(cohort, folder / "runs", handlers=names)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    out = installed.run("scanfire", "run", "tiny.yaml", cwd=folder)
    assert out.splitlines()[-1].startswith("open "), out
    return folder / "runs" / "small"


def test_it_holds_nothing_outside_of_scanfire(wheels):
    with zipfile.ZipFile(wheel_in(wheels / "wheel")) as archive:
        names = archive.namelist()
        top = next(n for n in names if n.endswith("top_level.txt"))
        assert archive.read(top).decode().split() == ["scanfire"]
    assert {n.split("/")[0] for n in names} == {"scanfire", f"{top.split('/')[0]}"}
    assert {n.split("/")[1] for n in names if n.count("/") > 1} >= {*FLOORS}
    assert not [n for n in names if "benchmarks" in n]


def test_none_of_its_modules_imports_a_short_name(wheels):
    short = []
    with zipfile.ZipFile(wheel_in(wheels / "wheel")) as archive:
        for name in archive.namelist():
            for line in ast.walk(ast.parse(archive.read(name))) if name.endswith(".py") else ():
                if isinstance(line, ast.ImportFrom):
                    short.append((name, line.module or ""))
                elif isinstance(line, ast.Import):
                    short += [(name, alias.name) for alias in line.names]
    assert len(short) > 500
    assert [found for found in short if found[1].split(".")[0] in FLOORS] == []


def test_all_of_its_modules_can_be_imported(installed, tmp_path):
    out = installed.run("python", "-c", ALL_MODULES.format(floors=FLOORS), cwd=tmp_path)
    assert out.split() == []


@pytest.mark.parametrize("first", ["other", "wheel"])
def test_another_distribution_is_left_as_it_is(wheels, tmp_path, first):
    environment = Environment(tmp_path / "env")
    for name in (first, *({"other", "wheel"} - {first})):
        environment.install(wheel_in(wheels / name))
    theirs = {name: (environment.site / name / "__init__.py").read_text() for name in OTHER_NAMES}
    assert environment.run("python", "-c", OWNERS, cwd=tmp_path).split() == ["others"] * 3
    assert environment.run("scanfire", "--version", cwd=tmp_path).startswith("scanfire ")
    environment.pip("uninstall", "-y", "scanfire")
    assert not (environment.site / "scanfire").exists()
    for name, text in theirs.items():
        assert (environment.site / name / "__init__.py").read_text() == text


def test_a_checkout_reads_a_run_of_the_wheel(run_of_the_wheel, monkeypatch):
    found = load_baselines(run_of_the_wheel)
    assert len(found.models) > 3
    settings = yaml.safe_load((run_of_the_wheel / "config.yaml").read_text())
    assert settings["handlers"][0]["name"] == "handlers.gradient_norm.GradientNorm"
    state = (run_of_the_wheel / "environment.json").read_text()
    assert '"commit": null' in state


def test_the_wheel_reads_a_run_of_a_checkout(installed, cohort, tmp_path, few_trees):
    names = [{"name": "scanfire.handlers.gradient_norm.GradientNorm", "params": {}}]
    settings = tiny(cohort, tmp_path / "runs", handlers=names)
    experiment = Experiment(changed_config(settings))
    experiment.run()
    run = tmp_path / "runs" / "small"
    out = installed.run("python", "-c", BASELINES.format(run=str(run)), cwd=tmp_path)
    assert out.split() == [*load_baselines(run).models]
    dry = ("run", run / "config.yaml", "--dry-run")
    assert "everything fits" in installed.run("scanfire", *dry, cwd=tmp_path)


def test_modules_of_the_user_are_found_by_their_names(installed, cohort, tmp_path):
    (tmp_path / "my_parts.py").write_text(
        "from scanfire.handlers import GradientNorm\n\n\nclass Own(GradientNorm):\n    pass\n"
    )
    settings = tiny(cohort, tmp_path / "runs", handlers=[{"name": "my_parts.Own", "params": {}}])
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    dry = ("run", "tiny.yaml", "--dry-run")
    assert "everything fits" in installed.run("scanfire", *dry, cwd=tmp_path)


def test_processes_that_it_starts_find_it(installed, cohort, tmp_path):
    settings = tiny(cohort, tmp_path / "runs", **{"baselines.enabled": False})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    side_by_side = ("cv", "tiny.yaml", "--folds", "2", "--jobs", "2")
    out = installed.run("scanfire", *side_by_side, cwd=tmp_path)
    assert "open " in out


def test_a_checkout_is_used_by_its_command_beside_another(wheels, tmp_path):
    environment = Environment(tmp_path / "env")
    environment.install(wheel_in(wheels / "other"))
    environment.install(wheel_in(wheels / "editable"))
    out = environment.run("scanfire", "run", "tft_baseline", "--print-config", cwd=tmp_path)
    assert yaml.safe_load(out)["exp_name"] == "tft_baseline"
    here = "import experiments; print(experiments.__file__)"
    found = Path(environment.run("python", "-c", here, cwd=tmp_path).strip())
    assert found.parents[1] == wheels / "checkout"
