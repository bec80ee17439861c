"""Spark in pods: what is asked of the cluster for an application, and how an executor is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from podlab.addons import spark
from podlab.errors import AddonError, UsageError
from podlab.spark.local import missing

ROOT = Path(__file__).resolve().parents[3]
here = pytest.mark.skipif(bool(missing()), reason=f"{', '.join(missing())} not on this machine: pip install '.[spark]'")


class Nothing:
    """A cluster without the add-on."""

    def get(self, *_words: str) -> None:
        return None


def application(**more: str) -> tuple[dict, dict]:
    wanted = spark.settings("spark-1", "podlab/spark:4", 3, "600m", more)
    config, pod = spark.objects("spark-1", "print(1)", wanted, ["ten"])
    return config, pod


def test_without_the_add_on_it_is_said_how_to_enable_it() -> None:
    with pytest.raises(AddonError, match="podlab addon enable spark"):
        spark.submit(Nothing(), "print(1)")  # type: ignore[arg-type]


def test_an_application_needs_an_executor() -> None:
    with pytest.raises(UsageError, match="not 0"):
        spark.submit(Nothing(), "print(1)", executors=0)  # type: ignore[arg-type]


def test_the_driver_is_a_pod_with_the_program_and_its_arguments() -> None:
    config, pod = application()
    (container,) = pod["spec"]["containers"]
    assert config["data"]["main.py"] == "print(1)" and "def measured" in config["data"]["measured.py"]
    assert container["args"][-1] == "ten" and pod["spec"]["serviceAccountName"] == "driver"
    assert container["resources"]["limits"]["memory"] == "896Mi"


def test_what_is_asked_of_spark_is_in_the_drivers_environment_after_the_address_that_it_names() -> None:
    _, pod = application(**{"spark.eventLog.enabled": "true"})
    environment = pod["spec"]["containers"][0]["env"]
    names = [one["name"] for one in environment]
    told = next(one["value"] for one in environment if one["name"] == "PYSPARK_SUBMIT_ARGS")
    assert names.index("POD_IP") < names.index("PYSPARK_SUBMIT_ARGS")
    for words in (
        "spark.executor.instances=3",
        "spark.executor.memory=600m",
        "spark.driver.bindAddress=$(POD_IP)",
        "spark.eventLog.enabled=true",
        "spark.kubernetes.authenticate.executor.serviceAccountName=executor",
    ):
        assert f"--conf {words} " in told


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
