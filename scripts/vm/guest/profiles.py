"""AppArmor: berth's own profile, one of the machine, one that isn't there."""
import pathlib

import cluster
from machine import LeftOut, expect, must

PROFILE = """#include <tunables/global>
profile vm-test flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  capability,
  signal,
  ptrace (trace,read,tracedby,readby) peer=vm-test,
  deny /tmp/forbidden w,
}
"""
MISSING = "no-such-profile"
# What a container is asked to be confined by, and what it then is.
DEFAULTS = {
    "named": ({"appArmorProfile": {"type": "RuntimeDefault"}}, "berth-default (enforce)"),
    "unnamed": (None, "berth-default (enforce)"),
    "unconfined": ({"appArmorProfile": {"type": "Unconfined"}}, "unconfined"),
}
# Errors go with the rest, in the order in which they were written.
LOOK = "exec 2>&1; cat /proc/self/attr/current; echo x > /tmp/forbidden && echo written; echo over"


def load():
    path = pathlib.Path("/etc/apparmor.d/vm-test")
    path.write_text(PROFILE)
    must("apparmor_parser", "--replace", str(path))


def is_concerned(subject):
    return subject.runtime != "runsc"


def confinement(name):
    """By what the container was confined, and whether it could write a file."""
    ended, said = cluster.ended(name), cluster.logs(name)
    expect(ended["exitCode"] == 0 and said.endswith("over\n"), f"{ended}: {said}")
    return said.split("\n")[0].strip("\0 "), "written\n" in said


def default_pods(subject):
    if not is_concerned(subject):
        return []
    return [cluster.once(f"{name}-{subject.runtime}", subject.runtime, LOOK, security=security) for name, (security, _) in DEFAULTS.items()]


def default(subject):
    if not is_concerned(subject):
        raise LeftOut("gVisor is not concerned")
    for name, (_, wanted) in DEFAULTS.items():
        seen = confinement(f"{name}-{subject.runtime}")
        expect(seen == (wanted, True), f"{name}: {seen}")


def localhost_of(profile):
    return {"appArmorProfile": {"type": "Localhost", "localhostProfile": profile}}


def localhost_pods(subject):
    return [cluster.once(f"localhost-{subject.runtime}", subject.runtime, LOOK, security=localhost_of("vm-test"))] if is_concerned(subject) else []


def localhost(subject):
    if not is_concerned(subject):
        raise LeftOut("gVisor is not concerned")
    seen = confinement(f"localhost-{subject.runtime}")
    expect(seen == ("vm-test (enforce)", False), f"{seen}")


def unknown_pods(subject):
    return [cluster.once(f"unknown-{subject.runtime}", subject.runtime, "echo ran", security=localhost_of(MISSING))] if is_concerned(subject) else []


def unknown(subject):
    if not is_concerned(subject):
        raise LeftOut("gVisor is not concerned")
    name = f"unknown-{subject.runtime}"
    def is_refused(pod):
        statuses = pod["status"].get("containerStatuses") or []
        expect("ran" not in cluster.logs(name) if any("terminated" in s["state"] for s in statuses) else True, "it ran")
        words = (str(pod["status"]) + cluster.events(name)).lower()
        return MISSING in words and "apparmor" in words
    cluster.until(name, "refused with the profile's name", is_refused)
    return "refused with its name"
