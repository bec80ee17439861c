"""From ginkgo's report to a judgement: nothing is lost, and both directions count."""

from __future__ import annotations

import json
import re
from pathlib import Path

import report
from report import Outcome


def spec(text: str, state: str = "passed", **more: object) -> dict[str, object]:
    """One entry of ginkgo's report."""
    location = {"FileName": "k8s.io/kubernetes/test/e2e/common/node/pods.go", "LineNumber": 208}
    return {
        "ContainerHierarchyTexts": ["[sig-node] Pods"],
        "LeafNodeText": text,
        "LeafNodeType": "It",
        "LeafNodeLocation": location,
        "State": state,
        "RunTime": 2_500_000_000,
        **more,
    }


def written(folder: Path, *specs: dict[str, object]) -> Path:
    """A report file with these entries."""
    file = folder / "report.json"
    file.write_text(json.dumps([{"SpecReports": list(specs)}]))
    return file


def test_only_conformance_tests_are_taken_with_their_class(tmp_path):
    other = spec("is slow [NodeConformance]")
    file = written(tmp_path, spec("should get a host IP [NodeConformance] [Conformance]"), other)
    (found,) = report.read(file)
    assert found == Outcome(
        "[sig-node] Pods should get a host IP [NodeConformance] [Conformance]", "common/node/pods:208", "passed", 2.5
    )
    assert found.kind == "B"


def test_every_way_of_not_passing_is_a_failure(tmp_path):
    states = ("failed", "panicked", "timedout", "interrupted", "aborted")
    failure = {"Message": "timed out\n  waiting"}
    specs = [spec(f"one {state} [Conformance]", state, Failure=failure) for state in states]
    found = report.read(written(tmp_path, *specs))
    assert [one.state for one in found] == ["failed"] * len(states)
    assert {one.said for one in found} == {"timed out waiting"}


def test_a_test_that_skips_itself_is_a_failure_and_one_left_out_is_not_run(tmp_path):
    file = written(
        tmp_path,
        spec("a [Conformance]", "skipped", Failure={"Message": "needs two nodes"}),
        spec("b [Conformance]", "skipped"),
        spec("c [Conformance]", "pending"),
    )
    assert [one.state for one in report.read(file)] == ["failed", "not run", "not run"]


def test_differences_count_in_both_directions():
    passed, failed = Outcome("good", "a:1", "passed"), Outcome("bad", "a:2", "failed", 1.0, "no")
    left = Outcome("left", "a:3", "not run")
    assert report.differences([passed, failed, left], {"bad": "why"}) == []
    (unexpected,) = report.differences([passed, failed], {})
    assert "bad" in unexpected and "no" in unexpected
    (better,) = report.differences([passed], {"good": "was thought impossible"})
    assert "good" in better
    assert report.differences([left], {"left": "why"}) == []


def test_a_later_run_replaces_what_it_ran_and_nothing_else():
    first = [Outcome("a", "f:1", "failed"), Outcome("b", "f:2", "passed")]
    second = [Outcome("a", "f:1", "passed"), Outcome("b", "f:2", "not run")]
    assert [one.state for one in report.merged([first, second])] == ["passed", "passed"]


def test_results_keep_other_runtimes(tmp_path):
    file = tmp_path / "results.json"
    one, two = [Outcome("a", "f:1", "passed", 1.5)], [Outcome("a", "f:1", "failed", 2.0, "x")]
    report.write_results(file, "one", one)
    report.write_results(file, "two", two)
    report.write_results(file, "two", two)
    assert report.results(file) == {"one": one, "two": two}


def test_a_focus_fits_one_name_behind_that_of_the_suite():
    import running

    name = "[sig-node] Pods should get a host IP (v1) [Conformance]"
    (expression,) = running.names([name])
    assert re.search(expression, f"Kubernetes e2e suite {name}")
    assert not re.search(expression, f"Kubernetes e2e suite {name} and more")
    assert not re.search(expression, f"Kubernetes e2e suite [sig-apps] {name}")


def test_tests_that_must_run_alone_come_last_and_never_in_a_short_run():
    import running

    assert [(part.labels, part.processes) for part in running.Selection(processes=4).parts()] == [
        ("Conformance && !Serial", 4),
        ("Conformance && Serial", 1),
    ]
    assert [part.labels for part in running.Selection(alone=False).parts()] == ["Conformance && !Serial"]
    assert not any("[Serial]" in name for name in report.short())
    assert len(report.short()) == len(set(report.short())) > 50


def test_the_classes_hold_every_conformance_test_once():
    names = "ABCDEFG"
    assert list(report.classes()) == list(names)
    # Two places hold the rows of a table: 458 places stand for the 462 tests.
    assert sum(len(report.of_class(name)) for name in names) == 458


def test_the_page_explains_every_failure():
    outcomes = [Outcome("a|b", "common/node/pods:208", "passed"), Outcome("c", "f:1", "failed", 1.0, "broken")]
    text = report.page({"Sandbox": outcomes}, {})
    assert "## Sandbox: 1 of 2 passed" in text
    assert "### Failed" in text and "not explained: broken" in text and "Not possible" not in text
    text = report.page({"Sandbox": outcomes}, {"c": "no cgroups"})
    assert "### Not possible" in text and "no cgroups" in text and "### Failed" not in text


def test_two_runtimes_stand_side_by_side_with_what_ran_on_both():
    a, b, c = (f"{letter} [Conformance]" for letter in "abc")
    place = "common/node/pods:208"
    one = [Outcome(a, place, "passed"), Outcome(b, place, "passed"), Outcome(c, place, "passed")]
    other = [Outcome(a, place, "passed"), Outcome(b, place, "failed", 1.0, "no"), Outcome(c, place, "not run")]
    text = report.page({"Sandbox": one, "kind": other}, {})
    assert "| B | plain processes | 2 | 2 | 1 |" in text and "| all |  | 2 | 2 | 1 |" in text
    assert f"- {b}: Sandbox passed, kind failed" in text and f"- {a}:" not in text and f"- {c}:" not in text
    assert "Outcomes that differ: none." in report.page({"Sandbox": one, "kind": one}, {})
    assert "Side by side" not in report.page({"Sandbox": one}, {})


def test_the_committed_page_is_that_of_the_committed_results():
    import place

    results = report.results(place.HERE / "results.json")
    assert place.PAGE.read_text() == report.page(results, report.expected())
    known = {one.name for outcomes in results.values() for one in outcomes}
    assert set(report.short()) <= known
    assert set(report.expected()) <= known
    for outcomes in results.values():
        assert report.differences(outcomes, report.expected()) == []
