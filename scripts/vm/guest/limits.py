"""Limits in the files of cgroup v2, changed while a pod runs; what is used; the end of a container that wants more."""
import api, cluster
from api import PODS
from machine import Failed, expect, read, wait

MIB = 1 << 20
# Thousandths of a CPU and MiB, before the resize and after.
FIRST, SECOND = (1000, 160), (1500, 224)


def resources(cpu, memory):
    return {"requests": {"cpu": "50m", "memory": f"{memory // 2}Mi"}, "limits": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}}


def holds(pod, subject, cpu, memory):
    """That the pod's cgroup and the container's have these limits. gVisor's containers have the pod's."""
    wanted = {"memory.max": str(memory * MIB), "cpu.max": f"{cpu * 100} 100000"}
    places = [cluster.pod_cgroup(pod, subject.driver)]
    if subject.runtime != "runsc":
        places.append(cluster.container_cgroup(pod, subject.driver))
    for place in places:
        seen = {name: read(place / name) for name in wanted}
        expect(seen == wanted, f"{place}: {seen}, not {wanted}")
        expect((place / "pids.max").exists(), f"{place} has no controller of pids")
        expect(read(place / "memory.swap.max") == "0", f"{place} may swap")
    return True


def limits(subject):
    pod = cluster.ready(subject.lasting)
    holds(pod, subject, *FIRST)
    expect(int(read(cluster.pod_cgroup(pod, subject.driver) / "cpu.weight")) > 0, "no weight")


def resize(subject):
    before = cluster.ready(subject.lasting)
    change = {"spec": {"containers": [{"name": "main", "resources": resources(*SECOND)}]}}
    api.call("PATCH", f"{PODS}/{subject.lasting}/resize", change, "application/strategic-merge-patch+json")
    wait("the new limits", lambda: holds(before, subject, *SECOND))
    def is_told():
        status = api.get(f"{PODS}/{subject.lasting}")["status"]
        given = status["containerStatuses"][0].get("resources", {}).get("limits", {})
        if given.get("cpu") not in ("1500m", "1.5") or given.get("memory") != "224Mi":
            raise Failed(f"the status has {given}, conditions {status.get('conditions')}")
        return True
    wait("the status to say so", is_told)
    after = api.get(f"{PODS}/{subject.lasting}")
    expect(cluster.container_id(after) == cluster.container_id(before), "the container was started again")


def usage(subject):
    def is_measured():
        summary = api.get(f"/api/v1/nodes/{cluster.NODE}/proxy/stats/summary")
        pods = [pod for pod in summary["pods"] if pod["podRef"]["name"] == subject.lasting]
        if not pods:
            raise Failed("the pod is not in the summary")
        memory = pods[0].get("memory", {}).get("workingSetBytes", 0)
        cpu = pods[0].get("cpu", {}).get("usageCoreNanoSeconds", 0)
        if not (memory > 0 and cpu > 0):
            raise Failed(f"memory {memory}, CPU {cpu}")
        return True
    wait("figures", is_measured, 120)


def oom_pods(subject):
    limit = {"requests": {"memory": "16Mi"}, "limits": {"memory": "96Mi"}}
    return [cluster.once(f"oom-{subject.runtime}", subject.runtime, "dd if=/dev/zero of=/dev/null bs=400M count=4", resources=limit)]


def oom(subject):
    ended = cluster.ended(f"oom-{subject.runtime}")
    expect((ended["exitCode"], ended.get("reason")) == (137, "OOMKilled"), f"{ended}")
