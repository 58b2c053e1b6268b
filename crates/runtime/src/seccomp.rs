//! A spec's seccomp profile as a program of the kernel's, made once at `create` and loaded by every process
//! of the container: libcontainer would leave execs without one.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator,
};

use crate::error::Error;

/// A filter that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `SECCOMP_FILTER_FLAG_*`.
    flags: libc::c_ulong,
    /// `struct sock_filter`s as the kernel has them.
    program: Vec<u8>,
}

const INSTRUCTION: usize = size_of::<libc::sock_filter>();

impl Filter {
    /// Compiles a profile.
    ///
    /// # Errors
    /// When the profile wants a listener, which nobody here would be, or libseccomp declines it.
    pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let listens = profile.default_action() == LinuxSeccompAction::ScmpActNotify
            || profile
                .syscalls()
                .iter()
                .flatten()
                .any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
        if listens {
            return Err(Error::Unsupported(
                "seccomp profiles with SCMP_ACT_NOTIFY are not supported".to_owned(),
            ));
        }
        let context = context(profile).map_err(Error::Seccomp)?;
        let memory = rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|error| Error::System("make a memory file", error.into()))?;
        context.export_bpf(&memory).map_err(Error::Seccomp)?;
        let mut file = File::from(memory);
        let mut program = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut program))
            .map_err(|error| Error::System("read the seccomp filter", error))?;
        let flags = profile.flags().iter().flatten();
        Ok(Self {
            flags: flags.fold(0, |all, flag| all | flag_bit(*flag)),
            program,
        })
    }

    /// The kernel's instructions.
    pub(crate) fn into_program(self) -> Vec<u8> {
        self.program
    }

    /// Keeps it for later execs.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let mut bytes = self.flags.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.program);
        std::fs::write(path, bytes).map_err(Error::file("write", path))
    }

    /// Reads one that was kept; `None` when the container has none.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        let (flags, program) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| Error::file("read", path)(std::io::ErrorKind::UnexpectedEof.into()))?;
        Ok(Some(Self {
            flags: u64::from_le_bytes(*flags),
            program: program.to_vec(),
        }))
    }

    /// Puts this thread and its children under the filter for good.
    ///
    /// # Errors
    /// As the system says: without no_new_privs it takes CAP_SYS_ADMIN.
    pub(crate) fn enter(&self) -> std::io::Result<()> {
        let mut instructions: Vec<libc::sock_filter> = self
            .program
            .chunks_exact(INSTRUCTION)
            .map(|word| libc::sock_filter {
                code: u16::from_ne_bytes([word[0], word[1]]),
                jt: word[2],
                jf: word[3],
                k: u32::from_ne_bytes([word[4], word[5], word[6], word[7]]),
            })
            .collect();
        let program = libc::sock_fprog {
            len: u16::try_from(instructions.len())
                .map_err(|_| std::io::Error::from_raw_os_error(libc::E2BIG))?,
            filter: instructions.as_mut_ptr(),
        };
        // SAFETY: the program points to as many instructions as it says, and outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                self.flags,
                &raw const program,
            )
        };
        match result {
            0 => Ok(()),
            -1 => Err(std::io::Error::last_os_error()),
            // TSYNC: a thread that could not follow.
            _ => Err(std::io::Error::from_raw_os_error(libc::EBUSY)),
        }
    }
}

fn context(profile: &LinuxSeccomp) -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    // A tree instead of a list; libraries before 2.5 can't.
    let _ = context.set_ctl_optimize(2);
    for arch in profile.architectures().iter().flatten() {
        context.add_arch(architecture(*arch))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret());
        if action == default {
            continue;
        }
        for name in rule.names() {
            // A call that this libseccomp has never heard of is left to the default.
            let Ok(call) = ScmpSyscall::from_name(name) else {
                continue;
            };
            match rule.args().as_deref() {
                None | Some([]) => context.add_rule(action, call)?,
                Some(arguments) if repeats(arguments) => {
                    for argument in arguments {
                        context.add_rule_conditional(action, call, &[compare(argument)])?;
                    }
                    &mut context
                }
                Some(arguments) => {
                    let all: Vec<_> = arguments.iter().map(compare).collect();
                    context.add_rule_conditional(action, call, &all)?
                }
            };
        }
    }
    Ok(context)
}

/// Whether an argument is compared twice: libseccomp wants a rule for each then.
fn repeats(arguments: &[LinuxSeccompArg]) -> bool {
    let mut seen = std::collections::HashSet::new();
    !arguments
        .iter()
        .all(|argument| seen.insert(argument.index()))
}

fn compare(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    let operator = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        // The spec's first value is the mask, the second what remains: the library's other way round.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let index = u32::try_from(argument.index()).unwrap_or(u32::MAX);
            return ScmpArgCompare::new(
                index,
                ScmpCompareOp::MaskedEqual(argument.value()),
                argument.value_two().unwrap_or(0),
            );
        }
    };
    let index = u32::try_from(argument.index()).unwrap_or(u32::MAX);
    ScmpArgCompare::new(index, operator, argument.value())
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = errno
        .and_then(|errno| i32::try_from(errno).ok())
        .unwrap_or(libc::EPERM);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(errno).unwrap_or(u16::MAX))
        }
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        // `compile` has declined it.
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
    }
}

fn flag_bit(flag: LinuxSeccompFilterFlag) -> libc::c_ulong {
    match flag {
        // One thread: nobody to synchronize with.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // Only with a listener.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    }
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}
