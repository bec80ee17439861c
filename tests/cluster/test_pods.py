"""The life of pods on a real node: what Kubernetes promises, seen through kubectl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lifecycle import PATIENCE, POLITE, PYTHON, TOOLBOX, Pods, condition, container, pod, seconds

from podlab.waiting import until

SERVE = ["python", "-m", "http.server", "8080"]


@pytest.fixture
def pods(shared: Any, kubectl: Any, namespace: str) -> Pods:
    """The namespace of this test."""
    return Pods(kubectl, shared, namespace)


# Running


def test_a_pod_runs_and_its_status_is_whole(pods: Pods) -> None:
    pods.apply(pod("one"))
    status = pods.ready("one")
    assert status["phase"] == "Running" and status["qosClass"] == "BestEffort"
    assert status["podIP"].startswith("10.244.") and status["podIPs"] == [{"ip": status["podIP"]}]
    assert status["hostIP"].startswith("172.18.0.")
    kinds = {c["type"] for c in status["conditions"] if c["status"] == "True"}
    assert kinds == {"PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"}
    (main,) = status["containerStatuses"]
    assert main["ready"] and main["started"] and main["restartCount"] == 0
    assert "://" in main["containerID"] and "sha256:" in main["imageID"]
    for reason, text in (("Pulled", "already present on machine"), ("Created", ""), ("Started", "")):
        event = pods.event("one", reason, text)
        assert event["involvedObject"]["fieldPath"] == "spec.containers{main}"
        assert event["source"]["component"] == "kubelet"


def test_a_job_pod_completes_and_another_fails(pods: Pods) -> None:
    pods.apply(
        pod("good", container(script="true"), restartPolicy="Never"),
        pod("bad", container(script="exit 7"), restartPolicy="Never"),
    )
    status = pods.phase("good", "Succeeded")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert condition(status, "Ready")["reason"] == "PodCompleted"
    status = pods.phase("bad", "Failed")
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (7, "Error")
    assert condition(status, "Ready")["reason"] == "PodFailed"


def test_a_deployment_rolls_out_a_change(pods: Pods) -> None:
    def deployment(version: str) -> dict[str, Any]:
        template = pod("x", container(env=[{"name": "VERSION", "value": version}]))
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "x"}},
                "template": {"metadata": {"labels": {"app": "x"}}, "spec": template["spec"]},
            },
        }

    pods.apply(deployment("1"))
    pods.run("rollout", "status", "deployment/web", "--timeout=240s")
    pods.apply(deployment("2"))
    pods.run("rollout", "status", "deployment/web", "--timeout=240s")
    assert pods.run("exec", "deployment/web", "--", "sh", "-c", "echo $VERSION") == "2\n"


def test_jobs_complete_and_give_up(pods: Pods) -> None:
    def job(name: str, script: str, **spec: Any) -> dict[str, Any]:
        template = {"spec": {"restartPolicy": "Never", "containers": [container(script=script)]}}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"template": template, **spec},
        }

    pods.apply(job("four", "true", completions=4, parallelism=2), job("never", "exit 1", backoffLimit=0))
    pods.run("wait", "--for=condition=Complete", "job/four", "--timeout=240s")
    pods.run("wait", "--for=condition=Failed", "job/never", "--timeout=240s")
    assert pods.get("job", "four")["status"]["succeeded"] == 4


# Restarting


def test_a_crashing_container_backs_off(pods: Pods) -> None:
    pods.apply(pod("crash", container(script="echo try; exit 3")))
    status = pods.waiting("crash", "CrashLoopBackOff")
    (main,) = status["containerStatuses"]
    # The first restart comes at once, the second after ten seconds.
    restarted = main["restartCount"]
    pauses = {1: "10s", 2: "20s", 3: "40s", 4: "1m20s", 5: "2m40s"}
    message = f"back-off {pauses[restarted]} restarting failed container=main pod=crash_"
    assert main["state"]["waiting"]["message"].startswith(message)
    assert main["lastState"]["terminated"]["exitCode"] == 3
    assert status["phase"] == "Running"
    pods.event("crash", "BackOff", "Back-off restarting failed container main in pod crash_")
    assert pods.logs("crash", "--previous") == "try\n"

    def for_longer(status: dict[str, Any]) -> bool:
        (seen,) = status["containerStatuses"]
        return seen["restartCount"] > restarted and seen["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"

    (again,) = pods.wait("crash", for_longer, "backing off for longer", timeout=600)["containerStatuses"]
    assert f"back-off {pauses[again['restartCount']]} " in again["state"]["waiting"]["message"]
    ended = seconds(main["lastState"]["terminated"]["finishedAt"])
    # Times of the API are whole seconds.
    assert seconds(again["lastState"]["terminated"]["startedAt"]) - ended >= 10 * 2 ** (restarted - 1) - 1


def test_on_failure_restarts_failures_only(pods: Pods) -> None:
    script = "test -e /data/seen && exit 0; touch /data/seen; exit 1"
    volume = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pods.apply(
        pod(
            "twice",
            container(script=script, **volume),
            restartPolicy="OnFailure",
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )
    status = pods.phase("twice", "Succeeded")
    assert status["containerStatuses"][0]["restartCount"] == 1


def test_a_program_that_does_not_exist(pods: Pods) -> None:
    pods.apply(pod("none", {"name": "main", "image": TOOLBOX, "command": ["/does/not/exist"]}, restartPolicy="Never"))
    status = pods.phase("none", "Failed")
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert terminated["reason"] == "StartError" and terminated["exitCode"] == 128
    assert "/does/not/exist" in terminated["message"]


# Init containers and sidecars


def test_init_containers_run_in_order_and_leave_their_files(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    inits = [container(f"i{n}", f"echo {n} >> /data/order; echo \"SAID='{n}'\" > /data/env", **mount) for n in range(3)]
    said = {"fileKeyRef": {"volumeName": "data", "path": "env", "key": "SAID"}}
    pods.apply(
        pod(
            "init",
            container(script="cat /data/order; echo $SAID", env=[{"name": "SAID", "valueFrom": said}], **mount),
            initContainers=inits,
            restartPolicy="Never",
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )
    status = pods.phase("init", "Succeeded")
    assert pods.logs("init") == "0\n1\n2\n2\n"
    assert all(entry["ready"] for entry in status["initContainerStatuses"])


def test_a_failing_init_container_keeps_the_main_one_waiting(pods: Pods) -> None:
    pods.apply(pod("stuck", initContainers=[container("init", "exit 1")]))
    status = pods.wait(
        "stuck", lambda s: s.get("initContainerStatuses", [{}])[0].get("restartCount", 0) >= 1, "trying again"
    )
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert condition(status, "Initialized")["status"] == "False"


def test_a_sidecar_starts_first_and_stops_last(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    side = container(
        "side",
        'trap "echo side ends >> /data/log; cat /data/log; exit 0" TERM; echo side >> /data/log; '
        "while :; do sleep 0.1; done",
        restartPolicy="Always",
        **mount,
    )
    main = container(script="sleep 1; echo main >> /data/log", **mount)
    pods.apply(
        pod(
            "job",
            main,
            initContainers=[side],
            restartPolicy="Never",
            volumes=[{"name": "data", "emptyDir": {}}],
        )
    )
    status = pods.phase("job", "Succeeded")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert pods.logs("job", "-c", "side") == "side\nmain\nside ends\n"


# Probes


def test_readiness_and_liveness(pods: Pods) -> None:
    script = (
        "mkdir /tmp/w; cd /tmp/w; echo ok > healthz; python3 -m http.server 8080 & "
        'trap "exit 0" TERM; while :; do sleep 0.1; done'
    )
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30}
    main = {
        **container(script=script),
        "image": PYTHON,
        "startupProbe": {**probe, "failureThreshold": 600},
        "readinessProbe": {**probe, "failureThreshold": 2},
        # Time enough to see it unready before it is restarted, and not so much that its events exceed their number.
        "livenessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 3},
    }
    pods.apply(pod("web", main))
    pods.ready("web")
    pods.run("exec", "web", "--", "rm", "/tmp/w/healthz")
    status = pods.wait("web", lambda s: condition(s, "Ready")["status"] == "False", "becoming unready")
    assert status["containerStatuses"][0]["restartCount"] == 0, "it is unready before it is restarted"
    pods.wait("web", lambda s: s["containerStatuses"][0]["restartCount"] == 1, "being restarted")
    pods.ready("web")
    pods.event("web", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404")
    pods.event("web", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 404")
    pods.event("web", "Killing", "Container main failed liveness probe, will be restarted")


def test_a_startup_probe_holds_the_others_back(pods: Pods) -> None:
    look = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "timeoutSeconds": 30}
    main = container(
        script="sleep 1000",
        startupProbe={**look, "failureThreshold": 600},
        livenessProbe={**look, "failureThreshold": 1},
    )
    pods.apply(pod("slow", main, terminationGracePeriodSeconds=1))
    status = pods.wait("slow", lambda s: s.get("containerStatuses", [{}])[0].get("state", {}).get("running"), "running")
    assert status["containerStatuses"][0]["started"] is False
    pods.run("exec", "slow", "--", "touch", "/tmp/up")
    status = pods.ready("slow")
    assert status["containerStatuses"][0]["started"] is True
    assert status["containerStatuses"][0]["restartCount"] == 0


def test_an_unready_pod_gets_no_requests(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "svc"},
        "spec": {"selector": {"app": "gate"}, "ports": [{"port": 80}]},
    }
    pods.apply(service, pod("gate", container(readinessProbe=probe)))
    pods.wait("gate", lambda s: s.get("containerStatuses", [{}])[0].get("state", {}).get("running"), "running")

    def endpoints() -> list[bool]:
        slices = pods.get("endpointslices", "-l", "kubernetes.io/service-name=svc")["items"]
        return [e["conditions"]["ready"] for s in slices for e in s.get("endpoints") or ()]

    until(lambda: endpoints() == [False], "an endpoint that is not ready", timeout=PATIENCE, state=endpoints)
    pods.run("exec", "gate", "--", "touch", "/tmp/ready")
    until(lambda: endpoints() == [True], "an endpoint that is ready", timeout=PATIENCE, state=endpoints)


# Configuration


@pytest.mark.namespaces("a volume is read-only by its mount")
def test_configuration_by_environment_and_files(pods: Pods) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"color": "blue"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "hush"}}
    main = container(
        script="echo $COLOR $KEY $WHO $ALL; cat /c/color /s/key /p/labels; ls -l /s/key | cut -c1-10; "
        "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; { echo x > /c/color; } 2>&1",  # in this order
        env=[
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "color"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "ALL", "value": "$(COLOR)-$$(COLOR)-$(KEY)"},
        ],
        volumeMounts=[
            {"name": "c", "mountPath": "/c"},
            {"name": "s", "mountPath": "/s"},
            {"name": "p", "mountPath": "/p"},
        ],
    )
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s", "items": [{"key": "key", "path": "key", "mode": 0o400}]}},
        {"name": "p", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    pods.apply(config, secret, pod("conf", main, volumes=volumes, restartPolicy="Never"))
    pods.phase("conf", "Failed")  # its last command writes to a read-only volume
    said = pods.logs("conf")
    assert said.startswith("blue hush conf blue-$(COLOR)-hush\nbluehush" + 'app="conf"')
    assert pods.namespace in said and "Read-only file system" in said


def test_a_changed_config_map_reaches_the_volume(pods: Pods) -> None:
    def config(value: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"v": value}}

    main = container(volumeMounts=[{"name": "c", "mountPath": "/c"}])
    pods.apply(config("one"), pod("live", main, volumes=[{"name": "c", "configMap": {"name": "c"}}]))
    pods.ready("live")
    pods.apply(config("two"))
    until(
        lambda: pods.run("exec", "live", "--", "cat", "/c/v") == "two",
        "the new value in the volume",
        timeout=PATIENCE,
        interval=1,
    )


def test_what_is_missing_is_said_and_waited_for(pods: Pods) -> None:
    env = container(envFrom=[{"configMapRef": {"name": "later"}}])
    volume = container(volumeMounts=[{"name": "v", "mountPath": "/v"}])
    pods.apply(
        pod("env", env),
        pod("vol", volume, volumes=[{"name": "v", "configMap": {"name": "later"}}]),
    )
    status = pods.waiting("env", "CreateContainerConfigError")
    assert status["containerStatuses"][0]["state"]["waiting"]["message"] == 'configmap "later" not found'
    pods.event("vol", "FailedMount", 'MountVolume.SetUp failed for volume "v" : configmap "later" not found')
    pods.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"a": "b"}})
    pods.ready("env")
    pods.ready("vol")


def test_an_image_that_is_nowhere(pods: Pods) -> None:
    pods.apply(pod("img", {"name": "main", "image": "nowhere/nothing:1"}))
    pods.waiting("img", "ImagePullBackOff")
    pods.event("img", "Failed", 'Failed to pull image "nowhere/nothing:1"')
    pods.event("img", "Failed", "Error: ErrImagePull")
    pods.apply(pod("never", {"name": "main", "image": "nowhere/nothing:1", "imagePullPolicy": "Never"}))
    pods.waiting("never", "ErrImageNeverPull")
    pods.delete("img")


@pytest.mark.embedded("a kubelet tries to mount NFS")
def test_volumes_that_this_node_cannot_give_are_refused_with_a_reason(pods: Pods) -> None:
    volumes = [{"name": "v", "nfs": {"server": "example.com", "path": "/"}}]
    pods.apply(pod("nfs", volumes=volumes))
    pods.event("nfs", "FailedMount", "volume type nfs is not supported")
    assert "volume type nfs is not supported" in says_why("nfs", pods)


@pytest.mark.embedded("the runtime classes of other nodes are theirs")
def test_an_unknown_runtime_is_said_in_the_status(shared: Any, kubectl: Any, pods: Pods) -> None:
    name = f"{pods.namespace}-kata"
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "kata"}
    pods.apply(runtime)
    try:
        pods.apply(pod("odd", runtimeClassName=name))
        pods.event("odd", "FailedCreatePodSandBox", 'no runtime for "kata"')
        assert 'no runtime for "kata" is configured' in says_why("odd", pods)
    finally:
        kubectl(shared, "delete", "runtimeclass", name)


def says_why(name: str, pods: Pods) -> str:
    """What the status of a pod's waiting container says, once it says something."""

    def waiting_of(status: dict[str, Any]) -> dict[str, Any]:
        entries = status.get("containerStatuses") or [{}]
        return entries[0].get("state", {}).get("waiting", {})

    waiting = waiting_of(pods.wait(name, lambda status: waiting_of(status).get("message"), "saying why"))
    assert waiting["reason"] == "ContainerCreating"
    return waiting["message"]


