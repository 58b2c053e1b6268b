"""Pods run, with user namespaces and without the machine's devices, and leave nothing."""
import os

import api, cluster, machine
from api import PODS
from machine import CGROUPS, Failed, expect, must, wait

OF_THE_HOSTS_KERNEL = ("runc", "crun", "berth")


def runs(subject):
    pod = cluster.ready(subject.lasting)
    kernel, ours = cluster.exec(subject.lasting, "uname", "-r").strip(), os.uname().release
    expect((kernel == ours) == (subject.runtime in OF_THE_HOSTS_KERNEL), f"it sees kernel {kernel}, this machine's is {ours}")
    expect("up" in cluster.logs(subject.lasting), "no log")
    expect(cluster.processes(cluster.pod_cgroup(pod, subject.driver)), "no process in the pod's cgroup")


def has_users(subject):
    return subject.runtime in ("runc", "crun")


def users_pods(subject):
    command = "exec 2>&1; cat /proc/self/uid_map; touch /tmp/x && stat -c %u /tmp/x; id -u"
    return [cluster.once(f"users-{subject.runtime}", subject.runtime, command, hostUsers=False)]


def users(subject):
    name = f"users-{subject.runtime}"
    expect(bool(subject.features.get("userNamespaces")) == has_users(subject), f"the node says {subject.features}")
    if not has_users(subject):
        refused = cluster.until(name, "refused", lambda pod: pod["status"].get("phase") == "Failed")
        expect(refused["status"].get("reason") == "UserNamespacesNotSupported", f"{refused['status']}")
        return "refused, as documented"
    ended = cluster.ended(name)
    said = cluster.logs(name).split()
    expect(ended["exitCode"] == 0, f"{ended}: {said}")
    inside, outside, length = map(int, said[:3])
    expect((inside, length) == (0, 65536) and outside >= 65536, f"uid_map {said[:3]}")
    expect(said[3:] == ["0", "0"], f"root of the pod is {said[3:]}")


def devices_pods(subject):
    disk = os.stat("/dev/vda").st_rdev
    command = (
        "exec 2>&1; echo x > /dev/null && head -c 8 /dev/zero | wc -c; [ -e /dev/vda ] && echo there; "
        f"mknod /tmp/disk b {os.major(disk)} {os.minor(disk)} && head -c 512 /tmp/disk | wc -c; echo over"
    )
    pods = [cluster.once(f"devices-{subject.runtime}", subject.runtime, command)]
    if subject.runtime in OF_THE_HOSTS_KERNEL:
        # One that may: otherwise the other would show nothing.
        pods.append(cluster.once(f"privileged-{subject.runtime}", subject.runtime, command, security={"privileged": True}))
    return pods


def devices(subject):
    name = f"devices-{subject.runtime}"
    ended, said = cluster.ended(name), cluster.logs(name)
    expect(ended["exitCode"] == 0 and said.startswith("8\n") and said.endswith("over\n"), f"{ended}: {said}")
    expect("there" not in said and "512" not in said, f"it can read the machine's disk: {said}")
    if subject.runtime in OF_THE_HOSTS_KERNEL:
        name = f"privileged-{subject.runtime}"
        ended, said = cluster.ended(name), cluster.logs(name)
        expect("there" in said and "512" in said, f"a privileged container can't read the machine's disk: {ended}: {said}")


def gone(subject):
    pod = api.get(f"{PODS}/{subject.lasting}")
    path, container = cluster.pod_cgroup(pod, subject.driver), cluster.container_id(pod)
    expect(path.exists(), f"{path} is not there")
    cluster.remove(subject.lasting, grace=5)
    def is_gone():
        left = [str(path)] if path.exists() else []
        units = must("systemctl", "list-units", "--all", "--no-legend", "--plain", "--no-pager")
        left += [line for line in units.splitlines() if container in line or path.name in line]
        if left:
            raise Failed(f"left behind: {left}")
        return True
    wait("nothing of the pod", is_gone, 60)


# Of all agents on a machine that have pods: they stay, empty.
GROUPS = ("burstable", "besteffort", "kubepods-burstable.slice", "kubepods-besteffort.slice")


def leave_pods(runtimes):
    """Pods that run when the service is stopped for good."""
    names = [f"left-{runtime}" for runtime in runtimes]
    cluster.apply(*(cluster.manifest(name, runtime, cluster.FOREVER) for name, runtime in zip(names, runtimes)))
    for name in names:
        cluster.ready(name)


def nothing_left():
    """After the cluster's end: no cgroups, units, mounts or processes of its pods."""
    def is_gone():
        below = [path for path in CGROUPS.rglob("*") if path.is_dir() and path.name not in GROUPS]
        left = [str(path) for path in below if "cri-berth" in path.name or "kubepods" in str(path.parent)]
        units = must("systemctl", "list-units", "--all", "--no-legend", "--plain", "--no-pager").splitlines()
        left += [line for line in units if "cri-berth" in line or "kubepods" in line and "-pod" in line]
        left += [line for line in machine.read("/proc/self/mountinfo").splitlines() if "/berth" in line]
        left += [line for line in must("ps", "-eo", "pid,args").splitlines() if "berth shim" in line]
        if left:
            raise Failed(f"left behind: {left}")
        return True
    wait("nothing of the cluster", is_gone, 60)
