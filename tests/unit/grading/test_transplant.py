"""Only the text of solution cells travels from a submission into the graded notebook."""

from __future__ import annotations

import copy
import json
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlab.grading import execution
from podlab.grading.submissions import LARGEST_NOTEBOOK, Unreadable, discover, read_notebook
from podlab.grading.transplant import LONGEST_ANSWER, transplant


def cell(kind: str, source: str, **nbgrader: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"cell_type": kind, "id": "c", "metadata": {}, "source": source}
    if kind == "code":
        made |= {"outputs": [], "execution_count": None}
    if nbgrader:
        made["metadata"]["nbgrader"] = nbgrader
    return made


def solution(name: str, source: str) -> dict[str, Any]:
    return cell("code", source, grade_id=name, solution=True, grade=False, schema_version=3)


def test_of(name: str) -> dict[str, Any]:
    return cell("code", "score()", grade_id=name, solution=False, grade=True, points=4, locked=True, schema_version=3)


test_of.__test__ = False  # type: ignore[attr-defined]  # a maker of cells, not a test


@pytest.fixture
def release() -> dict[str, Any]:
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3"}},
        "cells": [
            cell("markdown", "# Task"),
            solution("a", "# your answer"),
            test_of("a-check"),
            solution("b", "..."),
        ],
    }


def submitted(release: dict[str, Any], **answers: str) -> dict[str, Any]:
    notebook = copy.deepcopy(release)
    for each in notebook["cells"]:
        name = each["metadata"].get("nbgrader", {}).get("grade_id")
        if name in answers:
            each["source"] = answers[name]
    return notebook


def sources(notebook: dict[str, Any]) -> list[str]:
    return [each["source"] for each in notebook["cells"]]


def test_an_answer_is_taken_over_and_the_rest_is_the_release(release: dict[str, Any]) -> None:
    result = transplant(release, submitted(release, a="x = 1"))
    assert sources(result.notebook) == ["# Task", "x = 1", "score()", "..."]
    assert (result.answered, result.unanswered, result.missing) == (("a",), ("b",), ())


def test_the_release_itself_is_not_changed(release: dict[str, Any]) -> None:
    before = copy.deepcopy(release)
    transplant(release, submitted(release, a="x = 1"))
    assert release == before


@pytest.mark.parametrize(
    "attack",
    [
        lambda n: n["cells"][2].update(source="1.0 * 4"),
        lambda n: n["cells"][2]["metadata"].update(tags=["skip-execution"]),
        lambda n: n["cells"].pop(2),
        lambda n: n["cells"].insert(0, cell("code", "import evil")),
        lambda n: n["cells"].insert(3, copy.deepcopy(n["cells"][2])),
        lambda n: n["cells"][2]["metadata"]["nbgrader"].update(points=100),
        lambda n: n["cells"][2]["metadata"]["nbgrader"].update(grade_id="z"),
        lambda n: n["cells"][2].update(outputs=[{"output_type": "execute_result", "data": {"text/plain": "4.0"}}]),
        lambda n: n["metadata"].update(kernelspec={"name": "evil"}),
        lambda n: n["metadata"].pop("kernelspec"),
        lambda n: n.pop("metadata"),
        lambda n: n["cells"][1].update(cell_type="markdown"),
        lambda n: n["cells"][1].update(outputs=[{"evil": True}]),
    ],
)
def test_metadata_attacks_change_nothing(release: dict[str, Any], attack: Any) -> None:
    honest = submitted(release, a="x = 1")
    hostile = copy.deepcopy(honest)
    attack(hostile)
    assert transplant(release, hostile).notebook == transplant(release, honest).notebook


def test_of_two_cells_with_one_name_the_first_counts(release: dict[str, Any]) -> None:
    notebook = submitted(release, a="first")
    notebook["cells"].append(solution("a", "second"))
    result = transplant(release, notebook)
    assert sources(result.notebook)[1] == "first"
    assert any("more than once" in note for note in result.notes)


def test_a_missing_cell_keeps_the_release_text_and_is_named(release: dict[str, Any]) -> None:
    notebook = submitted(release, a="x")
    notebook["cells"] = [each for each in notebook["cells"] if each["source"] != "x"]
    result = transplant(release, notebook)
    assert result.missing == ("a",)
    assert sources(result.notebook)[1] == "# your answer"


def test_an_answer_of_a_megabyte_is_not_used(release: dict[str, Any]) -> None:
    result = transplant(release, submitted(release, a="x" * (LONGEST_ANSWER + 1)))
    assert sources(result.notebook)[1] == "# your answer"
    assert any("longer than" in note for note in result.notes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
odd_cells = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": json_values,
        "source": json_values,
        "metadata": json_values | st.fixed_dictionaries({"nbgrader": json_values}),
    },
)


