//! The AppArmor profile that berth's containers have by default. All berths of a machine share it, and whichever needs it
//! loads it again, so it goes when nothing is confined by it.

use std::fmt;
use std::fs;
use std::path::Path;

/// The profile's name, as `berth-oci` has it.
const NAME: &str = berth_cri::APPARMOR_PROFILE;
/// The kernel's list of loaded profiles.
const LIST: &str = "/sys/kernel/security/apparmor/profiles";
/// Takes the name of a profile that is to be unloaded.
const REMOVE: &str = "/sys/kernel/security/apparmor/.remove";

/// What became of the profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was not loaded.
    #[default]
    Absent,
    /// It is unloaded.
    Removed,
    /// So many processes are confined by it.
    InUse(usize),
    /// Nobody can say whether it is loaded, or it can't be unloaded.
    Unknown(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => Ok(()),
            Self::Removed => f.write_str(", 1 AppArmor profile"),
            Self::InUse(count) => write!(
                f,
                "; the AppArmor profile {NAME} stays: {count} process(es) of another berth are confined by it"
            ),
            Self::Unknown(error) => write!(
                f,
                "; not known: whether the AppArmor profile {NAME} is loaded ({error})"
            ),
        }
    }
}

/// Unloads it.
pub(super) fn remove() -> Outcome {
    let list = match fs::read_to_string(LIST) {
        Ok(list) => list,
        // A kernel without AppArmor, or with the file system not mounted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Outcome::Absent,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    if !is_listed(&list) {
        return Outcome::Absent;
    }
    match confined(Path::new("/proc")) {
        Ok(0) => {}
        Ok(confined) => return Outcome::InUse(confined),
        Err(error) => return Outcome::Unknown(error.to_string()),
    }
    match fs::write(REMOVE, NAME) {
        Ok(()) => Outcome::Removed,
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

/// A line each: the name, and the mode in parentheses.
fn is_listed(list: &str) -> bool {
    list.lines()
        .filter_map(|line| line.rsplit_once(" ("))
        .any(|(name, _)| name == NAME)
}

/// How many processes are confined by it.
fn confined(proc: &Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(proc)? {
        // Of a process that has ended there is nothing to read.
        let current = fs::read_to_string(entry?.path().join("attr/current"));
        count += usize::from(current.is_ok_and(|label| label.split(" (").next() == Some(NAME)));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_known_by_its_whole_name() {
        assert!(is_listed(&format!(
            "docker-default (enforce)\n{NAME} (enforce)\n"
        )));
        assert!(!is_listed(&format!(
            "{NAME}-old (enforce)\nmy-{NAME} (complain)\n"
        )));
        assert!(!is_listed(""));
    }

    #[test]
    fn who_is_confined_by_it_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, label) in [
            ("1", "unconfined\n"),
            ("7", &format!("{NAME} (enforce)\n")),
            ("8", "other (enforce)\n"),
        ] {
            fs::create_dir_all(dir.path().join(pid).join("attr")).unwrap();
            fs::write(dir.path().join(pid).join("attr/current"), label).unwrap();
        }
        assert_eq!(confined(dir.path()).unwrap(), 1);
        assert_eq!(Outcome::Absent.to_string(), "");
        assert!(Outcome::InUse(1).to_string().contains("stays"));
    }
}
