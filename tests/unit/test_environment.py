"""pyproject.toml, constraints.txt, environment.yml, Makefile and licences say the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONSTRAINTS = {
    canonicalize_name(requirement.name): requirement
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#") and (requirement := Requirement(line))
}


def requirements(extras: set[str]) -> list[Requirement]:
    """The requirements of podlab with some extras, which may name other extras of podlab."""
    found = [Requirement(text) for text in PROJECT["dependencies"]]
    todo, seen = list(extras), set(extras)
    while todo:
        for text in PROJECT["optional-dependencies"][todo.pop()]:
            requirement = Requirement(text)
            if requirement.name == "podlab":
                todo += requirement.extras - seen
                seen |= requirement.extras
            else:
                found.append(requirement)
    return found


def extras_of_the_makefile() -> set[str]:
    return set(re.search(r"^EXTRAS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split(","))


def test_each_requirement_has_one_tested_version_that_satisfies_it():
    for requirement in requirements(extras_of_the_makefile()):
        pinned = CONSTRAINTS[canonicalize_name(requirement.name)]
        (pin,) = pinned.specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier, f"{pinned} is not {requirement}"


def test_constraints_name_no_place_of_one_machine():
    for requirement in CONSTRAINTS.values():
        assert requirement.url is None and requirement.name != "podlab"


def test_conda_users_get_the_same():
    conda = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    (pip,) = (line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict))
    python = next(line for line in conda if line.startswith("python "))
    assert SpecifierSet(python.removeprefix("python ")) == SpecifierSet(PROJECT["requires-python"])
    assert {"pip", "make", "git"} <= set(conda)
    assert "--constraint constraints.txt" in pip
    (editable,) = (line for line in pip if line.startswith("--editable"))
    assert set(re.search(r"\[(.+)\]$", editable)[1].split(",")) == extras_of_the_makefile()
    assert len(pip) == 2
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"], "no other channel is mixed in"


def test_the_cluster_can_be_installed_without_the_course():
    course = {canonicalize_name(one.name) for one in requirements({"course"})}
    core = {canonicalize_name(one.name) for one in requirements(set())}
    assert core < course
    assert not core & {"jupyterlab", "nbgrader", "papermill", "matplotlib", "ipywidgets"}


def test_licences():
    assert PROJECT["license"] == "Apache-2.0 AND CC-BY-4.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "creativecommons.org/licenses/by/4.0" in (ROOT / "LICENSE-prose").read_text()


def fake_python(folder: Path, name: str, version: str, *, venv: bool = True) -> None:
    """A `python` that says a version and makes a folder in place of an environment."""
    numbers = tuple(map(int, version.split(".")))[:2]
    fits = (3, 11) <= numbers <= (3, 13)
    path = folder / name
    path.write_text(
        f"""#!/bin/sh
case "$*" in
  *python_version*) echo {version} ;;
  *version_info*) exit {0 if fits else 1} ;;
  *ensurepip*) exit {0 if venv else 1} ;;
  *"-m venv"*) echo "venv by {name}: $*" ;;
esac
"""
    )
    path.chmod(0o755)


def make_venv(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / "tools" / "make-venv", "place"],
        capture_output=True,
        text=True,
        env={"PATH": str(folder), **environment},
    )


def test_the_newest_suitable_python_is_taken(tmp_path):
    fake_python(tmp_path, "python3", "3.14.1")
    fake_python(tmp_path, "python3.11", "3.11.9")
    fake_python(tmp_path, "python3.12", "3.12.3")
    done = make_venv(tmp_path)
    assert "venv by python3.12: -m venv --clear place" in done.stdout, done.stderr


def test_a_stand_in_without_a_python_behind_it_is_passed_over(tmp_path):
    (tmp_path / "python3.13").write_text("#!/bin/sh\necho 'version 3.13 is not installed' >&2; exit 127\n")
    (tmp_path / "python3.13").chmod(0o755)
    fake_python(tmp_path, "python3", "3.11.2")
    assert "venv by python3:" in make_venv(tmp_path).stdout


def test_a_named_python_is_the_only_one_tried(tmp_path):
    fake_python(tmp_path, "python3.13", "3.13.0")
    fake_python(tmp_path, "mine", "3.11.2")
    assert "venv by mine:" in make_venv(tmp_path, PYTHON="mine").stdout


@pytest.mark.parametrize(
    ("name", "version", "venv", "said"),
    [
        ("python3", "3.10.12", True, "python3 is 3.10.12"),
        ("python3", "3.14.0", True, "python3 is 3.14.0"),
        ("python3.12", "3.12.3", False, "apt install python3-venv"),
        ("none", "3.12.3", True, "Python 3.11, 3.12 or 3.13 is needed"),
    ],
)
def test_without_a_suitable_python_it_is_said_what_to_do(tmp_path, name, version, venv, said):
    fake_python(tmp_path, name, version, venv=venv)
    done = make_venv(tmp_path)
    assert done.returncode == 3
    assert said in done.stderr and "run make again" in done.stderr