@pytest.mark.embedded("the kubelet names its log folders by the whole name")
def test_the_longest_name_that_a_pod_can_have_runs(pods: Pods) -> None:
    name = ".".join(["n" * 63] * 3 + ["n" * 61])
    made = pod(name, container(script=f"echo long; {POLITE}"))
    made["metadata"]["labels"] = {"app": "long"}
    pods.apply(made)
    pods.ready(name)
    assert len(name) == 253
    until(lambda: pods.logs(name) == "long\n", "the log", timeout=PATIENCE, state=lambda: pods.logs(name))


def test_a_container_over_its_memory_limit_is_oom_killed(pods: Pods) -> None:
    hog = "hold = []\nwhile True: hold.append(bytearray(b'x' * 1_000_000))"
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    pods.apply(
        pod(
            "hog", {"name": "main", "image": PYTHON, "command": ["python3", "-c", hog], **limits}, restartPolicy="Never"
        )
    )
    terminated = pods.phase("hog", "Failed")["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)


@pytest.mark.embedded("a kubelet resizes in place")
def test_a_resize_is_refused_in_the_status(pods: Pods) -> None:
    pods.apply(pod("fixed", container(resources={"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi"}})))
    pods.ready("fixed")
    bigger = {"name": "main", "resources": {"limits": {"memory": "128Mi"}}}
    pods.run("patch", "pod", "fixed", "--subresource=resize", "-p", json.dumps({"spec": {"containers": [bigger]}}))
    status = pods.wait("fixed", lambda s: "PodResizePending" in {c["type"] for c in s["conditions"]}, "refusing")
    assert condition(status, "PodResizePending")["reason"] == "Infeasible"
    assert status["containerStatuses"][0]["resources"]["limits"] == {"memory": "64Mi"}
    assert status["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.namespaces("all processes are seen from every container")
def test_a_debugger_sees_the_processes_of_its_target(pods: Pods) -> None:
    pods.apply(pod("subject", container("main"), container("other")))
    pods.ready("subject")
    script = "cat /proc/1/cmdline"
    pods.run("debug", "subject", f"--image={TOOLBOX}", "--target=main", "-c", "look", "--", "sh", "-c", script)
    pods.wait(
        "subject",
        lambda s: "terminated" in (s.get("ephemeralContainerStatuses") or [{}])[0].get("state", {}),
        "having been looked at",
    )
    assert pods.logs("subject", "-c", "look").split("\0")[:2] == ["sh", "-c"]
    assert POLITE in pods.logs("subject", "-c", "look")


@pytest.mark.embedded("the kubelet (v1.37.2 with containerd 2.4.2) does not end such a pod, nor tells its address")
def test_a_hook_that_hangs_does_not_keep_a_pod_alive(pods: Pods) -> None:
    hook = {"postStart": {"exec": {"command": ["sleep", "10000"]}}}
    pods.apply(pod("hangs", container(lifecycle=hook)))
    pods.wait("hangs", lambda s: "podIP" in s, "having an address")
    assert pods.status("hangs")["containerStatuses"][0]["state"].get("running") is None
    pods.delete("hangs")


# Ending


def test_a_polite_program_ends_quickly_and_a_deaf_one_after_its_grace(pods: Pods) -> None:
    deaf = container(script='trap "" TERM; while :; do sleep 1; done')
    # Nobody waits an hour: who is gone before has not needed its grace.
    pods.apply(pod("polite", terminationGracePeriodSeconds=3600), pod("deaf", deaf, terminationGracePeriodSeconds=5))
    pods.ready("polite")
    pods.ready("deaf")
    pods.delete("polite")
    assert pods.delete("deaf") >= 5


@pytest.mark.embedded("the kubelet (v1.37.2 with containerd 2.4.2) goes on waiting for the longer one")
def test_a_shorter_grace_overtakes_a_longer_one(pods: Pods) -> None:
    deaf = container(script='trap "" TERM; while :; do sleep 1; done')
    pods.apply(pod("deaf", deaf, terminationGracePeriodSeconds=3600))
    pods.ready("deaf")
    pods.run("delete", "pod", "deaf", "--wait=false")
    pods.delete("deaf", "--grace-period=1")


def test_pre_stop_comes_before_the_signal_and_post_start_before_running(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "log", "mountPath": "/log"}]}
    writer = container(
        "writer",
        'trap "echo signal >> /log/x; exit 0" TERM; while :; do sleep 0.1; done',
        lifecycle={
            "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /log/x"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >> /log/x"]}},
        },
        restartPolicy="Always",
        **mount,
    )
    # A later sidecar that outlives the writer would stop first; so the reader is the earlier one.
    reader = container(
        "reader",
        'trap "cat /log/x > /dev/termination-log; exit 0" TERM; while :; do sleep 0.1; done',
        restartPolicy="Always",
        **mount,
    )
    pods.apply(
        pod(
            "hooks",
            container(script="sleep 2"),
            initContainers=[reader, writer],
            restartPolicy="Never",
            volumes=[{"name": "log", "emptyDir": {}}],
        )
    )
    status = pods.phase("hooks", "Succeeded")
    message = status["initContainerStatuses"][0]["state"]["terminated"]["message"]
    assert message == "started\nstopping\nsignal\n"


