//! Where events are written to: a file that is rotated by its size, or the standard output.
//!
//! A rotated file is named as the stock server's are (`audit-2026-01-02T15-04-05.000.log` beside `audit.log`). When a write
//! fails half-way, on a full disk say, the file is cut back to what was whole, so that no line is ever glued to another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::AuditConfig;

/// Megabytes of a file when the flag is 0.
const DEFAULT_MEGABYTES: u64 = 100;
/// The time in the name of a rotated file.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S.%3f";

/// Takes whole lines.
pub(super) trait Log: Send {
    /// Writes lines.
    ///
    /// # Errors
    /// When not all of them were written.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
}

/// The standard output.
pub(super) struct Stdout;

impl Log for Stdout {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(lines)?;
        out.flush()
    }
}

/// A file.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Whether the last line may be incomplete.
    broken: bool,
    max_size: u64,
    max_backups: u32,
    max_age_days: u32,
}

impl LogFile {
    /// Opens the file, and makes it and its directory when they are not there.
    pub(super) fn open(path: &Path, config: &AuditConfig) -> io::Result<Self> {
        let path = path.to_owned();
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
        }
        let (file, size) = append(&path)?;
        let megabytes = match u64::from(config.max_size_megabytes) {
            0 => DEFAULT_MEGABYTES,
            megabytes => megabytes,
        };
        Ok(Self {
            path,
            file,
            size,
            broken: false,
            max_size: megabytes << 20,
            max_backups: config.max_backups,
            max_age_days: config.max_age_days,
        })
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let backup = self.path.with_file_name(self.backup_name(now));
        fs::rename(&self.path, &backup)?;
        let (file, size) = append(&self.path)?;
        self.file = file;
        self.size = size;
        self.broken = false;
        self.remove_old(now);
        Ok(())
    }

    /// The name of the file, as what stands before and after the time in the names of rotated ones.
    fn around(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let stem = part(self.path.file_stem());
        let extension = part(self.path.extension());
        let after = if extension.is_empty() {
            extension
        } else {
            format!(".{extension}")
        };
        (format!("{stem}-"), after)
    }

    fn backup_name(&self, now: Timestamp) -> String {
        let (before, after) = self.around();
        format!("{before}{}{after}", now.strftime(STAMP))
    }

    fn remove_old(&self, now: Timestamp) {
        if let Err(error) = self.try_remove_old(now) {
            tracing::warn!(path = %self.path.display(), %error, "old audit logs could not be removed");
        }
    }

    fn try_remove_old(&self, now: Timestamp) -> io::Result<()> {
        if self.max_backups == 0 && self.max_age_days == 0 {
            return Ok(());
        }
        let (before, after) = self.around();
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut backups = Vec::new();
        for entry in fs::read_dir(dir.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamp = name
                .strip_prefix(&before)
                .and_then(|rest| rest.strip_suffix(&after));
            // Only what this wrote itself.
            let time = stamp.and_then(|stamp| DateTime::strptime(STAMP, stamp).ok());
            if let Some(time) = time {
                backups.push((time, entry.path()));
            }
        }
        backups.sort_by_key(|backup| std::cmp::Reverse(backup.0));
        let oldest = SignedDuration::from_hours(24 * i64::from(self.max_age_days));
        let oldest = now.checked_sub(oldest).unwrap_or(Timestamp::MIN);
        let oldest = oldest.to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let keep = usize::try_from(self.max_backups).unwrap_or(usize::MAX);
        for (at, (time, path)) in backups.iter().enumerate() {
            let too_many = self.max_backups > 0 && at >= keep;
            let too_old = self.max_age_days > 0 && *time < oldest;
            if too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Log for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.size > 0
            && self.size.saturating_add(length) > self.max_size
            && let Err(error) = self.rotate(Timestamp::now())
        {
            // It goes on in the same file: a log that grows is better than none.
            tracing::error!(path = %self.path.display(), %error, "the audit log could not be rotated");
        }
        if self.broken {
            self.file.write_all(b"\n")?;
            self.broken = false;
            self.size += 1;
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.size = self.size.saturating_add(length);
                Ok(())
            }
            Err(error) => {
                self.broken = self.file.set_len(self.size).is_err();
                Err(error)
            }
        }
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, backups: u32) -> LogFile {
        let path = dir.join("logs/audit.log");
        let mut config = AuditConfig::new("", &path);
        config.max_backups = backups;
        let mut log = LogFile::open(&path, &config).unwrap();
        log.max_size = 10;
        log
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join("logs")).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_rotated_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 2);
        fs::write(dir.path().join("logs/audit-notes.log"), "mine").unwrap();
        for n in 0..5 {
            log.write(format!("line {n}\n").as_bytes()).unwrap();
            // Names have milliseconds.
            let before = Timestamp::now();
            while Timestamp::now().as_millisecond() == before.as_millisecond() {
                std::hint::spin_loop();
            }
        }
        let names = names(dir.path());
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&"audit-notes.log".to_owned()));
        let text = |name: &str| fs::read_to_string(dir.path().join("logs").join(name)).unwrap();
        assert_eq!(text("audit.log"), "line 4\n");
        assert_eq!(
            (text(&names[0]), text(&names[1])),
            ("line 2\n".to_owned(), "line 3\n".to_owned())
        );
    }

    #[test]
    fn what_is_older_than_the_age_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 0);
        log.max_age_days = 1;
        let now = Timestamp::now();
        for hours in [1, 25] {
            let name = log.backup_name(now - SignedDuration::from_hours(hours));
            fs::write(dir.path().join("logs").join(name), "old").unwrap();
        }
        log.write(b"12345678\n").unwrap();
        log.write(b"12345678\n").unwrap();
        assert_eq!(names(dir.path()).len(), 3);
    }

    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let _log = log(dir.path(), 0);
        let mode = |path: &str| {
            fs::metadata(dir.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode("logs"), mode("logs/audit.log")), (0o700, 0o600));
    }
}
