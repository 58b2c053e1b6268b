//! What other users of the machine see of this process's command line.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, ensure};

/// Where the command line begins in memory, among the fields of `/proc/self/stat` behind the program's name.
const ARG_START: usize = 45;

/// Overwrites an argument of this process, so that `ps` doesn't show it any longer. What was parsed of it is a copy.
///
/// # Errors
/// When the system doesn't let that happen, or there is no such argument.
pub(crate) fn hide(argument: &str) -> anyhow::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let start = arg_start(&stat).context("/proc/self/stat has no arg_start")?;
    let line = fs::read("/proc/self/cmdline").context("cannot read /proc/self/cmdline")?;
    let mut found = false;
    let memory = OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .context("cannot open /proc/self/mem")?;
    for at in places(&line, argument.as_bytes()) {
        let offset = start.checked_add(u64::try_from(at)?);
        let offset = offset.context("an address past the end of memory")?;
        memory
            .write_all_at("x".repeat(argument.len()).as_bytes(), offset)
            .context("cannot write to /proc/self/mem")?;
        found = true;
    }
    ensure!(found, "it is not on the command line");
    Ok(())
}

fn arg_start(stat: &str) -> Option<u64> {
    // The name, in parentheses, may have spaces in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let start: u64 = rest.split_whitespace().nth(ARG_START)?.parse().ok()?;
    (start > 0).then_some(start)
}

fn places(line: &[u8], argument: &[u8]) -> Vec<usize> {
    if argument.is_empty() {
        return Vec::new();
    }
    let windows = line.windows(argument.len()).enumerate();
    windows
        .filter(|(_, window)| *window == argument)
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = format!("1 (a) b) {}", fields.join(" "));
        assert_eq!(arg_start(&stat), Some(48));
        assert_eq!(arg_start("1 (x) S 1"), None);
    }

    #[test]
    fn an_argument_is_found_wherever_it_stands() {
        let line = b"berth\0node\0--token=a.b\0--x\0a.b\0";
        assert_eq!(places(line, b"a.b"), [19, 27]);
        assert_eq!(places(line, b""), [0usize; 0]);
        assert_eq!(places(line, b"c.d"), [0usize; 0]);
    }
}
