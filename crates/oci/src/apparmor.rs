//! AppArmor: berth's default profile, as text for `apparmor_parser`.

/// The name of [`DEFAULT_PROFILE`] in the kernel.
pub const DEFAULT_NAME: &str = "berth-default";

/// What a container may do that names no profile of its own: everything but to change the kernel that it shares with
/// others, to mount, and to look into processes outside.
///
/// It includes no other files, so it loads with the parser alone.
pub const DEFAULT_PROFILE: &str = include_str!("apparmor/default.profile");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_has_the_name_and_needs_no_other_file() {
        assert!(DEFAULT_PROFILE.contains(&format!("\nprofile {DEFAULT_NAME} ")));
        let mut lines = DEFAULT_PROFILE.lines().map(str::trim_start);
        assert!(!lines.any(|line| line.starts_with("#include") || line.starts_with("include")));
    }
}
