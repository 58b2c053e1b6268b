"""Restarts of berth.service, in order and by a kill, under running pods of all runtimes."""
import glob, pathlib

import cluster, machine, service
from machine import Failed, check, expect, wait

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 1; done"
# Ends while the service is away.
SHORT = "echo up; while [ ! -e /tmp/end ]; do sleep 1; done; sleep 20; echo bye; exit 7"


def numbers(name):
    return [int(word) for word in cluster.logs(name).split()]


def is_whole(name):
    """All numbers in order, none missing or twice."""
    seen = numbers(name)
    expect(seen == list(range(1, len(seen) + 1)), f"the log of {name} has gaps: {seen[-20:]}")
    return len(seen)


def goes_on(name):
    count = is_whole(name)
    def is_longer():
        return True if is_whole(name) > count else None
    wait(f"more lines of {name}", is_longer)


def run(runtimes, driver):
    pods, ready = {}, []
    cluster.apply(*(cluster.manifest(f"count-{runtime}", runtime, COUNT) for runtime in runtimes))
    for runtime in runtimes:
        with check("pods for restarts", runtime, driver) as result:
            name = f"count-{runtime}"
            pods[runtime] = cluster.ready(name)
            goes_on(name)
        if result["state"] == "ok":
            ready.append(runtime)
    before = {runtime: cluster.processes(cluster.pod_cgroup(pods[runtime], driver)) for runtime in ready}
    for how in ("restart", "kill"):
        with check(f"service {how}", "", driver) as restarted:
            service.restart(how)
        if restarted["state"] != "ok":
            return
        for runtime in ready:
            with check(f"after {how}", runtime, driver):
                same(runtime, driver, pods[runtime], before[runtime])
    with check("ends while the service is away", "", driver) as away:
        end_while_away(ready)
    for runtime in ready if away["state"] == "ok" else []:
        with check("exit code", runtime, driver):
            ended = cluster.ended(f"short-{runtime}")
            expect(ended.get("exitCode") == 7, f"{ended}")
    cluster.remove(*(f"{name}-{runtime}" for runtime in runtimes for name in ("count", "short")))


def same(runtime, driver, pod, processes):
    name = f"count-{runtime}"
    now = cluster.until(name, "Ready", cluster.is_ready)
    expect(cluster.container_id(now) == cluster.container_id(pod), "it is another container")
    expect(now["status"]["containerStatuses"][0]["restartCount"] == 0, "it was started again")
    # `sleep` of the loop comes and goes.
    lasting = set(processes[:1]) if runtime != "runsc" else set(processes)
    left = set(cluster.processes(cluster.pod_cgroup(pod, driver)))
    expect(lasting & left, f"other processes: {processes} before, {sorted(left)} now")
    goes_on(name)
    expect(cluster.exec(name, "echo", "hello").strip() == "hello", "no exec")


def end_while_away(runtimes):
    for runtime in runtimes:
        cluster.apply(cluster.once(f"short-{runtime}", runtime, SHORT))
    for runtime in runtimes:
        cluster.ready(f"short-{runtime}")
    for runtime in runtimes:
        cluster.exec(f"short-{runtime}", "touch", "/tmp/end")
    machine.must("systemctl", "stop", "berth")
    # Nobody but its shim is there when it ends.
    for runtime in runtimes:
        def has_ended():
            files = glob.glob(f"/var/log/pods/default_short-{runtime}_*/main/0.log")
            said = "".join(pathlib.Path(file).read_text() for file in files)
            return True if " bye\n" in said else None
        wait(f"the end of {runtime}'s container", has_ended)
    machine.must("systemctl", "start", "berth")
    wait("berth.service to be ready", service.is_ready)
