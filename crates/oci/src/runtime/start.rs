//! Why the kernel doesn't start a program, in words that say what to do.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A program that the kernel doesn't start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It was built for another machine.
    #[error("{} is a program for {theirs}, and this machine is {ours}; install the one for {ours}", path.display())]
    Architecture {
        /// The program.
        path: PathBuf,
        /// What it was built for.
        theirs: &'static str,
        /// What this machine is.
        ours: &'static str,
    },
    /// It is no program at all.
    #[error("{} is no program that this kernel can run", path.display())]
    NoProgram {
        /// The file.
        path: PathBuf,
    },
    /// What it is to be run by isn't there: the loader of dynamically linked programs, or a script's interpreter.
    #[error("{} needs {interpreter}, which does not exist; install the package that has it", path.display())]
    Interpreter {
        /// The program.
        path: PathBuf,
        /// What is missing.
        interpreter: String,
    },
}

/// Machines by their number in an ELF header.
const MACHINES: [(u16, &str); 8] = [
    (3, "x86"),
    (21, "ppc64le"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// As much of a program as its headers need.
const HEAD: u64 = 4096;

impl StartError {
    /// What the kernel meant with its refusal to start `path`; `None` where its own words say it.
    #[must_use]
    pub fn of(path: &Path, error: &io::Error) -> Option<Self> {
        let head = head(path);
        match error.kind() {
            // The file is there, or nobody would have tried it.
            io::ErrorKind::NotFound if path.is_file() => Some(Self::Interpreter {
                path: path.to_owned(),
                interpreter: interpreter(&head)?,
            }),
            _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => Some(no_program(path, &head)),
            _ => None,
        }
    }
}

fn no_program(path: &Path, head: &[u8]) -> StartError {
    let number = |at: usize| {
        let bytes = head.get(at..at + 2)?;
        let little = head.get(5) != Some(&2);
        let bytes = [bytes[0], bytes[1]];
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let ours = std::env::consts::ARCH;
    let theirs = head
        .starts_with(b"\x7fELF")
        .then(|| number(18))
        .flatten()
        .and_then(|machine| MACHINES.iter().find(|(known, _)| *known == machine))
        .map(|(_, name)| *name)
        .filter(|name| *name != ours);
    match theirs {
        Some(theirs) => StartError::Architecture {
            path: path.to_owned(),
            theirs,
            ours,
        },
        None => StartError::NoProgram {
            path: path.to_owned(),
        },
    }
}

/// What a script's first line names, or a 64-bit program's `PT_INTERP`.
fn interpreter(head: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| {
        let end = bytes
            .iter()
            .position(|byte| matches!(byte, 0 | b'\n' | b' '));
        let bytes = bytes.get(..end.unwrap_or(bytes.len()))?;
        let text = std::str::from_utf8(bytes).ok()?.trim();
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    if let Some(line) = head.strip_prefix(b"#!") {
        return text(line.trim_ascii_start());
    }
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let word = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        let mut wide = [0; 8];
        wide.get_mut(..size)?.copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(wide)).ok()
    };
    let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
    (0..count).find_map(|index| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        // PT_INTERP
        if word(at, 4)? != 3 {
            return None;
        }
        let (from, length) = (word(at.checked_add(8)?, 8)?, word(at.checked_add(32)?, 8)?);
        text(head.get(from..from.checked_add(length)?)?)
    })
}

fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    // What can't be read has no header to show.
    let _ = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    head
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn refused(content: &[u8]) -> Option<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("runtime");
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let error = Command::new(&path).spawn().err()?;
        let told = StartError::of(&path, &error)?.to_string();
        Some(told.replace(&dir.path().display().to_string(), "DIR"))
    }

    /// A header of a 64-bit program for a machine, with one program header that names an interpreter.
    fn elf(machine: u16, interpreter: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(2u16.to_le_bytes());
        file.extend(machine.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0x40_0078u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        file.extend(3u32.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        for word in [120, 0, 0] {
            file.extend(u64::to_le_bytes(word));
        }
        let length = u64::try_from(interpreter.len()).expect("a length");
        for word in [length, length, 1] {
            file.extend(u64::to_le_bytes(word));
        }
        file.extend(interpreter);
        file
    }

    #[test]
    fn another_machines_program_is_named_as_such() {
        let ours = std::env::consts::ARCH;
        let (number, theirs) = if ours == "aarch64" {
            (62, "x86_64")
        } else {
            (183, "aarch64")
        };
        let told = refused(&elf(number, b"/lib/ld.so\0"));
        let wanted = format!(
            "DIR/runtime is a program for {theirs}, and this machine is {ours}; install the one for {ours}"
        );
        assert_eq!(told, Some(wanted));
        let none = "DIR/runtime is no program that this kernel can run".to_owned();
        assert_eq!(refused(b"\0\0\0\0"), Some(none.clone()));
        assert_eq!(refused(b"\x7fELF"), Some(none));
    }

    #[test]
    fn what_is_missing_to_run_a_program_is_named() {
        let needs = |what: &str| {
            Some(format!(
                "DIR/runtime needs {what}, which does not exist; install the package that has it"
            ))
        };
        assert_eq!(refused(b"#!/no/such/shell -e\n"), needs("/no/such/shell"));
        let machine = if std::env::consts::ARCH == "aarch64" {
            183
        } else {
            62
        };
        let told = refused(&elf(machine, b"/no/such/ld.so.2\0"));
        assert_eq!(told, needs("/no/such/ld.so.2"));
    }

    #[test]
    fn what_the_kernel_says_itself_is_left_as_it_is() {
        let denied = io::Error::from_raw_os_error(nix::libc::EACCES);
        assert_eq!(StartError::of(Path::new("/bin/true"), &denied), None);
        let missing = io::Error::from_raw_os_error(nix::libc::ENOENT);
        assert_eq!(StartError::of(Path::new("/no/such/file"), &missing), None);
    }
}
