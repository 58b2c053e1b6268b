//! bpf(2), as far as programs on cgroups need it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::process::{Resource, Rlimit};

use super::program::Instruction;

// Of linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;

/// Of no meaning but to programs that call functions for GPL'ed ones only.
const LICENSE: &CStr = c"Apache-2.0";

/// How often the verifier may be interrupted by a signal.
const TRIES: u32 = 16;

/// Most programs that the kernel takes on one cgroup.
const MOST: usize = 64;

/// The beginnings of `union bpf_attr`, one a command. The kernel takes what is behind them as zero.
#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[derive(Default)]
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    /// Linux 6.17 to 7.1 write it whether or not there is room.
    revision: u64,
}

#[derive(Default)]
#[repr(C)]
struct Open {
    id: u32,
    next: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Describe {
    program: u32,
    size: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name.
#[derive(Default)]
#[repr(C)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

/// Gives a program to the kernel.
pub(super) fn load(name: &str, program: &[Instruction]) -> io::Result<OwnedFd> {
    match load_once(name, program) {
        // Before 5.11 programs count as locked memory.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let before = rustix::process::getrlimit(Resource::Memlock);
            let most = [None, before.maximum].map(|maximum| Rlimit {
                current: maximum,
                maximum,
            });
            // Without SYS_RESOURCE there is no more to be had than the maximum.
            for limit in most {
                if rustix::process::setrlimit(Resource::Memlock, limit).is_ok() {
                    break;
                }
            }
            let again = load_once(name, program);
            // The container is not to have it.
            let _ = rustix::process::setrlimit(Resource::Memlock, before);
            again
        }
        result => result,
    }
}

fn load_once(name: &str, program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        ..Load::default()
    };
    // A byte stays for the NUL.
    for (to, from) in attributes.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    for _ in 1..TRIES {
        // SAFETY: the program and the license outlive the call, and the count is the program's.
        match unsafe { call_for_fd(PROG_LOAD, &mut attributes) } {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    // SAFETY: as above.
    unsafe { call_for_fd(PROG_LOAD, &mut attributes) }
}

/// Puts a program on a cgroup, beside those that are there.
pub(super) fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    change(PROG_ATTACH, F_ALLOW_MULTI, cgroup, program)
}

/// Takes a program from a cgroup.
pub(super) fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    change(PROG_DETACH, 0, cgroup, program)
}

fn change(
    command: libc::c_long,
    flags: u32,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: CGROUP_DEVICE,
        flags,
    };
    // SAFETY: no pointers in it.
    unsafe { call(command, &mut attributes) }.map(drop)
}

/// The ids of a cgroup's own device programs, not of those above it.
pub(super) fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MOST];
    let mut attributes = Query {
        target: number(cgroup),
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(ids.len()).map_err(io::Error::other)?,
        ..Query::default()
    };
    // SAFETY: the kernel writes as many ids as the count says there is room for.
    unsafe { call(PROG_QUERY, &mut attributes) }?;
    ids.truncate(usize::try_from(attributes.count).map_err(io::Error::other)?);
    Ok(ids)
}

/// A program by its id.
pub(super) fn open(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = Open {
        id,
        ..Open::default()
    };
    // SAFETY: no pointers in it.
    unsafe { call_for_fd(PROG_GET_FD_BY_ID, &mut attributes) }
}

/// A program's name.
pub(super) fn name(program: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut info = Info::default();
    let mut attributes = Describe {
        program: number(program),
        size: u32::try_from(size_of::<Info>()).map_err(io::Error::other)?,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes as much as the size says there is room for, which is `info`'s.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    let name = info.name.iter().take_while(|byte| **byte != 0);
    Ok(name.copied().collect())
}

/// File descriptors are not negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A command that makes a file descriptor, which is closed on exec.
///
/// # Safety
/// As [`call`]'s; the command is one of those.
unsafe fn call_for_fd<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { call(command, attributes) }?;
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// `T` is a beginning of `union bpf_attr` for the command, and the addresses and sizes in it are of memory that
/// lives as long as the call and that the command may read or write.
unsafe fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are as large as said; the rest is the caller's.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
