#!/usr/bin/env python3
"""Writes what the guest of `make test-vm` has to do, plan.json, and copies the suites' programs:

    scripts/vm/plan.py REPO DEBUG TREE
"""
import json, os, pathlib, subprocess, sys

BOTH = ["cgroupfs", "systemd"]
# What touches cgroups, limits, OOM, user namespaces, AppArmor and device rules.
SUITES = [
    {"name": "suite", "drivers": BOTH, "tests": [
        "processes::a_container_out_of_memory_says_so",
        "processes::limits_change_while_it_runs",
        "processes::events_and_statistics",
        "processes::exec_ends_with_its_timeout_and_all_it_started",
        "processes::a_container_that_ignores_the_signal_is_killed",
        "pods::life_under_runc",
        "pods::life_under_crun",
        "pods::life_under_the_runtime_inside",
        "pods::life_under_runsc",
        "gvisor::a_container_is_limited_by_its_filter_and_its_memory",
        "gvisor::limits_of_a_running_pod_change",
        "restart::nothing_outlives_its_shim_under_runc",
        "restart::nothing_outlives_its_shim_under_runsc",
        "trust::a_privileged_container_is_judged_by_the_request",
    ]},
    {"name": "suite", "drivers": ["cgroupfs"], "tests": [
        "handlers::the_kubelet_is_told_who_makes_cgroups",
        "sameness::the_runtime_inside_does_as_runc_does",
        "users::root_under_runc_is_nobody_special",
        "users::root_under_crun_is_nobody_special",
        "users::containers_share_pids_under_other_users",
        "users::what_does_not_go_with_a_user_namespace_is_refused",
    ]},
    {"name": "e2e", "drivers": ["cgroupfs"], "tests": [
        "devices::a_class_and_its_devices",
        "measured::the_cost_of_a_class_is_measured_told_and_kept",
        "overhead::it_counts_wherever_requests_do",
        "resize::a_running_pod_grows_and_shrinks",
        "resize::a_pod_as_a_whole_grows_and_shrinks",
        "users::each_pod_has_users_of_its_own",
    ]},
]


def executables(names):
    """The suites' programs by name, as cargo built them."""
    chosen = [word for name in names for word in ("--test", name)]
    built = subprocess.run(["cargo", "build", "--workspace", "--locked", *chosen, "--message-format", "json"],
                           check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    found = {}
    for line in built.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable") and "test" in message["target"]["kind"]:
            found[message["target"]["name"]] = message["executable"]
    return found


def words(name, default):
    return os.environ.get(name, default).replace(",", " ").split()


def main():
    repo, debug, tree = sys.argv[1:]
    stages = words("BERTH_VM_STAGES", "suites checks demo")
    only = [name.strip() for name in os.environ.get("BERTH_VM_ONLY", "").split(",") if name.strip()]
    suites = []
    if "suites" in stages:
        names = words("BERTH_VM_SUITES", "suite e2e")
        programs = executables(names)
        for suite in SUITES:
            if suite["name"] not in names:
                continue
            program = pathlib.Path(tree, f"test-{suite['name']}")
            subprocess.run(["strip", "-o", program, programs[suite["name"]]], check=True)
            suites.append({**suite, "binary": f"/payload/{program.name}"})
    plan = {
        "repo": repo,
        "debug": debug,
        "stages": stages,
        "drivers": words("BERTH_VM_DRIVERS", "cgroupfs systemd"),
        "runtimes": words("BERTH_VM_RUNTIMES", "runc crun berth runsc"),
        "only": only,
        "suites": suites,
    }
    pathlib.Path(tree, "plan.json").write_text(json.dumps(plan, indent=1))


main()
