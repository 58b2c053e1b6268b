# Loaded by berth for containers that name no profile of their own.
profile berth-default flags=(attach_disconnected,mediate_deleted) {
  # Capabilities, seccomp and namespaces say what of this a container really has.
  network,
  capability,
  file,
  umount,

  # Among the containers of this profile; from the host, and from runtimes that have a profile themselves.
  ptrace (trace,read,tracedby,readby) peer=berth-default,
  signal (send,receive) peer=berth-default,
  signal (receive) peer=unconfined,
  signal (receive) peer={crun,runc,/usr/bin/crun,/usr/bin/runc,/usr/sbin/runc},

  # No mounts, whatever the capabilities.
  deny mount,

  # /proc: the entries of processes may be written (/proc/self leads there), those of the kernel may not.
  deny /proc/[^0-9]** wkl,
  deny /proc/kcore rwkl,
  deny /proc/sysrq-trigger rwkl,

  # /sys: nothing may be written but cgroups.
  deny /sys/[^f]** wkl,
  deny /sys/f[^s]** wkl,
  deny /sys/fs/[^c]** wkl,
  deny /sys/fs/c[^g]** wkl,
  deny /sys/fs/cg[^r]** wkl,

  # Firmware, energy counters and the policies of security modules are not even read.
  deny /sys/firmware/{,**} rwkl,
  deny /sys/devices/virtual/powercap/{,**} rwkl,
  deny /sys/kernel/security/{,**} rwkl,
}
