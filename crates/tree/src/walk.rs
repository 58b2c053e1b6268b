//! What a directory takes on its disk, counted a step at a time.
//!
//! Pods write these directories while they are read, with whatever they like in them. So: no link is followed and no
//! path is built, each directory is opened relative to the one above it; blocks count, not lengths; a file with several
//! names counts once; a mount below is not entered; and a step looks at so many entries only.

use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, Statx, StatxFlags, openat, statx,
};

/// Each level costs a descriptor while it is looked at; no absolute path reaches as deep as this.
const MOST_LEVELS: usize = 2048;
const BLOCK: u64 = 512;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks, not lengths.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// There are directories that could not be looked into: this is not all.
    pub hidden: bool,
}

impl Usage {
    /// Adds another.
    pub fn add(&mut self, other: Usage) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
        self.hidden |= other.hidden;
    }
}

/// A count that is under way.
#[derive(Debug)]
pub struct Walk {
    device: (u32, u32),
    open: Vec<Dir>,
    counted: Usage,
}

impl Walk {
    /// Begins at a directory, itself not counted.
    ///
    /// # Errors
    /// When it cannot be opened, or is none.
    pub fn begin(dir: &Path) -> io::Result<Self> {
        let root = openat(CWD, dir, directory(), Mode::empty())?;
        let stat = statx(&root, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            device: device(&stat),
            open: vec![Dir::new(root)?],
            counted: Usage::default(),
        })
    }

    /// So far.
    #[must_use]
    pub fn counted(&self) -> Usage {
        self.counted
    }

    /// Looks at up to `entries` more; gives how many it were, and whether these were the last.
    pub fn step(&mut self, entries: usize) -> (usize, bool) {
        let mut seen = 0;
        while seen < entries {
            let Some(dir) = self.open.last_mut() else {
                return (seen, true);
            };
            let Some(Ok(entry)) = dir.read() else {
                self.open.pop();
                continue;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            seen += 1;
            self.count(name);
        }
        (seen, self.open.is_empty())
    }

    fn count(&mut self, name: &std::ffi::CStr) {
        let Some(dir) = self.open.last() else { return };
        let Ok(here) = dir.fd() else { return };
        // Gone since it was listed, or nothing that we may see.
        let Ok(stat) = statx(
            here,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        ) else {
            return;
        };
        let is_dir = FileType::from_raw_mode(RawMode::from(stat.stx_mode)) == FileType::Directory;
        let bytes = stat.stx_blocks.saturating_mul(BLOCK);
        // All names of a file are in this directory, since none can be made across mounts: each takes its share.
        let names = if is_dir { 1 } else { stat.stx_nlink.max(1) };
        self.counted.add(Usage {
            bytes: bytes / u64::from(names),
            inodes: 1,
            hidden: false,
        });
        if !is_dir || device(&stat) != self.device {
            return;
        }
        if self.open.len() >= MOST_LEVELS {
            self.counted.hidden = true;
            return;
        }
        match openat(here, name, directory(), Mode::empty()).and_then(Dir::new) {
            Ok(below) => self.open.push(below),
            // It is no directory any more.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            }
            Err(_) => self.counted.hidden = true,
        }
    }
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC
}

fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn whole(dir: &Path) -> Usage {
        let mut walk = Walk::begin(dir).unwrap();
        assert!(walk.step(usize::MAX).1);
        walk.counted()
    }

    fn megabyte(path: &Path) {
        fs::write(path, vec![7; 1 << 20]).unwrap();
        File::open(path).unwrap().sync_all().unwrap();
    }

    #[test]
    fn blocks_count_once_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        megabyte(&d.join("data"));
        let one = whole(d).bytes;
        assert!((1 << 20..2 << 20).contains(&one), "{one}");
        // Lengths, further names and links add nothing.
        let sparse = File::create(d.join("sparse")).unwrap();
        sparse.set_len(100 << 30).unwrap();
        for n in 0..10 {
            fs::hard_link(d.join("data"), d.join(format!("name{n}"))).unwrap();
        }
        let other = tempfile::tempdir().unwrap();
        megabyte(&other.path().join("theirs"));
        symlink(other.path(), d.join("link")).unwrap();
        symlink(".", d.join("loop")).unwrap();
        let all = whole(d);
        assert!(all.bytes < one + (64 << 10), "{all:?}");
        assert_eq!(all.inodes, 14);
        assert!(Walk::begin(&d.join("link")).is_err());
    }

    #[test]
    fn a_step_has_its_bound_and_the_next_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..5 {
            let sub = dir.path().join(format!("d{n}"));
            fs::create_dir(&sub).unwrap();
            (0..20).for_each(|n| drop(File::create(sub.join(n.to_string())).unwrap()));
        }
        let mut walk = Walk::begin(dir.path()).unwrap();
        let mut steps = 0;
        loop {
            steps += 1;
            let (seen, done) = walk.step(10);
            assert!(seen <= 10);
            if done {
                break;
            }
        }
        assert!(steps > 10);
        assert_eq!(walk.counted().inodes, 105);
        assert_eq!(walk.counted().bytes, whole(dir.path()).bytes);
    }

    #[test]
    fn what_is_nested_too_deep_is_known_to_be_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let mut here = openat(CWD, dir.path(), directory(), Mode::empty()).unwrap();
        for _ in 0..=MOST_LEVELS {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = openat(&here, "d", directory(), Mode::empty()).unwrap();
        }
        let found = whole(dir.path());
        assert!(found.hidden, "{found:?}");
        // What std cannot remove by path goes level by level.
        remove(dir.path());
    }

    fn remove(dir: &Path) {
        let status = std::process::Command::new("rm")
            .arg("-rf")
            .arg(dir)
            .status();
        assert!(status.unwrap().success());
    }
}
