"""The checks of one cgroup driver, for each runtime: first each runtime alone, then all under restarts of the service."""
import dataclasses

import checks, cluster, limits, profiles, restarts, service
from machine import check


@dataclasses.dataclass
class Subject:
    """What is looked at."""
    runtime: str
    driver: str
    # What the node says of the handler.
    features: dict
    # The pod that runs through several checks.
    lasting: str


# Under each runtime, in this order: the pods that a check has of its own, and what is looked at.
EACH = {
    "runs": (None, checks.runs),
    "limits": (None, limits.limits),
    "resize": (None, limits.resize),
    "usage": (None, limits.usage),
    "oom": (limits.oom_pods, limits.oom),
    "user namespace": (checks.users_pods, checks.users),
    "AppArmor default": (profiles.default_pods, profiles.default),
    "AppArmor localhost": (profiles.localhost_pods, profiles.localhost),
    "AppArmor unknown": (profiles.unknown_pods, profiles.unknown),
    "devices": (checks.devices_pods, checks.devices),
    "gone": (None, checks.gone),
}


def of_runtime(subject, wanted):
    """All pods begin at once; then each check looks at its own."""
    cluster.apply(cluster.manifest(subject.lasting, subject.runtime, cluster.FOREVER, limits.resources(*limits.FIRST)))
    names = []
    for pods, _ in wanted.values():
        made = pods(subject) if pods else []
        cluster.apply(*made)
        names += [pod["metadata"]["name"] for pod in made]
    for name, (_, look) in wanted.items():
        with check(name, subject.runtime, subject.driver) as result:
            result["words"] = look(subject) or ""
    cluster.remove(*names)


def under(driver, runtimes, only):
    wanted = {name: run for name, run in EACH.items() if not only or name in only}
    with check("start", "", driver) as started:
        service.start(driver, runtimes)
        profiles.load()
    if started["state"] == "ok":
        of_driver(driver, runtimes, wanted, not only or "restart" in only)
        with check("pods for the reset", "", driver):
            checks.leave_pods(runtimes)
    with check("reset", "", driver):
        service.end(driver)
        checks.nothing_left()


def of_driver(driver, runtimes, wanted, restarted):
    for runtime in runtimes if wanted else []:
        with check("handler", runtime, driver) as listed:
            features = service.advertised(runtime)
            subject = Subject(runtime, driver, features, f"lasting-{runtime}")
        if listed["state"] == "ok":
            with check("all", runtime, driver) as result:
                of_runtime(subject, wanted)
    if restarted:
        restarts.run(runtimes, driver)