def test_termination_messages(pods: Pods) -> None:
    pods.apply(
        pod("file", container(script="echo -n done > /dev/termination-log"), restartPolicy="Never"),
        pod(
            "log",
            container(script="echo last words; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
            restartPolicy="Never",
        ),
    )
    assert pods.phase("file", "Succeeded")["containerStatuses"][0]["state"]["terminated"]["message"] == "done"
    assert pods.phase("log", "Failed")["containerStatuses"][0]["state"]["terminated"]["message"] == "last words\n"


def test_the_active_deadline_ends_a_pod(pods: Pods) -> None:
    pods.apply(pod("late", activeDeadlineSeconds=2))
    status = pods.phase("late", "Failed")
    assert status["reason"] == "DeadlineExceeded"


def test_a_node_that_is_full_refuses_a_pod_that_was_forced_upon_it(pods: Pods, worker: str) -> None:
    greedy = container(resources={"requests": {"cpu": "1000"}})
    pods.apply(pod("greedy", greedy, nodeName=worker))
    status = pods.phase("greedy", "Failed")
    assert status["reason"] == "OutOfcpu" and "requested: 1000000" in status["message"]


# The agent


@pytest.mark.embedded("only embedded nodes have an agent that can be stopped")
def test_an_agents_death_loses_nothing(shared: Any, pods: Pods, home: Path) -> None:
    """Containers, restart counts, exits that happen meanwhile, logs, probes: all go on under the next agent."""
    gate = container(readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1})
    crash = container(script="test $(ls /data | wc -l) -ge 2 && sleep 1000; mktemp -p /data; exit 1")
    ends = container(
        script="echo before; until [ -e /data/go ]; do sleep 0.1; done; echo after; touch /data/over; exit 3"
    )
    crash["volumeMounts"] = ends["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    where = {"nodeName": "node-2", "terminationGracePeriodSeconds": 1}
    pods.apply(
        pod("gate", gate, **where),
        pod("crash", crash, volumes=[{"name": "data", "emptyDir": {}}], **where),
        pod("ends", ends, volumes=[{"name": "data", "emptyDir": {}}], restartPolicy="Never", **where),
    )
    pods.wait("gate", lambda s: s.get("containerStatuses", [{}])[0].get("state", {}).get("running"), "running")
    pods.wait("ends", lambda s: s.get("phase") == "Running", "running")
    before = pods.container("gate")
    uid = pods.get("pod", "ends")["metadata"]["uid"]
    (data,) = (home / "data" / "clusters" / "shared" / "nodes").glob(f"*/pods/{uid}/volumes/data")
    shared.nodes.stop_agent("node-2")
    try:
        (data / "go").touch()
        until((data / "over").exists, "the container's last act without an agent", timeout=PATIENCE)
    finally:
        shared.nodes.start_agent("node-2")
    status = pods.phase("ends", "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert pods.logs("ends") == "before\nafter\n"
    assert pods.container("gate")["containerID"] == before["containerID"]
    pods.run("exec", "gate", "--", "touch", "/tmp/ready")
    pods.ready("gate")
    status = pods.wait("crash", lambda s: s["containerStatuses"][0]["state"].get("running"), "running in the end")
    assert status["containerStatuses"][0]["restartCount"] == 2
    for name in ("gate", "crash", "ends"):
        pods.delete(name)


@pytest.mark.embedded("only embedded nodes have an agent that can be stopped")
def test_a_pod_that_is_deleted_without_an_agent_ends_when_there_is_one(shared: Any, pods: Pods, home: Path) -> None:
    pods.apply(pod("gone", nodeName="node-3"))
    pods.ready("gone")
    uid = pods.get("pod", "gone")["metadata"]["uid"]
    node = home / "data" / "clusters" / "shared" / "nodes" / "node-3"

    def left() -> list[str]:
        found = [*node.glob(f"pods/{uid}"), *node.glob(f"host/var/log/*/*{uid}*")]
        return sorted(entry.parent.name for entry in found)

    assert left() == ["containers", "pods", "pods"], "the link of its log, its logs, its folder"
    shared.nodes.stop_agent("node-3")
    try:
        pods.run("delete", "pod", "gone", "--grace-period=0", "--force")
    finally:
        shared.nodes.start_agent("node-3")
    until(lambda: not left(), "everything of the pod being removed", timeout=PATIENCE, state=left)
    assert pods.get("pods")["items"] == []
