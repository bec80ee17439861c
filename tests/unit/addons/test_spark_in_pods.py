"""Spark in pods: what is asked of the cluster for an application, and how an executor is started."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from podlab.addons import spark
from podlab.checks.pods import hindrance
from podlab.errors import AddonError, UsageError
from podlab.spark.local import missing

ROOT = Path(__file__).resolve().parents[3]
here = pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} not on this machine: pip install '.[spark]'")


class Nothing:
    """A cluster without the add-on."""

    def get(self, *_words: str) -> None:
        return None


class Small:
    """A cluster with the add-on, whose larger node has 2 GiB; whatever is made in it ends the test."""

    def get(self, *_words: str) -> dict:
        return {"metadata": {"annotations": {spark.IMAGE: "podlab/spark:4"}}}

    def list(self, _kind: str) -> list[dict]:
        return [{"status": {"allocatable": {"memory": size}}} for size in ("1Gi", "2Gi")]


def application(**more: str) -> tuple[dict, dict]:
    wanted = spark.settings("spark-1", "podlab/spark:4", 3, "600m", more)
    config, pod = spark.objects("spark-1", "print(1)", wanted, ["ten"], {"words.txt": "two words"})
    return config, pod


def test_without_the_add_on_it_is_said_how_to_enable_it() -> None:
    with pytest.raises(AddonError, match="podlab addon enable spark"):
        spark.submit(Nothing(), "print(1)")  # type: ignore[arg-type]


def test_an_application_needs_an_executor() -> None:
    with pytest.raises(UsageError, match="not 0"):
        spark.submit(Nothing(), "print(1)", executors=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"executors": 3, "most": 2}, "3 executors at least and 2 at most"),
        ({"executors": 0, "most": 0}, "0 executors at least and 0 at most"),
        ({"memory": "100m"}, "is 100m, and Spark needs 480m at least"),
        ({"memory": "plenty"}, "write it as 512m or 1g"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        spark.submit(Nothing(), "print(1)", **asked)  # type: ignore[arg-type]


def test_an_executor_that_no_node_could_ever_hold_is_refused_with_what_there_is() -> None:
    with pytest.raises(AddonError, match=r"2g for Java, .* asks for 2432 MiB .* the 2 nodes has 2048"):
        spark.submit(Small(), "print(1)", memory="2g")  # type: ignore[arg-type]


def test_the_image_for_clusters_that_pull_theirs_has_the_packages_of_the_extra_and_ends_as_the_other_does() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["spark"]
    complete, ours = ((ROOT / "cluster/images/spark" / f"Dockerfile{name}").read_text() for name in (".complete", ""))
    (line,) = (line for line in complete.splitlines() if "pip install" in line)
    assert sorted(re.findall(r'"(.+?)"', line)) == sorted(extra)
    assert ours.partition("COPY")[2] == complete.partition("COPY")[2]


def pod(**status: object) -> dict:
    return {"metadata": {"name": "one"}, "status": status}


def test_what_keeps_a_pod_from_starting_is_said_in_the_words_of_its_status() -> None:
    unplaced = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient cpu."}
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    assert hindrance(pod(conditions=[unplaced])) == "is Pending: 0/3 nodes are available: 3 Insufficient cpu."
    assert hindrance(pod(containerStatuses=[{"state": {"waiting": waiting}}])) == "waits: ErrImagePull, no such image"
    making = [{"state": {"waiting": {"reason": "ContainerCreating"}}}]
    assert hindrance(pod(containerStatuses=making)) == hindrance(pod()) == ""


def test_with_dynamic_allocation_the_bounds_are_sparks_and_what_is_asked_for_goes_before_ours() -> None:
    fixed = spark.settings("spark-1", "podlab/spark:4", 2, "512m", {})
    own = {"spark.dynamicAllocation.executorIdleTimeout": "1s"}
    found = spark.settings("spark-1", "podlab/spark:4", 0, "512m", own, most=4)
    assert not any("dynamicAllocation" in key for key in fixed)
    told = {key.removeprefix("spark.dynamicAllocation."): value for key, value in found.items()}
    wanted = {"enabled": "true", "minExecutors": "0", "maxExecutors": "4", "shuffleTracking.enabled": "true"}
    assert wanted.items() <= told.items() and told["executorIdleTimeout"] == "1s"


def test_an_executor_whose_pod_is_gone_without_a_word_is_missed_within_seconds() -> None:
    """Unless told otherwise Spark looks each 30 seconds, and believes for 30 that a new one's pod is still to come."""
    found = spark.settings("spark-1", "podlab/spark:4", 2, "512m", {})
    names = ("apiPollingInterval", "missingPodDetectDelta")
    assert [found[f"spark.kubernetes.executor.{name}"] for name in names] == ["5s", "10s"]


