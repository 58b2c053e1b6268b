//! Which AppArmor profile a container gets, and that it is in the kernel.
//!
//! berth's default profile is loaded when the first container needs it, and again when somebody unloaded it.
//! Profiles of other names are the administrator's to load.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use berth_cri_api::v1::LinuxContainerSecurityContext;
use berth_cri_api::v1::security_profile::ProfileType;
use berth_oci::Profile;
use berth_oci::apparmor::{DEFAULT_NAME, DEFAULT_PROFILE};
use parking_lot::Mutex;

/// The kernel's list of loaded profiles, a line each: the name, and the mode in parentheses.
const LIST: &str = "/sys/kernel/security/apparmor/profiles";
const PARSER: &str = "apparmor_parser";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a container can't have its profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppArmorError {
    #[error(
        "AppArmor profile {0:?} is not loaded on this node; load its file with apparmor_parser -r"
    )]
    NotLoaded(String),
    #[error(
        "the default AppArmor profile can't be loaded without {PARSER}: install the package apparmor"
    )]
    NoParser,
    #[error("{PARSER} can't be run")]
    Parser(#[source] io::Error),
    #[error("{PARSER} refused the default AppArmor profile: {0}")]
    Refused(String),
}

/// What a container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    /// Nothing: the default profile where there can be one.
    Nothing,
    Default,
    Unconfined,
    Named(String),
}

/// The profiles in the kernel.
#[derive(Debug, Default)]
pub(crate) struct AppArmor {
    default: Mutex<DefaultProfile>,
}

/// Which text the kernel has under the default profile's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum DefaultProfile {
    /// Not known: another version of berth may have loaded its own.
    #[default]
    Unknown,
    /// Ours.
    Loaded,
    /// None, for want of a parser; that was told.
    Missing,
}

impl AppArmor {
    /// The profile of a container that runs on the host's kernel. Loads the default one when it is needed; blocks.
    pub(crate) fn profile(
        &self,
        enabled: bool,
        given: Option<&LinuxContainerSecurityContext>,
    ) -> Result<Profile, AppArmorError> {
        let wish = wish(given);
        if !enabled {
            // Names are refused with the spec.
            return Ok(unchecked(wish));
        }
        match &wish {
            Wish::Nothing => match self.need_default() {
                Ok(()) => return Ok(Profile::RuntimeDefault),
                Err(AppArmorError::NoParser) => {}
                Err(error) => return Err(error),
            },
            Wish::Default => self.need_default()?,
            Wish::Named(name) => {
                if loaded().is_some_and(|list| !lists(&list, name)) {
                    return Err(AppArmorError::NotLoaded(name.clone()));
                }
            }
            Wish::Unconfined => {}
        }
        Ok(unchecked(wish))
    }

    fn need_default(&self) -> Result<(), AppArmorError> {
        let mut state = self.default.lock();
        if *state == DefaultProfile::Loaded
            && loaded().is_none_or(|list| lists(&list, DEFAULT_NAME))
        {
            return Ok(());
        }
        let result = load(DEFAULT_PROFILE);
        match &result {
            Ok(()) => *state = DefaultProfile::Loaded,
            Err(AppArmorError::NoParser) if *state != DefaultProfile::Missing => {
                tracing::warn!(
                    "AppArmor is enabled, but {PARSER} is missing: containers that name no profile run without; \
                     install the package apparmor"
                );
                *state = DefaultProfile::Missing;
            }
            Err(_) => {}
        }
        result
    }
}

/// A container's profile where the host's kernel does not see to it.
pub(crate) fn elsewhere(given: Option<&LinuxContainerSecurityContext>) -> Profile {
    match wish(given) {
        Wish::Default => Profile::Unconfined,
        other => unchecked(other),
    }
}

fn unchecked(wish: Wish) -> Profile {
    match wish {
        Wish::Nothing | Wish::Unconfined => Profile::Unconfined,
        Wish::Default => Profile::RuntimeDefault,
        Wish::Named(name) => Profile::Localhost(name),
    }
}

