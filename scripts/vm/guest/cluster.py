"""Pods of the cluster of berth.service, and where their cgroups are."""
import json, pathlib, tempfile

import api, machine
from api import PODS
from machine import CGROUPS, Failed, expect, wait

NODE = "guest"
IMAGE = "berth.dev/demo:1"
FOREVER = 'trap "exit 0" TERM; echo up; while :; do sleep 3600 & wait; done'


def manifest(name, runtime, command, resources=None, security=None, **spec):
    """A pod with one container `main`."""
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command]}
    if resources:
        container["resources"] = resources
    if security:
        container["securityContext"] = security
    spec.update(runtimeClassName=f"vm-{runtime}", terminationGracePeriodSeconds=5, containers=[container])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def once(name, runtime, command, **more):
    """One that runs to its end."""
    return manifest(name, runtime, command, restartPolicy="Never", **more)


def apply(*pods):
    for pod in pods:
        api.call("POST", PODS, pod)


def events(name):
    found = api.get(f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{name}")
    return " | ".join(f"{item['reason']}: {item['message']}" for item in found["items"])


def picture():
    """Nodes, pods and events as they are, for a check that failed."""
    lines = []
    for node in api.get("/api/v1/nodes")["items"]:
        lines.append(f"node {node['metadata']['name']} taints {json.dumps(node['spec'].get('taints'))}")
        lines += [f"  {json.dumps(condition)}" for condition in node["status"].get("conditions") or []]
    for pod in api.get("/api/v1/pods")["items"]:
        meta = {name: pod["metadata"].get(name) for name in ("name", "uid", "creationTimestamp", "deletionTimestamp", "managedFields")}
        lines.append(f"pod {json.dumps(meta)}\n  {json.dumps(pod['status'])}")
    for item in api.get("/api/v1/events")["items"]:
        of = item["involvedObject"]
        when = item.get("lastTimestamp") or item.get("eventTime")
        lines.append(f"event {when} {of['kind']} {of.get('name')} {item.get('type')} {item.get('reason')}: {item.get('message')}")
    return "\n".join(lines)


def until(name, what, holds):
    """Waits until a pod is as it should be; gives it."""
    def ask():
        pod = api.get(f"{PODS}/{name}")
        if holds(pod):
            return pod
        states = [status["state"] for status in pod["status"].get("containerStatuses") or []]
        raise Failed(f"phase {pod['status'].get('phase')}, {json.dumps(states)}, events: {events(name)}")
    return wait(f"pod {name} {what}", ask)


def is_ready(found):
    conditions = found["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def ready(name):
    return until(name, "Ready", is_ready)


def ended(name):
    """How its container ended, once it has."""
    pod = until(name, "over", lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"))
    statuses = pod["status"].get("containerStatuses") or []
    if not statuses or "terminated" not in statuses[0]["state"]:
        raise Failed(f"it never ran: {json.dumps(pod['status'])}")
    return statuses[0]["state"]["terminated"]


def logs(name):
    return str(api.call("GET", f"{PODS}/{name}/log") or "")


def exec(name, *command):
    """What a command in the pod has printed, without what kubectl itself has to say: a slow one of 1.32 logs an error for the
    empty message that begins each stream."""
    with tempfile.TemporaryFile("w+") as words:
        code, said = machine.run("kubectl", "--kubeconfig", machine.KUBECONFIG, "exec", name, "--", *command, stderr=words)
        words.seek(0)
        expect(code == 0, f"exec in {name}: exit code {code}: {said}{words.read()}")
    return said


def delete(*names, grace=0):
    for name in names:
        api.call("DELETE", f"{PODS}/{name}?gracePeriodSeconds={grace}")


def remove(*names, grace=0):
    """Deletes pods and waits until they are gone."""
    delete(*names, grace=grace)
    for name in names:
        wait(f"the end of pod {name}", lambda: True if api.call("GET", f"{PODS}/{name}") is None else None)


def container_id(pod):
    return pod["status"]["containerStatuses"][0]["containerID"].split("//")[1]


def pod_cgroup(pod, driver):
    """Where the pod's own cgroup is, by a kubelet's rules."""
    uid, qos = pod["metadata"]["uid"], pod["status"]["qosClass"].lower()
    if driver == "cgroupfs":
        parent = CGROUPS / "kubepods"
        return (parent if qos == "guaranteed" else parent / qos) / f"pod{uid}"
    stem, path = "kubepods", CGROUPS / "kubepods.slice"
    if qos != "guaranteed":
        stem = f"{stem}-{qos}"
        path = path / f"{stem}.slice"
    return path / f"{stem}-pod{uid.replace('-', '_')}.slice"


def container_cgroup(pod, driver):
    """Where the container's own cgroup is, which has its limits."""
    parent, wanted = pod_cgroup(pod, driver), container_id(pod)
    below = [path for path in parent.iterdir() if path.is_dir()]
    found = [path for path in below if wanted in path.name]
    if len(found) != 1:
        raise Failed(f"{parent} has {[path.name for path in below]}: not one of container {wanted}")
    return found[0]


def processes(cgroup):
    """The processes in a cgroup and below it."""
    files = pathlib.Path(cgroup).rglob("cgroup.procs")
    return sorted(int(pid) for file in files for pid in file.read_text().split())