def test_the_driver_is_a_pod_with_the_program_and_its_arguments() -> None:
    config, pod = application()
    (container,) = pod["spec"]["containers"]
    assert config["data"]["words.txt"] == "two words"
    assert config["data"]["main.py"] == "print(1)" and "def measured" in config["data"]["measured.py"]
    assert container["args"][-1] == "ten" and pod["spec"]["serviceAccountName"] == "driver"
    assert container["resources"]["limits"]["memory"] == "896Mi"


def test_what_is_asked_of_spark_is_in_the_drivers_environment_after_the_address_that_it_names() -> None:
    _, pod = application(**{"spark.eventLog.enabled": "true"})
    environment = pod["spec"]["containers"][0]["env"]
    names = [one["name"] for one in environment]
    told = shlex.split(next(one["value"] for one in environment if one["name"] == "PYSPARK_SUBMIT_ARGS"))
    assert names.index("POD_IP") < names.index("PYSPARK_SUBMIT_ARGS")
    for words in (
        "spark.executor.instances=3",
        "spark.executor.memory=600m",
        "spark.driver.bindAddress=$(POD_IP)",
        "spark.eventLog.enabled=true",
        "spark.kubernetes.authenticate.executor.serviceAccountName=executor",
    ):
        assert told[told.index(words) - 1] == "--conf"


@here
def test_an_executor_is_started_with_the_options_in_order_and_without_what_its_java_lacks() -> None:
    place = importlib.util.spec_from_file_location("entrypoint", ROOT / "cluster/images/spark/entrypoint.py")
    assert place and place.loader
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    given = {f"SPARK_{name}": name.lower() for name in ("DRIVER_URL", "EXECUTOR_ID", "EXECUTOR_CORES")}
    given |= {f"SPARK_{name}": name.lower() for name in ("APPLICATION_ID", "EXECUTOR_POD_IP", "EXECUTOR_POD_NAME")}
    given |= {"SPARK_RESOURCE_PROFILE_ID": "0", "SPARK_EXECUTOR_MEMORY": "512m"}
    options = ["-Da=1", "--add-modules=jdk.incubator.vector", *(f"-Db{n}=x" for n in range(2, 12))]
    command = module.executor(given | {f"SPARK_JAVA_OPT_{at}": one for at, one in enumerate(options)})
    kept = [one for one in command if one.startswith("-D")]
    assert kept == ["-Da=1", *(f"-Db{n}=x" for n in range(2, 12))]
    assert not [one for one in command if "incubator" in one] and "-Xmx512m" in command
    assert command[command.index("--hostname") + 1] == "executor_pod_ip"


def test_a_value_with_a_space_is_one_setting() -> None:
    _, pod = application(**{"spark.executor.extraJavaOptions": "-Da=1 -Db='2'"})
    (given,) = [one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == "PYSPARK_SUBMIT_ARGS"]
    assert "spark.executor.extraJavaOptions=-Da=1 -Db='2'" in shlex.split(given)


class Running:
    """A driver that is asked three times before it ends, and has printed more each time."""

    def __init__(self, phase: str = "Succeeded") -> None:
        self.phases, self.texts = ["Running"] * 4 + [phase], ["o", "one\ntw", "one\ntwo\nthree"]

    def get(self, *_words: str) -> dict:
        phase = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        return {"metadata": {"name": "spark-1"}, "status": {"phase": phase}}

    def list(self, *_words: str, **_more: str) -> list[dict]:
        return []

    def raw(self, *_words: str, **_more: object) -> SimpleNamespace:
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return SimpleNamespace(status=200, data=text.encode())


