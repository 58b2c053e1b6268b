//! Seccomp: berth's default profile, and profiles from files.

mod docker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use crate::container::SeccompProfile;

/// The allowlist, as data.
const DEFAULT: &str = include_str!("seccomp/default.txt");
/// The flags of clone that make new namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Execution domains that change nothing dangerous: Linux, BSD, either with a fixed layout, and asking.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Address family of sockets to hypervisors, not confined by network namespaces.
const AF_VSOCK: u64 = 40;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It can't be read.
    #[error("seccomp profile {path:?} can't be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It isn't a profile.
    #[error("seccomp profile {path:?} is not valid")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A rule can't be expressed.
    #[error("seccomp rule is inconsistent")]
    Rule(#[from] oci_spec::OciSpecError),
}

/// The filter of a container that has these capabilities (without prefix).
pub(crate) fn filter(
    profile: &SeccompProfile,
    capabilities: &BTreeSet<String>,
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    match profile {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => {
            default_profile(std::env::consts::ARCH, capabilities).map(Some)
        }
        SeccompProfile::Localhost(path) => {
            let text = std::fs::read(path).map_err(|source| SeccompError::Read {
                path: path.clone(),
                source,
            })?;
            docker::parse(&text, std::env::consts::ARCH, capabilities)
                .map(Some)
                .map_err(|source| SeccompError::Parse {
                    path: path.clone(),
                    source,
                })
        }
    }
}

/// berth's default profile for an architecture (as Rust names it) and a set of capabilities (without prefix).
///
/// # Errors
/// Never with the list that is built in.
pub fn default_profile(
    arch: &str,
    capabilities: &BTreeSet<String>,
) -> Result<LinuxSeccomp, SeccompError> {
    let sections = sections(DEFAULT);
    let mut allowed: BTreeSet<&str> = BTreeSet::new();
    for (section, names) in &sections {
        let applies = match section.split_once(' ') {
            None => *section == "*",
            Some(("arch", a)) => a == arch,
            Some(("cap", c)) => capabilities.contains(c),
            Some(_) => false,
        };
        if applies {
            allowed.extend(names);
        }
    }
    let mut rules = Vec::new();
    if !allowed.contains("clone") {
        let index = usize::from(arch == "s390x");
        let arg = masked(index, NEW_NAMESPACES, 0)?;
        rules.push(rule(
            &["clone"],
            LinuxSeccompAction::ScmpActAllow,
            None,
            vec![arg],
        )?);
        // Its flags are behind a pointer: callers fall back to clone when it isn't there.
        rules.push(rule(
            &["clone3"],
            LinuxSeccompAction::ScmpActErrno,
            Some(ENOSYS),
            Vec::new(),
        )?);
    }
    for value in PERSONALITIES {
        let arg = compare(0, value, LinuxSeccompOperator::ScmpCmpEq)?;
        rules.push(rule(
            &["personality"],
            LinuxSeccompAction::ScmpActAllow,
            None,
            vec![arg],
        )?);
    }
    let arg = compare(0, AF_VSOCK, LinuxSeccompOperator::ScmpCmpNe)?;
    rules.push(rule(
        &["socket"],
        LinuxSeccompAction::ScmpActAllow,
        None,
        vec![arg],
    )?);
    let names: Vec<&str> = allowed.into_iter().collect();
    rules.insert(
        0,
        rule(&names, LinuxSeccompAction::ScmpActAllow, None, Vec::new())?,
    );

    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(LinuxSeccompAction::ScmpActErrno);
    profile.set_default_errno_ret(Some(EPERM));
    profile.set_architectures(Some(architectures(arch)));
    profile.set_syscalls(Some(rules));
    Ok(profile)
}

/// The kernel's architectures under which a program may call on a machine.
fn architectures(arch: &str) -> Vec<Arch> {
    match arch {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "x86" => vec![Arch::ScmpArchX86],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "arm" => vec![Arch::ScmpArchArm],
        "s390x" => vec![Arch::ScmpArchS390x, Arch::ScmpArchS390],
        "powerpc64" => vec![Arch::ScmpArchPpc64le, Arch::ScmpArchPpc64],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        _ => Vec::new(),
    }
}

fn rule(
    names: &[&str],
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Vec<LinuxSeccompArg>,
) -> Result<LinuxSyscall, SeccompError> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut builder = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno);
    }
    if !args.is_empty() {
        builder = builder.args(args);
    }
    Ok(builder.build()?)
}

fn compare(
    index: usize,
    value: u64,
    op: LinuxSeccompOperator,
) -> Result<LinuxSeccompArg, SeccompError> {
    Ok(LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .op(op)
        .build()?)
}

fn masked(index: usize, mask: u64, value: u64) -> Result<LinuxSeccompArg, SeccompError> {
    Ok(LinuxSeccompArgBuilder::default()
        .index(index)
        .value(mask)
        .value_two(value)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()?)
}

/// Section names and the words below them.
fn sections(text: &'static str) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut out: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = name;
        } else {
            out.entry(current)
                .or_default()
                .extend(line.split_whitespace());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &LinuxSeccomp, name: &str) -> bool {
        profile.syscalls().iter().flatten().any(|s| {
            s.action() == LinuxSeccompAction::ScmpActAllow
                && s.args().is_none()
                && s.names().iter().any(|n| n == name)
        })
    }

    #[test]
    fn capabilities_open_their_calls_and_no_others() {
        let plain = default_profile("x86_64", &BTreeSet::new()).expect("profile");
        let admin =
            default_profile("x86_64", &BTreeSet::from(["SYS_ADMIN".to_owned()])).expect("profile");
        for (name, without, with) in [
            ("read", true, true),
            ("execve", true, true),
            ("mount", false, true),
            ("unshare", false, true),
            ("clone", false, true),
            ("chroot", false, false),
            ("keyctl", false, false),
            ("io_uring_setup", false, false),
            ("kexec_load", false, false),
            ("socket", false, false),
        ] {
            assert_eq!(allowed(&plain, name), without, "{name} without");
            assert_eq!(allowed(&admin, name), with, "{name} with SYS_ADMIN");
        }
    }

    #[test]
    fn no_name_is_listed_twice_in_a_section() {
        for (section, names) in sections(DEFAULT) {
            let unique: BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "[{section}]");
        }
    }
}
