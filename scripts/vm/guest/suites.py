"""The project's own test binaries, test by test, with the names that /payload/plan.json has."""
import os, pathlib, re, shutil

import machine
from machine import Failed, check, must


def place(repo, debug):
    """What the programs look for, where they were built: the scripts, and the programs that they start."""
    os.makedirs(repo, exist_ok=True)
    must("mount", "--bind", "/payload/repo", repo)
    os.makedirs(debug, exist_ok=True)
    for name in ("berth", "berth-cri-shim"):
        if os.path.exists(f"/payload/{name}-of-suites"):
            shutil.copy(f"/payload/{name}-of-suites", os.path.join(debug, name))


def run(suites, driver):
    """Each test in a process of its own; a result a test."""
    for suite in suites:
        if driver not in suite["drivers"]:
            continue
        env = dict(os.environ, BERTH_TEST_CGROUP_DRIVER=driver, RUST_BACKTRACE="0")
        for test in suite["tests"]:
            with check(f"{suite['name']} {test}", "", driver) as result:
                code, said = machine.run(suite["binary"], "--exact", test, "--test-threads=1", env=env, limit=600)
                name = re.sub(r"\W+", "-", f"{suite['name']}-{test}-{driver}")
                machine.OUT.joinpath(f"{name}.txt").write_text(said)
                if code != 0 or "1 passed" not in said:
                    raise Failed(said[-2500:])
