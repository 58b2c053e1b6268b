//! Who a process is and what it may do.

use std::ffi::CString;
use std::io;

use libcontainer::capabilities::CapabilityExt as _;
use nix::unistd::{Gid, Uid};
use oci_spec::runtime::{Capabilities, Process};
use rustix::thread::CapabilitySet;

/// What failed, and why.
type Failure = (&'static str, io::Error);

/// A spec's user and capabilities.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// `None`: the spec says nothing, and a process keeps none.
    sets: Sets,
}

/// Capabilities as bits, by their numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Identity {
    pub(super) fn of(process: &Process) -> Self {
        let user = process.user();
        let bits = |set: &Option<Capabilities>| {
            set.iter()
                .flatten()
                .fold(0, |all, capability| all | capability.to_cap().bitmask())
        };
        let sets = process.capabilities().as_ref().map(|sets| Sets {
            bounding: bits(sets.bounding()),
            effective: bits(sets.effective()),
            permitted: bits(sets.permitted()),
            inheritable: bits(sets.inheritable()),
            ambient: bits(sets.ambient()),
        });
        let groups = user.additional_gids().iter().flatten();
        Self {
            uid: Uid::from_raw(user.uid()),
            gid: Gid::from_raw(user.gid()),
            groups: groups.map(|gid| Gid::from_raw(*gid)).collect(),
            sets: sets.unwrap_or_default(),
        }
    }

    /// Gives the streams to the user, who may want to open them again by /dev/stdout.
    pub(super) fn own_streams(&self) {
        for fd in 0..3 {
            // SAFETY: the first three descriptors are open here: libcontainer and our caller see to it; where
            // one is not, the call fails and does no harm.
            let stream = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            let Ok(stat) = rustix::fs::fstat(stream) else {
                continue;
            };
            let null = rustix::fs::makedev(1, 3);
            if stat.st_rdev == null || stat.st_uid == self.uid.as_raw() {
                continue;
            }
            let owner = Some(rustix::process::Uid::from_raw(self.uid.as_raw()));
            // Not every file has an owner that can be changed.
            let _ = rustix::fs::fchown(stream, owner, None);
        }
    }

    /// Becomes the user, with no more capabilities to be had by executing than the spec's bounding set, and
    /// still with all of those that are here.
    pub(super) fn assume(&self) -> Result<(), Failure> {
        let step = |name: &'static str| move |error: io::Error| (name, error);
        let all = rustix::thread::capabilities(None)
            .map_err(|error| ("read capabilities", error.into()))?
            .permitted;
        for number in 0..64 {
            if self.sets.bounding & (1 << number) == 0
                && prctl(libc::PR_CAPBSET_READ, number, 0).is_ok_and(|set| set == 1)
            {
                prctl(libc::PR_CAPBSET_DROP, number, 0)
                    .map_err(step("lower the bounding set of capabilities"))?;
            }
        }
        prctl(libc::PR_SET_KEEPCAPS, 1, 0).map_err(step("keep capabilities"))?;
        nix::unistd::setgroups(&self.groups)
            .map_err(|error| ("set supplementary groups", error.into()))?;
        nix::unistd::setresgid(self.gid, self.gid, self.gid)
            .map_err(|error| ("set the group", error.into()))?;
        nix::unistd::setresuid(self.uid, self.uid, self.uid)
            .map_err(|error| ("set the user", error.into()))?;
        set(all.bits(), all.bits(), 0).map_err(step("raise capabilities"))
    }

    /// The spec's capabilities and no others.
    pub(super) fn drop_capabilities(&self) -> Result<(), Failure> {
        let Sets {
            effective,
            permitted,
            inheritable,
            ambient,
            ..
        } = self.sets;
        let step = |name: &'static str| move |error: io::Error| (name, error);
        set(effective, permitted, inheritable).map_err(step("set capabilities"))?;
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned(),
            0,
        )
        .map_err(step("clear ambient capabilities"))?;
        for number in 0..64 {
            if ambient & (1 << number) != 0 {
                prctl(
                    libc::PR_CAP_AMBIENT,
                    libc::PR_CAP_AMBIENT_RAISE.cast_unsigned(),
                    number,
                )
                .map_err(step("set ambient capabilities"))?;
            }
        }
        Ok(())
    }
}

/// No executing gives more than there is, from now on.
pub(super) fn no_new_privileges() -> Result<(), Failure> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
        .map(drop)
        .map_err(|error| ("set no_new_privs", error))
}

/// Leaves the host's session keyring for one of the container's own. A kernel without keyrings has none to leave.
pub(super) fn join_keyring(id: &str) {
    /// Of linux/keyctl.h.
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let Ok(name) = CString::new(format!("_ses.{id}")) else {
        return;
    };
    // SAFETY: the name is a C string that outlives the call.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
}

fn set(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let sets = rustix::thread::CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn prctl(option: libc::c_int, one: u32, two: u32) -> io::Result<libc::c_int> {
    let (one, two) = (libc::c_ulong::from(one), libc::c_ulong::from(two));
    let none: libc::c_ulong = 0;
    // SAFETY: none of the options that are used here takes a pointer.
    let result = unsafe { libc::prctl(option, one, two, none, none) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
