"""From ginkgo's report to a judgement: nothing is lost, and both directions count."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import own_tests
import place
import pytest
import report
import typer
from report import Outcome
from typer.testing import CliRunner

from podlab.errors import UsageError


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


def test_the_page_explains_every_failure(monkeypatch):
    outcomes = [Outcome("a|b", "common/node/pods:208", "passed"), Outcome("c", "f:1", "failed", 1.0, "broken")]
    text = report.page({"Sandbox": outcomes}, {})
    assert "## Sandbox: 1 of 2 passed" in text
    assert "### Failed" in text and "not explained: broken" in text and "Not possible" not in text
    monkeypatch.setattr(report, "expected", lambda where: {"c": f"no cgroups on {where}"})
    text = report.page({"Sandbox": outcomes}, {})
    assert "### Not possible" in text and "no cgroups on Sandbox" in text and "### Failed" not in text


def test_two_runtimes_stand_side_by_side_with_what_passed_of_what_ran(monkeypatch):
    a, b, c = (f"{letter} [Conformance]" for letter in "abc")
    place = "common/node/pods:208"
    one = [Outcome(a, place, "passed"), Outcome(b, place, "passed"), Outcome(c, place, "passed")]
    other = [Outcome(a, place, "passed"), Outcome(b, place, "failed", 1.0, "no"), Outcome(c, place, "not run")]
    text = report.page({"Sandbox": one, "kind": other}, {})
    assert "| B | plain processes | 3 | 3 | 1 of 2 |" in text and "| all |  | 3 | 3 | 1 of 2 |" in text
    assert "| C | processes and files | 0 | not run | not run |" in text
    differs = text.partition("Outcomes that differ:")[2].partition("## Sandbox")[0]
    assert f"| {b} | passed | failed | Not explained on kind. |" in differs
    assert f"| {a} |" not in differs and f"| {c} |" not in differs
    monkeypatch.setattr(report, "expected", lambda where: {b: "No registry."} if where == "kind" else {})
    assert f"| {b} | passed | failed | No registry. |" in report.page({"Sandbox": one, "kind": other}, {})
    assert "Outcomes that differ: none." in report.page({"Sandbox": one, "kind": one}, {})
    assert "Side by side" not in report.page({"Sandbox": one}, {})


def test_the_committed_page_is_that_of_the_committed_results():
    results = report.results(place.HERE / "results.json")
    assert place.PAGE.read_text() == report.page(results, own_tests.read())
    known = {one.name for outcomes in results.values() for one in outcomes}
    assert set(report.short()) <= known
    for where in (*results, "embedded, plain, root", "kind"):
        assert set(report.expected(where)) <= known
    for where, outcomes in results.items():
        assert report.differences(outcomes, report.expected(where)) == []


def test_what_is_expected_to_fail_is_said_by_cluster(monkeypatch):
    table = {"failure": [{"test": "a", "on": ["embedded"], "why": "x"}, {"test": "b", "on": ["kind"], "why": "y"}]}
    table["failure"].append({"test": "c", "on": ["embedded, plain"], "why": "z"})
    monkeypatch.setattr(report, "_table", lambda _name: table)
    assert report.expected("embedded, sandbox, root") == {"a": "x"}
    assert report.expected("embedded, plain, ordinary user") == {"a": "x", "c": "z"}
    assert report.expected("kind") == {"b": "y"}
    assert report.expected("kindred") == {}


def test_classes_that_cannot_pass_on_a_cluster_are_left_out_there_and_the_page_says_why(monkeypatch, tmp_path):
    main = main_of(monkeypatch, tmp_path)
    asked = main.selection(False, [], "", 2, "embedded, plain, root")
    assert set(asked.places) == set(report.of_class("A")), "the others would each wait five minutes"
    assert main.selection(False, [], "", 2, "embedded, sandbox, root").places == []
    assert set(main.selection(False, [], "B", 2, "embedded, plain, root").places) == set(report.of_class("B"))
    found = [report.Outcome(f"{kind} test", report.of_class(kind)[0], "not run") for kind in "BD"]
    text = report.page({"embedded, plain, root": found, "embedded, sandbox, root": found}, {})
    assert "- 2 tests of the classes B, D: The images of the suite" in text and text.count("- B test\n") == 1


def test_a_cluster_is_called_what_it_is(monkeypatch):
    import running

    for uid, user in ((0, "root"), (1000, "ordinary user")):
        monkeypatch.setattr(running.os, "geteuid", lambda uid=uid: uid)
        assert running.called("embedded", "plain") == f"embedded, plain, {user}"
    assert running.called("kind", "sandbox") == "kind"


def main_of(monkeypatch, folder):
    """The command, with a results file, a page and a cluster of its own that writes nothing elsewhere."""
    spec = importlib.util.spec_from_file_location("conformance_main", place.HERE / "__main__.py")
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    monkeypatch.setattr(main, "RESULTS", folder / "results.json")
    monkeypatch.setattr(place, "PAGE", folder / "page.md")
    monkeypatch.setattr(own_tests, "FILE", folder / "own-tests.json")
    return main


def test_outcomes_are_taken_under_the_name_of_their_cluster(monkeypatch, tmp_path):
    main = main_of(monkeypatch, tmp_path)
    runs = {"one": "embedded, plain, root", "two": "embedded, plain, root", "other": "kind"}
    for name, where in runs.items():
        (tmp_path / name).mkdir()
        report.write_results(tmp_path / name / "outcomes.json", where, [Outcome(name, "f:1", "passed", commit="abc")])
    command = typer.Typer()
    command.command()(main.main)
    taken = CliRunner().invoke(command, ["--take", str(tmp_path / "one"), "--take", str(tmp_path / "two"), "--record"])
    assert taken.exit_code == 0, taken.output
    (where, outcomes), *others = report.results(tmp_path / "results.json").items()
    assert (where, others) == ("embedded, plain, root", []) and [one.name for one in outcomes] == ["one", "two"]
    assert "Ran on abc." in (tmp_path / "page.md").read_text()
    mixed = CliRunner().invoke(command, ["--take", str(tmp_path / "one"), "--take", str(tmp_path / "other")])
    assert isinstance(mixed.exception, UsageError) and "embedded, plain, root, kind" in mixed.exception.message
    nameless = CliRunner().invoke(command, ["--kubeconfig", str(tmp_path / "x"), "--record"])
    assert isinstance(nameless.exception, UsageError) and "--called" in nameless.exception.hint


def test_several_commits_are_all_named():
    outcomes = [Outcome(name, "f:1", "passed", commit=commit) for name, commit in zip("abc", "xxy", strict=True)]
    assert "Ran on x (2 tests), y (1 tests)." in report.page({"S": outcomes}, {})


JUNIT = """<testsuites><testsuite>{commit}
<testcase classname="tests.cluster.test_pods" name="test_a"/>
<testcase classname="tests.cluster.test_pods" name="test_b[x|y]"><skipped message="{skip}"/></testcase>
<testcase classname="tests.cluster.test_streams" name="test_c">{failure}</testcase>
</testsuite></testsuites>"""


def test_our_own_tests_stand_side_by_side_with_what_failed_and_why_others_were_passed_over(monkeypatch, tmp_path):
    main = main_of(monkeypatch, tmp_path)
    said = "<properties><property name='commit' value='abc+'/></properties>"
    (tmp_path / "e.xml").write_text(JUNIT.format(skip="never", failure="", commit=""))
    skip, failure = "not on kind: its nodes", "<failure message='no'/>"
    (tmp_path / "k.xml").write_text(JUNIT.format(skip=skip, failure=failure, commit=said))
    command = typer.Typer()
    command.command()(main.main)
    for name, file in (("embedded", "e.xml"), ("kind", "k.xml")):
        done = CliRunner().invoke(command, ["--own-tests", f"{name}={tmp_path / file}"])
        assert done.exit_code == 0, done.output
    text = (tmp_path / "page.md").read_text()
    assert "- kind: abc+\n" in text and "- embedded: a commit that was not noted\n" in text
    assert "| test_pods | 1 passed, 1 skipped | 1 passed, 1 skipped |" in text
    assert "| all | 2 passed, 1 skipped | 1 passed, 1 skipped, 1 failed |" in text
    failed, _, passed_over = text.partition("What failed:")[2].partition("What was passed over, and why:")
    assert "- on kind: test_streams: test_c" in failed and "test_a" not in failed + passed_over
    assert r"| kind | its nodes | test_pods: test_b[x\|y] |" in passed_over
    assert r"| embedded | never | test_pods: test_b[x\|y] |" in passed_over
    several = {"commit": "x", "tests": dict.fromkeys(("test_a: b", "test_a: c", "test_d: e"), "skipped: why")}
    assert "| there | why | 2 of test_a, 1 of test_d |" in own_tests.section({"there": several})
    (tmp_path / "no.xml").write_text("nothing")
    with pytest.raises(UsageError, match=r"no\.xml is no JUnit report"):
        own_tests.taken(tmp_path / "no.xml")