def test_what_a_program_prints_is_shown_in_whole_lines_and_once() -> None:
    shown: list[str] = []
    assert spark.Application(Running(), "spark-1").wait(show=shown.append) == "one\ntwo\nthree"  # type: ignore[arg-type]
    assert shown[0] == "one\n" and "".join(shown) == "one\ntwo\nthree"


def test_what_a_program_prints_is_shown_on_after_its_log_was_rotated_and_once_if_the_log_is_away() -> None:
    there, shown = Running(), list[str]()
    there.phases[:0] = ["Running"] * 4  # a look asks twice
    there.texts = ["one\ntwo\nthree\n", "", "one\ntwo\nthree\n", "four\n", "four\nfive\n"]
    spark.Application(there, "spark-1").wait(show=shown.append)  # type: ignore[arg-type]
    assert shown == ["one\ntwo\nthree\n", "four\n", "five\n"]


def test_of_a_program_that_failed_the_error_repeats_nothing_that_was_shown() -> None:
    there, shown = Running("Failed"), list[str]()
    with pytest.raises(AddonError) as error:
        spark.Application(there, "spark-1").wait(show=shown.append)  # type: ignore[arg-type]
    assert "".join(shown) == "one\ntwo\nthree" and error.value.message.endswith("ended as Failed.")


def test_the_end_of_a_program_that_failed_is_told_with_a_whole_trace() -> None:
    there = Running("Failed")
    there.texts = ["".join(f"line {n}\n" for n in range(200))]
    with pytest.raises(AddonError, match=r"ended as Failed(.|\n)*line 121\n(.|\n)*line 199"):
        spark.Application(there, "spark-1").wait()  # type: ignore[arg-type]


def test_a_driver_that_took_too_much_memory_says_so_and_what_to_do() -> None:
    class TooMuch(Running):
        def get(self, *words: str) -> dict:
            driver = super().get(*words)
            terminated = {"reason": "OOMKilled", "exitCode": 137}
            driver["status"]["containerStatuses"] = [{"name": "driver", "state": {"terminated": terminated}}]
            return driver

    for show in (None, lambda _: None):
        with pytest.raises(AddonError, match="ended as Failed: its driver was OOMKilled") as error:
            spark.Application(TooMuch("Failed"), "spark-1").wait(show=show)  # type: ignore[arg-type]
        assert "collect() less" in (error.value.hint or "")


def test_of_a_driver_whose_node_ended_it_the_reason_is_told() -> None:
    evicted = {"reason": "Evicted", "message": "The node was low on resource: memory."}
    assert spark.end_of({"status": evicted})[0] == "Evicted, The node was low on resource: memory."
    error = {"containerStatuses": [{"state": {"terminated": {"reason": "Error", "exitCode": 1}}}]}
    assert spark.end_of({"status": error}) == ("", None)


def test_a_driver_that_was_deleted_is_told_as_that() -> None:
    class Deleted(Running):
        def get(self, *_words: str) -> dict:
            return {}

        def raw(self, *_words: str, **_more: object) -> SimpleNamespace:
            return SimpleNamespace(status=404, data=b"")

    with pytest.raises(AddonError, match="ended as gone") as error:
        spark.Application(Deleted(), "spark-1").wait()  # type: ignore[arg-type]
    assert "deleted its driver" in (error.value.hint or "") and "last lines" not in error.value.message


def test_executors_for_which_no_node_has_memory_are_refused_also_where_that_is_said_as_a_setting_of_spark() -> None:
    annotated = {"metadata": {"annotations": {spark.IMAGE: "podlab/spark:4"}}}
    node = {"metadata": {"name": "node-1"}, "status": {"allocatable": {"memory": "2Gi"}}}
    api = SimpleNamespace(get=lambda *_: annotated, list=lambda *_: [node])
    for asked in ({"memory": "4g"}, {"spark_executor_memory": "4g"}):
        with pytest.raises(AddonError, match=r"With 4g for Java.* it would stay Pending for ever"):
            spark.submit(api, "", **asked)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Spark needs 480m at least"):
        spark.submit(api, "", spark_executor_memory="64m")  # type: ignore[arg-type]