@given(st.lists(json_values | odd_cells, max_size=6))
def test_no_notebook_json_can_break_it(cells: list[Any]) -> None:
    base = {"cells": [solution("a", "?")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    result = transplant(base, {"cells": cells})
    assert len(result.notebook["cells"]) == 1
    assert isinstance(result.notebook["cells"][0]["source"], str)


@given(st.lists(json_values | odd_cells, max_size=6), st.text() | st.text("\ud800\udfff\x00\uffff<&", max_size=9))
def test_whatever_is_handed_in_can_be_written_read_and_run(tmp_path_factory: Any, cells: list[Any], text: str) -> None:
    base = {"cells": [solution("a", "?")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path_factory.mktemp("fuzz") / "ada.ipynb"
    path.write_text(json.dumps({"cells": [*cells, solution("a", text)], "metadata": cells}))
    made = transplant(base, read_notebook(path)).notebook
    nbformat.writes(nbformat.from_dict(made)).encode("utf-8")
    assert json.loads(execution.job(made, [], execution.Limits()))["cells"][0]["answer"] is True


@given(
    st.binary(max_size=200) | st.text('[]{}",:0cels \ud800', max_size=60).map(lambda t: t.encode("utf-8", "replace"))
)
def test_no_file_breaks_the_reader(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "ada.ipynb"
    path.write_bytes(data)
    try:
        transplant({"cells": [], "metadata": {}}, read_notebook(path))
    except Unreadable as reason:
        assert str(reason)


@pytest.mark.parametrize(
    ("name", "learner"), [("a[b", "a-b"), ("Ada Lovelace", "ada-lovelace"), ("a+b", "a-b"), ("ada", "ada")]
)
def test_a_learners_name_can_be_a_file_and_no_pattern(tmp_path: Any, name: str, learner: str) -> None:
    (tmp_path / f"{name}.ipynb").write_text("{}")
    assert [each.learner for each in discover(tmp_path, "15-x")] == [learner]


def test_a_name_that_leaves_nothing_is_refused(tmp_path: Any) -> None:
    (tmp_path / "+++.ipynb").write_text("{}")
    with pytest.raises(Exception, match="cannot be a learner's"):
        discover(tmp_path, "15-x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(source="1.0 * 4"), "its text"),
        (lambda c: c["metadata"].update(tags=["skip-execution"]), "its tags"),
        (lambda c: c["metadata"]["nbgrader"].update(points=100), "its points and flags"),
    ],
)
def test_what_was_done_to_a_grade_cell_is_noted(release: dict[str, Any], change: Any, words: str) -> None:
    hostile = submitted(release, a="x")
    change(hostile["cells"][2])
    assert any(words in note for note in transplant(release, hostile).notes)
    assert transplant(release, submitted(release, a="x")).notes == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"hello", "not valid JSON"),
        (b"[1, 2]", "no list of cells"),
        (b'{"cells": 3}', "no list of cells"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_not_a_notebook_is_said(tmp_path: Any, content: bytes, words: str) -> None:
    path = tmp_path / "ada.ipynb"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=words):
        read_notebook(path)


def test_a_submission_without_a_kernel_is_run_in_the_releases(tmp_path: Any, release: dict[str, Any]) -> None:
    notebook = submitted(release, a="x = 1")
    del notebook["metadata"]["kernelspec"]
    path = tmp_path / "ada.ipynb"
    path.write_text(json.dumps(notebook))
    made = transplant(release, read_notebook(path))
    assert made.notebook["metadata"] == release["metadata"]
    assert sources(made.notebook)[1] == "x = 1" and made.notes == ()


def test_fifty_megabytes_are_not_read(tmp_path: Any) -> None:
    path = tmp_path / "ada.ipynb"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(Unreadable, match=f"50 MB; at most {LARGEST_NOTEBOOK / 1e6:.0f} MB"):
        read_notebook(path)


def test_a_link_is_not_followed(tmp_path: Any) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"cells": []}))
    link = tmp_path / "ada.ipynb"
    link.symlink_to(secret)
    with pytest.raises(Unreadable, match="cannot be opened"):
        read_notebook(link)


def test_a_linked_folder_brings_nobody_the_marks_of_another(tmp_path: Any) -> None:
    (tmp_path / "ada" / "15-x").mkdir(parents=True)
    (tmp_path / "ada" / "15-x" / "15-x.ipynb").write_text("{}")
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "15-x").symlink_to("../ada/15-x")
    found = {each.learner: each for each in discover(tmp_path, "15-x")}
    assert found["ada"].path is not None and not found["ada"].refused
    assert found["bob"].path is None and "is a link" in found["bob"].refused


def test_both_layouts_are_found(tmp_path: Any) -> None:
    (tmp_path / "ada" / "15-x").mkdir(parents=True)
    (tmp_path / "ada" / "15-x" / "15-x.ipynb").write_text("{}")
    (tmp_path / "bob" / "15-x").mkdir(parents=True)
    (tmp_path / "cy.ipynb").write_text("{}")
    found = {each.learner: each.path for each in discover(tmp_path, "15-x")}
    assert sorted(found) == ["ada", "bob", "cy"]
    assert found["bob"] is None


def test_two_submissions_of_one_learner_are_refused(tmp_path: Any) -> None:
    (tmp_path / "ada" / "15-x").mkdir(parents=True)
    (tmp_path / "ada.ipynb").write_text("{}")
    with pytest.raises(Exception, match="two submissions of: ada"):
        discover(tmp_path, "15-x")
