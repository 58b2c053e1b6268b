"""What this guest is: the versions of what takes part."""
import machine


def first_line(*words):
    return machine.run(*words)[1].strip().split("\n")[0]


def collect():
    controllers = machine.read(machine.CGROUPS / "cgroup.controllers")
    return {
        "kernel": first_line("uname", "-r"),
        "systemd": first_line("systemctl", "--version"),
        "cgroup v2": controllers,
        "AppArmor": machine.read("/sys/module/apparmor/parameters/enabled"),
        "runc": first_line("runc", "--version"),
        "crun": first_line("crun", "--version"),
        "runsc": first_line("runsc", "--version"),
        "berth": first_line("/payload/berth", "--version"),
    }
