//! `process`: arguments, user, capabilities, limits and labels.

use std::path::PathBuf;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, User};

use super::capabilities;
use super::error::SpecError;
use crate::apparmor::DEFAULT_NAME;
use crate::container::{Container, Profile, Rlimit};
use crate::{Host, SelinuxOptions};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(host: &Host, container: &Container) -> Result<Process, SpecError> {
    let input = &container.process;
    let security = &container.security;
    if input.args.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let cwd = if input.cwd.is_empty() {
        "/"
    } else {
        &input.cwd
    };
    if !cwd.starts_with('/') {
        return Err(SpecError::NotAbsolute {
            what: "working directory",
            path: PathBuf::from(cwd),
        });
    }
    let mut user = User::default();
    user.set_uid(input.user.uid);
    user.set_gid(input.user.gid);
    if !input.user.additional_gids.is_empty() {
        user.set_additional_gids(Some(input.user.additional_gids.clone()));
    }

    let mut process = Process::default();
    process.set_terminal(Some(input.terminal));
    process.set_user(user);
    process.set_args(Some(input.args.clone()));
    process.set_env(Some(environment(&input.env, input.terminal)));
    process.set_cwd(PathBuf::from(cwd));
    process.set_capabilities(Some(capabilities::capabilities(host, security)?));
    process.set_rlimits(rlimits(host, &input.rlimits)?);
    process.set_no_new_privileges(Some(security.no_new_privs && !security.privileged));
    process.set_apparmor_profile(apparmor(host, &security.apparmor, security.privileged)?);
    process.set_selinux_label(
        security
            .selinux
            .as_ref()
            .filter(|_| host.selinux && !security.privileged)
            .map(process_label),
    );
    process.set_oom_score_adj(oom_score_adj(host, container.resources.oom_score_adj));
    Ok(process)
}

/// Later lines win; `PATH` and, with a terminal, `TERM` are always there.
fn environment(lines: &[String], terminal: bool) -> Vec<String> {
    let name = |l: &str| l.split('=').next().unwrap_or_default().to_owned();
    let mut out: Vec<String> = vec![DEFAULT_PATH.to_owned()];
    if terminal {
        out.push("TERM=xterm".to_owned());
    }
    for line in lines {
        match out.iter_mut().find(|l| name(l) == name(line)) {
            Some(old) => old.clone_from(line),
            None => out.push(line.clone()),
        }
    }
    out
}

fn rlimits(host: &Host, wanted: &[Rlimit]) -> Result<Option<Vec<PosixRlimit>>, SpecError> {
    let mut out = Vec::new();
    for limit in wanted {
        let typ = limit
            .name
            .parse::<PosixRlimitType>()
            .map_err(|_| SpecError::UnknownRlimit(limit.name.clone()))?;
        let cap = if limit.name == "RLIMIT_NOFILE" {
            host.max_open_files
        } else {
            u64::MAX
        };
        let (soft, hard) = (limit.soft.min(limit.hard).min(cap), limit.hard.min(cap));
        out.push(
            PosixRlimitBuilder::default()
                .typ(typ)
                .soft(soft)
                .hard(hard)
                .build()?,
        );
    }
    Ok((!out.is_empty()).then_some(out))
}

/// A profile where the kernel has no AppArmor is fatal in every runtime, so it is refused here.
fn apparmor(host: &Host, profile: &Profile, privileged: bool) -> Result<Option<String>, SpecError> {
    let name = match profile {
        Profile::Unconfined => return Ok(None),
        Profile::RuntimeDefault => DEFAULT_NAME,
        Profile::Localhost(name) => name,
    };
    if privileged {
        Ok(None)
    } else if host.apparmor {
        Ok(Some(name.to_owned()))
    } else {
        Err(SpecError::NoAppArmor(name.to_owned()))
    }
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn process_label(s: &SelinuxOptions) -> String {
    let (user, role, kind) = (
        or(&s.user, "system_u"),
        or(&s.role, "system_r"),
        or(&s.kind, "container_t"),
    );
    format!("{user}:{role}:{kind}:{}", or(&s.level, "s0"))
}

/// The label of files mounted into a container with `s`.
pub(super) fn mount_label(s: &SelinuxOptions) -> String {
    format!(
        "{}:object_r:container_file_t:{}",
        or(&s.user, "system_u"),
        or(&s.level, "s0")
    )
}

/// Raised to the lowest value that we may set.
fn oom_score_adj(host: &Host, wanted: i64) -> Option<i32> {
    i32::try_from(wanted.clamp(host.min_oom_score_adj.max(-1000), 1000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_environment_lines_win_and_defaults_stay() {
        let lines = ["A=1".to_owned(), "PATH=/x".to_owned(), "A=2".to_owned()];
        assert_eq!(environment(&lines, true), ["PATH=/x", "TERM=xterm", "A=2"]);
    }
}
