//! The host's mount table, as far as specs depend on it.

use std::path::{Path, PathBuf};

/// One line of a mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostMount {
    pub(crate) point: PathBuf,
    pub(crate) readonly: bool,
    /// Mounts made below it appear in its peers.
    pub(crate) shared: bool,
    /// Mounts made in its master appear below it.
    pub(crate) slave: bool,
    /// The file system's type.
    pub(crate) kind: String,
}

/// This process' mounts, in the order in which they were made.
pub(crate) fn read() -> Vec<HostMount> {
    parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

pub(crate) fn parse(table: &str) -> Vec<HostMount> {
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ').skip(4);
            let point = PathBuf::from(unescape(fields.next()?));
            let readonly = fields.next()?.split(',').any(|option| option == "ro");
            let optional: Vec<&str> = fields.collect();
            let has = |tag: &str| optional.iter().any(|field| field.starts_with(tag));
            Some(HostMount {
                point,
                readonly,
                shared: has("shared:"),
                slave: has("master:"),
                kind: right.split(' ').next().unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

/// The mount that `path` lies on: of the deepest ones the last.
pub(crate) fn holding<'a>(table: &'a [HostMount], path: &Path) -> Option<&'a HostMount> {
    table
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_the_deepest_mounts_holds_a_path() {
        let table = parse(
            "1 0 0:1 / / rw - ext4 /dev/vda rw\n\
             2 1 0:2 / /a\\040b ro,nosuid shared:7 - tmpfs tmpfs rw\n\
             3 1 0:3 / /a\\040b rw master:7 - tmpfs tmpfs rw\n\
             4 1 0:4 / /a\\040b/c rw - tmpfs tmpfs rw",
        );
        assert!(table[1].readonly && table[1].shared && !table[1].slave);
        assert_eq!(holding(&table, Path::new("/a b/x")), Some(&table[2]));
        assert_eq!(holding(&table, Path::new("/a")), Some(&table[0]));
    }
}