#[allow(deprecated)]
fn wish(given: Option<&LinuxContainerSecurityContext>) -> Wish {
    let Some(given) = given else {
        return Wish::Nothing;
    };
    if given.privileged {
        return Wish::Unconfined;
    }
    let named =
        |name: &str| Wish::Named(name.strip_prefix("localhost/").unwrap_or(name).to_owned());
    if let Some(profile) = &given.apparmor {
        return match profile.profile_type() {
            ProfileType::RuntimeDefault => Wish::Default,
            ProfileType::Unconfined => Wish::Unconfined,
            ProfileType::Localhost => named(&profile.localhost_ref),
        };
    }
    match given.apparmor_profile.as_str() {
        "" => Wish::Nothing,
        "runtime/default" => Wish::Default,
        "unconfined" => Wish::Unconfined,
        name => named(name),
    }
}

/// The kernel's list, where it can be read.
fn loaded() -> Option<String> {
    std::fs::read_to_string(LIST).ok()
}

fn lists(list: &str, name: &str) -> bool {
    list.lines()
        .filter_map(|line| line.rsplit_once(" ("))
        .any(|(listed, _)| listed == name)
}

/// Puts a profile into the kernel, in place of one of the same name.
fn load(text: &str) -> Result<(), AppArmorError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(PARSER)
        .env("PATH", format!("{path}:{PATH}"))
        .args(["--replace", "--skip-cache"])
        .current_dir(Path::new("/"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => AppArmorError::NoParser,
            _ => AppArmorError::Parser(error),
        })?;
    // One that reads nothing says why in its exit.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(AppArmorError::Parser)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(AppArmorError::Refused(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use berth_cri_api::v1::SecurityProfile;

    use super::*;

    fn context(kind: ProfileType, name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: name.to_owned(),
            }),
            ..LinuxContainerSecurityContext::default()
        }
    }

    #[allow(deprecated)]
    fn old(name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor_profile: name.to_owned(),
            ..LinuxContainerSecurityContext::default()
        }
    }

    #[test]
    fn both_fields_of_the_cri_are_understood() {
        let named = |name: &str| Wish::Named(name.to_owned());
        for (given, wanted) in [
            (old(""), Wish::Nothing),
            (old("runtime/default"), Wish::Default),
            (old("unconfined"), Wish::Unconfined),
            (old("localhost/a b"), named("a b")),
            (context(ProfileType::RuntimeDefault, ""), Wish::Default),
            (context(ProfileType::Unconfined, ""), Wish::Unconfined),
            (context(ProfileType::Localhost, "localhost/x"), named("x")),
            (context(ProfileType::Localhost, "x//y"), named("x//y")),
        ] {
            assert_eq!(wish(Some(&given)), wanted, "{given:?}");
        }
        assert_eq!(wish(None), Wish::Nothing);
        let mut privileged = context(ProfileType::Localhost, "x");
        privileged.privileged = true;
        assert_eq!(wish(Some(&privileged)), Wish::Unconfined);
    }

    #[test]
    fn names_are_found_whole() {
        let list = "lsb_release (enforce)\na (b) (complain)\nouter//inner (enforce)\n";
        for name in ["lsb_release", "a (b)", "outer//inner"] {
            assert!(lists(list, name), "{name}");
        }
        for name in ["lsb", "a", "outer", ""] {
            assert!(!lists(list, name), "{name}");
        }
    }

    #[test]
    fn a_kernel_without_apparmor_leaves_the_refusal_to_the_spec() {
        let apparmor = AppArmor::default();
        let named = context(ProfileType::Localhost, "x");
        assert_eq!(
            apparmor.profile(false, Some(&named)).unwrap(),
            Profile::Localhost("x".to_owned())
        );
        assert_eq!(apparmor.profile(false, None).unwrap(), Profile::Unconfined);
    }
}
