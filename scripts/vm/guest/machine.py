"""What the checks need of the machine: commands, deadlines, and the line to the host."""
import contextlib, json, pathlib, subprocess, time

OUT = pathlib.Path("/payload/out")
KUBECONFIG = "/var/lib/berth/admin.kubeconfig"
# Everything is ten times slower without hardware virtualization.
PATIENCE = 600
CGROUPS = pathlib.Path("/sys/fs/cgroup")


class Failed(Exception):
    """A check that did not hold, in one sentence."""


class LeftOut(Exception):
    """A check that does not concern this runtime, and why."""


def send(**message):
    """One line of JSON for the host."""
    with open("/dev/virtio-ports/results", "w") as port:
        port.write(json.dumps(message) + "\n")


# What else is to be kept of a check that failed: functions that give text.
evidence = []


def note(*names):
    """What the service and the kernel have said lately and the cluster has, for a check that failed."""
    name = "-".join(part.replace(" ", "-").replace("/", "-") for part in names if part)
    parts = []
    for give in evidence:
        try:
            parts.append(give())
        except Exception as error:
            parts.append(f"{give.__name__}: {type(error).__name__}: {error}")
    parts.append(run("uptime")[1] + run("free", "-m")[1])
    parts.append(run("journalctl", "--no-pager", "-o", "short-precise", "-n", "1500", limit=60)[1])
    OUT.joinpath(f"failed-{name}.txt").write_text("\n".join(parts))


@contextlib.contextmanager
def check(name, runtime, driver):
    """Reports what becomes of the block. No failure ends the run."""
    begin = time.monotonic()
    result = {"kind": "result", "check": name, "runtime": runtime, "driver": driver, "words": ""}
    try:
        yield result
        result["state"] = "ok"
    except LeftOut as reason:
        result.update(state="-", words=str(reason))
    except Exception as error:
        result.update(state="FAILED", words=f"{type(error).__name__}: {error}"[-3000:])
        note(name, runtime, driver)
    result["seconds"] = round(time.monotonic() - begin, 1)
    send(**result)


def run(*words, stdin=None, env=None, limit=PATIENCE, stderr=subprocess.STDOUT):
    """Runs a command; gives its exit code and all that it has printed, standard error too where it goes nowhere else."""
    try:
        done = subprocess.run(words, input=stdin, env=env, timeout=limit, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=stderr)
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")
        return 124, f"{printed}\nno end after {limit} s"
    return done.returncode, done.stdout


def must(*words, **more):
    """Runs a command that has to succeed; gives what it has printed."""
    code, said = run(*words, **more)
    if code != 0:
        raise Failed(f"{' '.join(words)}: exit code {code}: {said.strip()[-1500:]}")
    return said


def expect(holds, words):
    if not holds:
        raise Failed(words)


def wait(what, ask, limit=PATIENCE):
    """Asks until the answer is not None and no exception; fails with the last reason."""
    end, last = time.monotonic() + limit, "nothing"
    while True:
        try:
            answer = ask()
            if answer is not None:
                return answer
        except Failed as reason:
            last = str(reason)
        if time.monotonic() > end:
            raise Failed(f"{what}: not after {limit} s: {last}")
        time.sleep(1)


def read(path):
    return pathlib.Path(path).read_text().strip()
