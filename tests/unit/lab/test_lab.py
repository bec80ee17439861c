"""The learner's surface without a cluster: it says what is missing, keeps progress, and shows everything twice."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest
from IPython.core.interactiveshell import InteractiveShell
from little_api import LittleApi

from podlab import paths
from podlab.checks import faults, registry
from podlab.checks.api import Api
from podlab.checks.contract import Line, Report, Result, Verdict, failed, passed
from podlab.cluster import clusters
from podlab.cluster.folder import ClusterFolder, Record
from podlab.cluster.provider import ClusterSpec
from podlab.errors import ClusterError, PodlabError, UsageError
from podlab.lab import Lab, LabError, chapters, start
from podlab.lab.connection import Connection, connect
from podlab.lab.course_map import CourseMap
from podlab.lab.progress import Progress
from podlab.lab.show import COLUMNS, Listing, Note, ReportView, html_table, plain_table

POD = {
    "metadata": {"name": "serving-1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"nodeName": "node-1", "containers": [{}]},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"ready": True, "restartCount": 2, "state": {"running": {}}}],
    },
}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PODLAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PODLAB_PROGRESS", raising=False)
    config = tmp_path / "kubeconfig"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]\n"
        "users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    monkeypatch.setenv("PODLAB_KUBECONFIG", str(config))
    return tmp_path


def test_without_a_cluster_the_lab_says_so_and_how_to_get_one(capsys):
    lab = start("15")
    said = capsys.readouterr()
    assert "No cluster" in said.out and "podlab cluster up" in said.out and said.err == ""
    for verb in (lambda: lab.pods(), lambda: lab.check("15.1", {"manifest_15_1": "x"}), lambda: lab.reset()):
        with pytest.raises(LabError, match="podlab cluster up"):
            verb()


def test_hints_predictions_and_progress_need_no_cluster():
    lab = start("15")
    assert "?" in lab.hint("15.1").text
    assert "no prediction yet" in lab.predict("x", None).text
    assert "15.4" in lab.progress().text and "<table" in lab.progress().html


def test_a_lab_error_is_shown_without_a_traceback():
    error = LabError("It did not go.", hint="Try this.")
    assert error._render_traceback_() == ["It did not go. Try this."] and isinstance(error, PodlabError)


@pytest.fixture
def orphan(home, monkeypatch):
    """A lab of chapter 15 whose cluster died after it was opened."""
    monkeypatch.setenv("PODLAB_NAMESPACE", "given")
    folder = ClusterFolder(paths.clusters() / "mine")
    folder.create(Record("mine", "embedded", [1], "lab"))
    shutil.copy(home / "kubeconfig", folder.kubeconfig)
    lab = Lab("15", "mine")
    lab.open(Connection("mine", Api.connect(folder.kubeconfig), None, "v1"))
    yield lab
    lab.close()


@pytest.mark.parametrize("verb", ["pods", "nodes", "events", "map"])
def test_a_cluster_that_dies_during_a_lab_is_said_with_the_command_that_brings_it_back(orphan, verb):
    with pytest.raises(PodlabError, match="podlab cluster start --name mine`"):
        getattr(orphan, verb)()


@pytest.mark.parametrize("made", [False, True])
def test_the_cluster_that_was_asked_for_is_the_one_in_the_command(home, monkeypatch, capsys, made):
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    if made:
        folder = ClusterFolder(paths.clusters() / "mine")
        folder.create(Record("mine", "embedded", [1], "lab"))
        shutil.copy(home / "kubeconfig", folder.kubeconfig)
    lab = start("15", cluster="mine")
    command = f"`podlab cluster {'start' if made else 'up'} --name mine`"
    said = capsys.readouterr().out
    assert command in said and 'start("15", cluster="mine", up=True)' in said
    with pytest.raises(LabError) as caught:
        lab.pods()
    assert command in caught.value.message and 'start("15", cluster="mine") again' in (caught.value.hint or "")


def test_a_given_cluster_that_does_not_answer_is_not_ours_to_start(home, capsys):
    start("15")
    said = capsys.readouterr().out
    assert f"to which {home / 'kubeconfig'} leads" in said and "up=True" not in said and "cluster start" not in said


def test_somebody_elses_cluster_that_does_not_answer_is_looked_at(home, monkeypatch, capsys):
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    folder = ClusterFolder(paths.clusters() / "theirs")
    folder.create(Record("theirs", "existing", [], "lab"))
    shutil.copy(home / "kubeconfig", folder.kubeconfig)
    start("15", cluster="theirs")
    assert "podlab cluster status --name theirs" in capsys.readouterr().out


def test_a_lab_that_was_closed_says_how_to_open_it(orphan):
    orphan.close()
    with pytest.raises(LabError, match=r'it was closed. Run lab = start\("15", cluster="mine"'):
        orphan.pods()


def test_a_check_without_its_cluster_scores_nothing_and_progress_stays(orphan):
    Progress("15").scored("15.1", 3.0, False)
    view = orphan.check("15.1", {"manifest_15_1": "kind: Deployment"})
    assert view.report.score is None and "podlab cluster" in view.text and "Traceback" not in view.text
    assert Progress("15").exercise("15.1")["best"] == 3.0


@pytest.fixture
def breakable(home, orphan, monkeypatch):
    """That lab on a cluster with one node that can be harmed, and what has been done to it: (verb, node)."""
    monkeypatch.setattr(faults, "PATIENCE", 0.1)
    done: list[tuple[str, str]] = []

    class Verbs:
        def __getattr__(self, verb):
            return lambda node: done.append((verb, node))

    with LittleApi() as api:
        api.add("/api/v1/nodes/node-1", "Node")
        orphan.open(Connection("default", Api.connect(api.kubeconfig(home / "little")), Verbs(), "v1"))
        yield orphan, done
        orphan.close()


def test_an_object_that_a_restart_of_the_kernel_took_along_is_asked_for_again(breakable):
    lab, _ = breakable
    for verb in (lambda: lab.scale("serving", 3), lambda: lab.get("deployment", "serving")):
        with pytest.raises(LabError, match="after a restart, run the cells that apply your objects again"):
            verb()
    with pytest.raises(LabError, match=r"no Node 'node-9' in .*\. See lab\.get\(\"node\"\)\.$"):
        lab.get("node", "node-9")


def test_a_lab_that_has_harmed_a_node_does_not_wait_for_itself(breakable):
    lab, done = breakable
    assert "lost its power" in lab.kill_node("node-1").text
    for verb in (lambda: lab.check("15.1", {"manifest_15_1": "x"}), lambda: lab.enable("monitoring")):
        with pytest.raises(LabError, match=r'harmed node-1.*rejoin_node\("node-1"\) first'):
            verb()
    lab.rejoin_node("node-1")
    with pytest.raises(UsageError, match="no add-on"):
        lab.enable("none such")
    assert done == [("kill", "node-1"), ("rejoin", "node-1")]


def test_a_name_of_the_learners_own_is_not_taken_over_and_the_lab_says_so(breakable):
    """It ended in the traceback of an exception that is for checks."""
    lab, _ = breakable
    lab.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "visitor"}, "spec": {}}, lab.namespace)
    with pytest.raises(LabError, match=r"Pod 'visitor' has a name that the checker needs") as refused:
        lab.visitor()
    assert "name of its own" in refused.value.hint


@pytest.mark.parametrize("verb", ["kill_node", "isolate_node"])
def test_a_node_that_there_is_not_is_no_harm_done(breakable, verb):
    lab, done = breakable
    with pytest.raises(LabError, match=r"no node 'node-9'. There are node-1"):
        getattr(lab, verb)("node-9")
    with pytest.raises(LabError, match=r"7 is no node. Give its name, or one of lab.nodes"):
        getattr(lab, verb)(7)
    assert done == [] and faults.harmed_by("default") == ""
    getattr(lab, verb)(lab.nodes()[0])
    assert "chapter 15" in faults.harmed_by("default")
    assert "node-1 is back" in lab.rejoin_node(lab.nodes()[0]).text and faults.harmed_by("default") == ""


def test_a_fault_that_fails_leaves_no_node_harmed(breakable, monkeypatch):
    lab, done = breakable

    def fail(node):
        raise ClusterError("The plug is stuck.")

    lab._connection.nodes.kill = fail
    with pytest.raises(ClusterError, match="stuck"):
        lab.kill_node("node-1")
    assert done == [("rejoin", "node-1")] and faults.harmed_by("default") == ""
    lab.isolate_node("node-1")
    with pytest.raises(ClusterError, match="stuck"):
        lab.kill_node("node-1")
    assert "chapter 15" in faults.harmed_by("default"), "what was harmed before stays so"


def test_a_harmed_node_that_has_been_removed_since_holds_nobody_up(breakable):
    lab, _ = breakable
    lab.kill_node("node-1")

    def fail(node):
        raise UsageError("There is no node node-1.")

    lab._connection.nodes.rejoin = fail
    with pytest.raises(UsageError, match="no node"):
        lab.rejoin_node("node-1")
    assert faults.harmed_by("default") == ""


def test_errors_of_the_course_are_shown_in_a_notebook_as_their_message(capsys):
    shell = InteractiveShell()
    shell.run_cell("from podlab.errors import UsageError\nraise UsageError('No worker.', hint='Start one.')")
    said = "".join(capsys.readouterr())
    assert "No worker. Start one." in said and "Traceback" not in said and "run_cell" not in said


def test_cells_that_are_run_out_of_order_say_what_comes_first():
    lab = start("01")
    assert "you made no prediction" in lab.reconcile("never predicted", 3).text
    with pytest.raises(LabError, match=r'First lab.check\("01.2"\)'):
        lab.replay("01.2")
    assert "?" in lab.hint("01.1").text
    view = lab.check("01.1")
    assert view.report.score == 0 and "split" in view.text and "Traceback" not in view.text


def test_a_cell_that_opens_the_lab_again_closes_the_one_before():
    first = start("03")
    first.election("Five", seed=1)
    second = start("03")
    assert second is not first and second._views == [] and second.seed == first.seed


def test_a_reset_ends_what_feeds_the_pictures_and_keeps_progress(orphan):
    cell = start("11")
    for lab in (orphan, cell):
        lab.predict("time", 5, "s")
        graph = lab.graph({})
        before = set(threading.enumerate())
        graph.start()
        threads = set(threading.enumerate()) - before
        assert threads and "clean slate" in lab.reset().text
        assert graph.mode == "recorded" and lab._views == []
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert "5 s" in lab.predict("time", None, "s").text
    assert orphan.namespace == "given"


def test_a_reset_moves_a_lab_to_the_cluster_that_is_in_use_and_not_one_that_was_named(monkeypatch):
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    monkeypatch.setenv("PODLAB_NAMESPACE", "given")
    kept = "/api/v1/namespaces/given/configmaps"
    with LittleApi() as here, LittleApi() as there:
        for name, api in (("here", here), ("there", there)):
            folder = ClusterFolder(paths.clusters() / name)
            folder.create(Record(name, "existing", [], "lab"))
            api.kubeconfig(folder.kubeconfig)
        clusters.use("here")
        moving, staying = start("15"), start("14", cluster="here")
        moving.predict("time", 5, "s")
        clusters.use("there")
        for lab in (moving, staying):
            lab.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: before}")
        assert here.names(kept) == {"before"} and there.names(kept) == set(), "an open lab stays where it is"
        assert "cluster there" in f"{moving.reset().text} {moving}" and "cluster here" in f"{staying.reset()} {staying}"
        moving.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: after}")
        assert there.names(kept) == {"after"} and "5 s" in moving.predict("time", None, "s").text
        for lab in (moving, staying):
            lab.close()


def test_kubectl_in_a_cell_asks_the_labs_cluster_and_what_is_the_learners_own_stays(home, monkeypatch):
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    monkeypatch.setenv("PODLAB_NAMESPACE", "given")
    with LittleApi() as api:
        files = []
        for name in ("here", "there"):
            folder = ClusterFolder(paths.clusters() / name)
            folder.create(Record(name, "existing", [], "lab"))
            files.append(str(api.kubeconfig(folder.kubeconfig)))
        for given, expected in ((files[0], files[1]), (str(home / "own"), str(home / "own")), ("", "")):
            monkeypatch.setenv("KUBECONFIG", given)
            start("15", cluster="there").close()
            assert os.environ["KUBECONFIG"] == expected


def test_a_reset_that_cannot_move_leaves_the_lab_where_it_is(home, monkeypatch):
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    monkeypatch.setenv("PODLAB_NAMESPACE", "given")
    with LittleApi() as api:
        for name in ("here", "away"):
            folder = ClusterFolder(paths.clusters() / name)
            folder.create(Record(name, "existing", [], "lab"))
            shutil.copy(home / "kubeconfig", folder.kubeconfig)
        api.kubeconfig(paths.clusters() / "here" / "kubeconfig")
        clusters.use("here")
        lab = start("15")
        clusters.use("away")
        with pytest.raises(PodlabError, match="podlab cluster status --name away"):
            lab.reset()
        lab.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}")
        assert api.names("/api/v1/namespaces/given/configmaps") == {"kept"}
        lab.close()


@pytest.mark.parametrize("name", ["5", "15.1", "", "ab", "../15", 15, None])
def test_what_is_no_chapter_is_refused(name):
    with pytest.raises(LabError, match="two digits"):
        start(name)


def test_unknown_exercises_are_named():
    with pytest.raises(LabError, match=r"15\.1, 15\.2"):
        start("15").hint("15.7")


def test_hints_climb_the_ladder_depend_on_the_answer_and_end(monkeypatch):
    from podlab.lab import notebook as module

    lab = start("15")
    monkeypatch.setattr(module, "user_names", lambda: {"manifest_15_1": "livenessProbe: {tcpSocket: {port: 1}}"})
    first = lab.hint("15.1").text
    assert "TCP probe" in first
    shown = [first]
    while "every hint" not in shown[-1]:
        shown.append(lab.hint("15.1").text)
    assert len(set(shown)) == len(shown) > 3
    monkeypatch.setattr(module, "user_names", lambda: {"manifest_15_1": "readinessProbe: {}"})
    assert "takes its traffic away" in lab.hint("15.1").text


def test_a_prediction_is_committed_before_and_fixed_after_the_measurement():
    lab = start("15")
    lab.predict("time", 5, "s")
    lab.predict("time", 8, "s")
    assert lab.reconcile("time", 9.5).text == "time: measured 9.5 s, predicted 8 s: off by 1.5 s."
    assert "stays 8 s" in lab.predict("time", 9.5, "s").text
    assert start("15").predict("time", 9, "s").text.endswith("your prediction is 9 s."), "a new kernel may predict anew"
    assert "no prediction" in lab.reconcile("other", 1).text
    lab.predict("word", "no")
    assert "as predicted" in lab.reconcile("word", "no").text


def test_a_second_kernel_that_has_no_prediction_yet_takes_none_away():
    first, second = Lab("15"), Lab("15")
    first.predict("time", 5, "s")
    assert second.predict("time", None, "s").text == "time: your prediction is 5 s."
    assert first.reconcile("time", 9.5).text == "time: measured 9.5 s, predicted 5 s: off by 4.5 s."
    assert "stays 5 s" in Lab("15").predict("time", None, "s").text
    assert second.predict("time", 7, "s").text == "time: your prediction is 7 s.", "a fresh run may predict anew"
    assert "no prediction" in first.reconcile("other", 1).text
    assert "stays none" in first.predict("other", 1).text, "what has been measured can no longer be predicted"


def test_progress_survives_and_the_best_score_stays():
    progress = Progress("15")
    progress.scored("15.1", 7.5, False)
    progress.scored("15.1", 2.5, False)
    progress.scored("15.1", None, False)
    again = Progress("15").exercise("15.1")
    assert again["best"] == 7.5 and again["attempts"] == 3 and again["passed_at"] is None


@pytest.mark.parametrize(
    "value", [..., {1}, [5], 1j, float("nan"), 10**400, numpy.array([1, 2]), Decimal("sNaN"), object()]
)
def test_what_is_no_prediction_is_refused_in_words_and_spoils_nothing(value):
    lab = Lab("15")
    for verb in (lab.predict, lab.reconcile):
        with pytest.raises(LabError, match=r"^time: .* can be compared with nothing\. Give a name and a number"):
            verb("time", value)
        with pytest.raises(LabError, match=r"^The name .* is no text\."):
            verb(value, 5)
    with pytest.raises(LabError, match=r"^The unit .* is no text\."):
        lab.predict("time", 5, value)
    assert "5 s" in lab.predict("time", 5, "s").text
    assert set(Progress("15").read()["predictions"]) == {"time"}


@pytest.mark.parametrize(
    "number", [numpy.int64(3), numpy.float32(3), numpy.longdouble(3), numpy.array([3]), Decimal(3), Fraction(3)]
)
def test_every_kind_of_number_is_a_number(number):
    lab = Lab("15")
    assert "is 3." in lab.predict("count", number).text
    assert "off by 0" in lab.reconcile("count", number).text
    assert Progress("15").read()["predictions"]["count"]["measured"] == 3


def test_an_exercise_that_is_not_of_this_chapter_or_no_text_is_told():
    lab = Lab("03")
    with pytest.raises(LabError, match=r'^Exercise 15\.1 is of chapter 15, .* 03\. Run lab = start\("15"\)'):
        lab.check("15.1", {"manifest_15_1": "x"})
    for verb in (lab.check, lab.score, lab.hint):
        with pytest.raises(LabError, match=r'^3\.1 is no exercise.s id\. Write it in quotes, such as "15\.1"'):
            verb(3.1)


def test_a_unit_in_the_prediction_is_told():
    lab = Lab("15")
    for text in ("5", "5 s"):
        with pytest.raises(
            LabError, match=rf"^time: '{text}' is a text; .* a number of s\. .* lab\.predict\(\"time\", 5, "
        ):
            lab.predict("time", text, "s")
    lab.predict("writes", "6 writes")
    assert "predicted '6 writes': a text, where a number can be compared" in lab.reconcile("writes", 6).text
    lab.predict("restarts", "6")
    assert "as predicted" in lab.reconcile("restarts", 6).text


def test_a_change_that_cannot_be_applied_is_dropped():
    progress = Progress("15")
    for change in (lambda data: data.update(x={1}), lambda data: data["exercises"].append(1)):
        with pytest.raises((TypeError, AttributeError)):
            progress.change(change)
    progress.scored("15.1", 1.0, False)
    assert Progress("15").exercise("15.1")["best"] == 1.0


@pytest.mark.parametrize(
    "text", ["{ not json", "[]", "7", '{"exercises": []}', '{"exercises": {"15.1": 3}}', "[" * 99999]
)
def test_a_damaged_progress_file_is_kept_aside_and_not_fatal(text):
    progress = Progress("15")
    progress.scored("15.1", 1.0, False)
    progress.file.write_text(text)
    assert progress.exercise("15.1")["best"] is None
    assert any("damaged" in path.name for path in progress.folder.iterdir())


def test_two_kernels_that_write_lose_nothing():
    def work():
        progress = Progress("15")
        for _ in range(20):
            progress.scored("15.1", 1.0, False)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Progress("15").exercise("15.1")["attempts"] == 80


def test_a_listing_shows_the_same_facts_as_text_and_as_html():
    pods = Listing([POD], COLUMNS["Pod"], "pods")
    for fact in ("serving-1", "1/1", "node-1", "2", "running and ready"):
        assert fact in repr(pods) and fact in pods._repr_html_()
    assert pods[0] is POD and repr(Listing([], COLUMNS["Pod"], "pods")) == "No pods."


def test_what_others_write_is_escaped():
    evil = "<script>alert(1)</script>"
    assert "<script" not in html_table(["A"], [[evil]]) and "<script" not in Note(evil).html
    report = report_of(failed(evil, evil, cause=evil, next_step=evil))
    assert "<script" not in ReportView(report).html and evil in ReportView(report).text


def report_of(*results: Result) -> Report:
    rows = [Line(f"c{number}", f"Check {number}", 1, False, result, 1.0) for number, result in enumerate(results)]
    return Report("15.1", "T", 10, rows, 5, "n", 1, 12.0)


def test_a_failed_report_says_expected_observed_cause_and_next_step_and_a_passed_one_the_debrief():
    fail = failed("the moon", "a lamp", cause="night", next_step="wait")
    view = ReportView(report_of(passed("a", "b"), fail), "why it works", "notebooks/x.ipynb#y")
    for words in ("the moon", "a lamp", "night", "wait", "5 of 10 points", 'lab.hint("15.1")', "notebooks/x.ipynb#y"):
        assert words in view.text
    for words in ("the moon", "a lamp", "night", "wait", "5 of 10 points"):
        assert words in view.html
    assert "why it works" not in view.text
    assert "why it works" in ReportView(report_of(passed("a", "b")), "why it works").text


def test_what_could_not_be_measured_is_not_called_wrong():
    view = ReportView(report_of(Result(Verdict.INFRASTRUCTURE, "x", "API away")))
    assert "could not be measured" in view.text and "Nothing is scored" in view.text


@pytest.mark.parametrize(
    ("exercise", "hint"), [("01.1", "Close other programs, then"), ("15.1", "podlab cluster status")]
)
def test_a_grade_cell_for_which_nothing_could_be_measured_gives_no_points_and_says_what_to_do(
    exercise, hint, monkeypatch
):
    view = ReportView(report_of(Result(Verdict.INFRASTRUCTURE, "x", "the machine was busy")))
    lab = start(exercise[:2])
    monkeypatch.setattr(lab, "check", lambda _exercise: view)
    with pytest.raises(LabError, match=f"Nothing is scored.*{hint}"):
        lab.score(exercise)


def test_plain_tables_line_up():
    assert plain_table(["A", "B"], [["long", "x"]]) == "A     B\nlong  x"


def test_the_map_of_the_course_knows_which_chapters_exist(request):
    course = request.config.rootpath
    written = {path.name[:2] for path in (course / "manuscript").iterdir()}
    assert set(chapters.written()) == written
    told = (course / "docs" / "course.md").read_text().partition("Written so far: ")[2].replace("\n", " ").strip()
    titles = [f"{each.number} {each.title}" for part in chapters.PARTS.values() for each in part if each.ready]
    assert told == ", ".join(titles) + "."
    assert [row.chapter.number for row in CourseMap().rows] == [f"{number:02}" for number in range(28)]


def test_the_map_of_the_course_shows_how_far_one_has_come_and_links_to_what_is_there():
    Progress("15").scored("15.1", 10.0, True)
    shown = start("00").course()
    exercises = sum(len(registry.chapter(row.chapter.number)) for row in shown.rows if row.exercises)
    assert f"passed 1 of {exercises} exercises" in shown.summary and shown.summary in shown.text
    assert next(row for row in shown.rows if row.chapter.number == "00").exercises == 2
    row = next(row for row in shown.rows if row.chapter.number == "15")
    assert (row.passed == 1 and row.exercises == 4 and "three nodes" in row.needs) or "cluster" in row.needs
    assert 'href="15-self-healing.ipynb"' in shown.html and 'href="../release/15-self-healing/' in shown.html
    assert "1 of 4" in shown.html and "to come" in shown.text


def test_the_map_of_the_course_shows_the_measured_times_and_on_which_machine(monkeypatch):
    times = {"lesson": {"cells": 9, "machine": "2 cores (X), 8 GiB", "seconds": 150}}
    monkeypatch.setattr(chapters.Chapter, "measured", property(lambda self: times if self.number == "15" else {}))
    shown = CourseMap()
    row = next(row for row in shown.rows if row.chapter.number == "15")
    assert row.words[4] == f"{row.minutes} min (2 min)" and "(" not in row.words[5]
    assert "Measured on 2 cores (X), 8 GiB" in shown.text and "Measured on 2 cores (X), 8 GiB" in shown.html


def test_in_a_graded_kernel_nothing_is_checked(monkeypatch, capsys):
    monkeypatch.setenv("PODLAB_GRADED_OUTSIDE", "1")
    assert start("15").score("15.1") == 0.0
    assert "checked outside" in capsys.readouterr().out


def test_what_cannot_be_saved_keeps_nobody_from_learning_and_is_saved_later(capsys):
    lab = start("01")
    capsys.readouterr()
    before = Progress("01")
    before.scored("01.1", 2.0, False)
    (before.folder / ".lock").unlink()
    (before.folder / ".lock").mkdir()  # no root can write to that
    view = lab.check("01.1", {})
    assert view.report.exercise == "01.1"
    hints = [lab.hint("01.1").text for _ in range(2)]
    assert hints[0] != hints[1]
    assert "your prediction is 3" in lab.predict("p", 3).text
    assert "off by 1" in lab.reconcile("p", 4).text
    said = capsys.readouterr().out
    assert said.count("cannot be saved") == 1 and str(before.folder) in said and "Is a directory" in said
    assert before.exercise("01.1")["attempts"] == 1
    (before.folder / ".lock").rmdir()
    lab.predict("q", 1)
    saved = Progress("01")
    assert saved.exercise("01.1")["attempts"] == 2 and len(saved.exercise("01.1")["hints"]) == 2
    assert saved.exercise("01.1")["best"] == 2.0 and saved.read()["predictions"]["p"]["measured"] == 4


def test_progress_is_private(home):
    Progress("15").scored("15.1", 1.0, True)
    file = Progress("15").file
    assert file.stat().st_mode & 0o077 == 0 and json.loads(file.read_text())["exercises"]["15.1"]["passed_at"]


@pytest.fixture
def foreign(home, monkeypatch):
    """A cluster that somebody else runs, named by PODLAB_KUBECONFIG."""
    with LittleApi(forbidden={"nodes"}) as api:
        monkeypatch.setenv("PODLAB_KUBECONFIG", str(api.kubeconfig(home / "foreign", name="shop-prod-eu")))
        yield api


def test_a_cluster_that_looks_like_production_is_asked_for_before_it_is_touched(foreign, capsys, monkeypatch):
    for said in ("", "shop"):
        monkeypatch.setenv("PODLAB_CONFIRM", said)
        start("14")
        told = capsys.readouterr().out
        assert "others depend on" in told and "PODLAB_CONFIRM=shop-prod-eu" in told
        assert foreign.users == set() and foreign.objects == {}
    monkeypatch.setenv("PODLAB_CONFIRM", "shop-prod-eu")
    assert connect().version == "v1.37.2"


def test_expired_credentials_are_called_so_where_a_lab_connects(foreign, home, monkeypatch):
    monkeypatch.setenv("PODLAB_CONFIRM", "shop-prod-eu")
    end = base64.urlsafe_b64encode(b'{"exp": 1000000000}').decode().rstrip("=")
    file = foreign.kubeconfig(home / "foreign", name="shop-prod-eu", user={"token": f"e30.{end}.x"})
    spec = ClusterSpec("theirs", kubeconfig=str(file), confirmed="shop-prod-eu")
    clusters.provider("existing").up(spec, lambda _step: None)
    foreign.refuse = 401
    said = r"401 Unauthorized\): its token expired at 2001-09-09"
    with pytest.raises(LabError, match=said) as caught:
        connect()
    assert str(file) in caught.value.message and "PODLAB_KUBECONFIG" in caught.value.hint
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    with pytest.raises(LabError, match=said) as caught:
        connect("theirs")
    assert "down --forget" in caught.value.hint


def test_a_cluster_by_its_kubeconfig_is_never_taken_for_the_one_in_use(foreign, home, capsys, monkeypatch):
    ours = ClusterFolder(paths.clusters() / "default")
    ours.create(Record("default", "embedded", [1], "lab"))
    monkeypatch.setenv("PODLAB_NAMESPACE", "given")
    file = foreign.kubeconfig(home / "foreign", name="default")
    lab = start("21")
    assert f"cluster default of {file} (v1.37.2)" in capsys.readouterr().out
    with faults.exclusive("default"), faults.undisturbed(connect().name):
        pass  # whoever harms our nodes holds nobody up there
    with pytest.raises(ClusterError, match="--provider existing --name class"):
        lab.enable("monitoring")
    assert foreign.objects == {}
    foreign.kubeconfig(ours.kubeconfig)
    monkeypatch.setenv("PODLAB_KUBECONFIG", str(ours.kubeconfig))
    assert connect().name == "default", "one of ours by its own kubeconfig"
    monkeypatch.setenv("PODLAB_KUBECONFIG", str(file))
    monkeypatch.setenv("PODLAB_CLUSTER", "default")
    assert connect().name == "default" and connect().nodes is not None, "one of ours because it was named"
    lab.close()


@pytest.mark.parametrize("verb", ["nodes", "map", "staircase"])
def test_a_right_that_is_missing_is_named_at_once_with_what_to_do(foreign, monkeypatch, verb):
    monkeypatch.setenv("PODLAB_CONFIRM", "shop-prod-eu")
    monkeypatch.setenv("PODLAB_NAMESPACE", "given")
    lab = start("14")
    with pytest.raises(LabError, match='cannot list resource "nodes"') as caught:
        getattr(lab, verb)()
    assert "Ask those who run the cluster" in caught.value.hint and "docs/clusters.md" in caught.value.hint
    lab.close()


@pytest.mark.parametrize("content", [None, "", "contexts: [{name: x}]", "contexts: [{name: x}]\ncurrent-context: y"])
def test_a_variable_that_leads_to_no_cluster_is_named(home, monkeypatch, content):
    file = home / "wrong"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PODLAB_KUBECONFIG", str(file))
    with pytest.raises(LabError, match=f"^PODLAB_KUBECONFIG: .*{file}") as caught:
        connect()
    assert "--" not in str(caught.value), "a notebook has no options"


def test_only_nodes_that_we_run_have_our_image(foreign, home, monkeypatch):
    ours = ClusterFolder(paths.clusters() / "ours")
    ours.create(Record("ours", "embedded", [1], "lab"))
    foreign.kubeconfig(ours.kubeconfig)
    spec = ClusterSpec("theirs", kubeconfig=str(home / "foreign"), confirmed="shop-prod-eu")
    clusters.provider("existing").up(spec, lambda _step: None)
    monkeypatch.setenv("PODLAB_KUBECONFIG", str(ours.kubeconfig))
    assert connect().image == "podlab/python:3", "one of ours by its kubeconfig"
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    assert connect("ours").image == "podlab/python:3"
    assert connect("theirs").image.startswith("docker.io/library/python:")


def test_what_is_set_for_the_cluster_of_a_class_is_not_meant_for_ones_own(foreign, monkeypatch):
    """JupyterLab keeps its variables when its user goes on at home, on a cluster that has no such namespaces."""
    monkeypatch.delenv("PODLAB_KUBECONFIG")
    monkeypatch.setenv("PODLAB_NAMESPACES", "ada-1,ada-2")
    monkeypatch.setenv("PODLAB_LAB_IMAGE", "registry.example.org/python:3")
    for name, provider in (("class", "existing"), ("home", "embedded")):
        folder = ClusterFolder(paths.clusters() / name)
        folder.create(Record(name, provider, [], "lab"))
        foreign.kubeconfig(folder.kubeconfig)
    found = connect("class")
    assert (found.namespaces, found.image) == (("ada-1", "ada-2"), "registry.example.org/python:3")
    found = connect("home")
    assert (found.namespaces, found.image) == ((), "podlab/python:3")


def test_a_foreign_cluster_runs_an_official_image_and_given_namespaces_and_says_so(foreign, capsys, monkeypatch):
    monkeypatch.setenv("PODLAB_CONFIRM", "shop-prod-eu")
    monkeypatch.setenv("PODLAB_NAMESPACES", "mine, mine-too")
    lab = start("14")
    told = capsys.readouterr().out
    assert "namespace mine." in told and "in your own name" in told
    assert "podlab/python:3 this cluster runs docker.io/library/python" in told
    lab.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{image: podlab/python:3.11}]}")
    assert lab.get("pod", "x")["spec"]["containers"][0]["image"].startswith("docker.io/library/python:")
    lab.close()
    assert foreign.objects == {}
    monkeypatch.setenv("PODLAB_LAB_IMAGE", "registry.example.org/python:3")
    assert connect().image == "registry.example.org/python:3"
