//! What pods may need of this machine besides a handler.

use std::fs::{self, File};
use std::path::Path;

use berth_core::handlers::NodeFeatures;

/// As many profiles are listed; with more of them nothing is claimed of any.
const PROFILE_LIMIT: usize = 200;
/// How deep profiles are looked for.
const DEPTH: usize = 4;

/// Looks at the machine; `profiles` is where seccomp profiles are.
pub(super) fn of(profiles: &Path) -> NodeFeatures {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    let mut found = Vec::new();
    find(profiles, "", DEPTH, &mut found);
    found.sort();
    NodeFeatures {
        app_armor: enabled.is_ok_and(|text| text.trim() == "Y"),
        kvm: kvm.is_ok(),
        seccomp_profiles: (found.len() <= PROFILE_LIMIT).then_some(found),
    }
}

/// Adds the files below a directory, by the names that pods give them.
fn find(dir: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
    // Without the directory there are none.
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        if found.len() > PROFILE_LIMIT {
            return;
        }
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{prefix}{name}");
        // A link leads where pods' profiles are read, too.
        match fs::metadata(entry.path()) {
            Ok(kind) if kind.is_dir() && depth > 0 => {
                find(&entry.path(), &format!("{name}/"), depth - 1, found);
            }
            Ok(kind) if kind.is_file() => found.push(name),
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_listed_as_pods_name_them() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(&dir.path().join("none")).seccomp_profiles, Some(vec![]));
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["audit.json", "a/b/deep.json"] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        // One that leads to itself ends.
        std::os::unix::fs::symlink(".", dir.path().join("a/self")).unwrap();
        let listed = of(dir.path()).seccomp_profiles.unwrap();
        for name in ["audit.json", "a/b/deep.json"] {
            assert!(listed.iter().any(|known| known == name), "{listed:?}");
        }
        for i in 0..=PROFILE_LIMIT {
            fs::write(dir.path().join(format!("{i}.json")), "{}").unwrap();
        }
        assert_eq!(of(dir.path()).seccomp_profiles, None, "too many to list");
    }
}
