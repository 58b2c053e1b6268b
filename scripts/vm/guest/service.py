"""berth.service, out of the Debian package: installed, configured for a cgroup driver, ended; and the demo."""
import glob, os, pathlib

import api, cluster, machine
from machine import Failed, check, must, wait

HANDLERS = ["runc", "crun", "berth", "runsc"]


def install():
    os.makedirs("/usr/local/bin", exist_ok=True)
    if not os.path.exists("/usr/local/bin/kubectl"):
        os.symlink("/payload/kubectl", "/usr/local/bin/kubectl")
    must("dpkg", "--force-unsafe-io", "--install", *glob.glob("/payload/berth_*.deb"))


def configure(driver):
    """Handlers for the driver, in the file that berth reads by itself."""
    lines = ['default_handler = "runc"']
    for name in HANDLERS:
        lines += [f"[handlers.{name}]", f"systemd_cgroup = {str(driver == 'systemd').lower()}"]
    os.makedirs("/etc/berth", exist_ok=True)
    pathlib.Path("/etc/berth/config.toml").write_text("\n".join(lines) + "\n")
    arguments = f"--node-name {cluster.NODE} --create-runtime-classes=false"
    pathlib.Path("/etc/default/berth").write_text(f'BERTH_UP_ARGS="{arguments}"\n')


def is_ready():
    api.forget()
    if api.get("/readyz") != "ok":
        raise Failed(str(api.get("/readyz?verbose")))
    nodes = api.get("/api/v1/nodes")["items"]
    if not any(cluster.is_ready(node) for node in nodes):
        raise Failed(f"no node is Ready: {[node['status'].get('conditions') for node in nodes]}")
    return True


def start(driver, runtimes):
    configure(driver)
    machine.evidence[:] = [cluster.picture]
    must("systemctl", "start", "berth")
    try:
        wait("berth.service to be ready", is_ready)
    except Failed as reason:
        raise Failed(f"{reason}: {machine.run('journalctl', '--no-pager', '-u', 'berth', '-n', '30')[1]}")
    must("berth", "image", "import", "/payload/image.tar", "--data-dir", "/var/lib/berth")
    for name in runtimes:
        named = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": f"vm-{name}"}, "handler": name}
        api.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", named)


def advertised(runtime):
    """Waits until the node has the handler; gives its features."""
    def ask():
        status = api.get(f"/api/v1/nodes/{cluster.NODE}")
        for handler in status["status"].get("runtimeHandlers") or []:
            if handler["name"] == runtime:
                return handler.get("features") or {}
        raise Failed(f"the node lacks the handler: {status['metadata'].get('annotations')}")
    # A gVisor whose first trial took too long here is tried again each minute.
    return wait(f"handler {runtime}", ask)


def restart(how):
    """Restarts the service, in order or by a kill, and waits until it is another process and ready."""
    before = must("systemctl", "show", "--property", "MainPID", "--value", "berth").strip()
    if how == "kill":
        must("systemctl", "kill", "--kill-who=main", "--signal=KILL", "berth")
    else:
        must("systemctl", "restart", "berth")
    def is_another():
        now = must("systemctl", "show", "--property", "MainPID", "--value", "berth").strip()
        return True if now not in ("0", before) else None
    wait("another process", is_another)
    wait("berth.service to be ready again", is_ready)


def end(driver):
    """Stops the service and removes all that it has made."""
    must("systemctl", "stop", "berth")
    machine.OUT.joinpath(f"journal-{driver}.txt").write_text(machine.run("journalctl", "--no-pager", "-u", "berth")[1])
    must("berth", "reset", "--yes", "--data-dir", "/var/lib/berth")


def demo():
    """The demo as a person runs it, beside no other cluster."""
    env = dict(os.environ, BERTH="/usr/bin/berth", BERTH_DEMO_PATIENCE=str(machine.PATIENCE))
    pathlib.Path("/etc/berth/config.toml").unlink(missing_ok=True)
    with check("demo", "", "cgroupfs") as result:
        said = must("/payload/scripts/demo", env=env, limit=4 * machine.PATIENCE)
        machine.OUT.joinpath("demo.txt").write_text(said)
        if "All three run" not in said:
            raise Failed(said[-1500:])
    with check("demo-down", "", "cgroupfs"):
        must("/payload/scripts/demo-down", env=env)
