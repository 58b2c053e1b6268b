//! The program of a process: where it is, its words and its environment.

use std::ffi::{CString, NulError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;

/// Where programs are looked for when the process has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be executed.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: CString,
    words: Vec<CString>,
    environment: Vec<CString>,
}

/// Finds a process' program. Call it inside the container.
pub(super) fn find(process: &Process) -> Result<Program, String> {
    let words = process.args().as_deref().unwrap_or_default();
    let name = words.first().map(String::as_str).unwrap_or_default();
    let environment = process.env().as_deref().unwrap_or_default();
    let variable = |name: &str| {
        environment
            .iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    };
    let path = locate(name, variable("PATH").unwrap_or(PATH), process.cwd())?;
    let mut environment = environment.to_vec();
    if variable("HOME").is_none_or(str::is_empty) {
        let passwd = read_passwd(Path::new("/etc/passwd"));
        let home = home(&passwd, process.user().uid()).unwrap_or("/");
        environment.retain(|entry| !entry.starts_with("HOME="));
        environment.push(format!("HOME={home}"));
    }
    let strings = |texts: &[String]| -> Result<Vec<CString>, NulError> {
        texts
            .iter()
            .map(|text| CString::new(text.as_str()))
            .collect()
    };
    let nul = |_: NulError| format!("exec {name:?}: an argument or a variable holds a NUL byte");
    Ok(Program {
        path: CString::new(path.into_os_string().into_encoded_bytes()).map_err(nul)?,
        words: strings(words).map_err(nul)?,
        environment: strings(&environment).map_err(nul)?,
    })
}

impl Program {
    /// Becomes it; only a failure returns.
    pub(super) fn execute(&self) -> std::io::Error {
        match nix::unistd::execve(&self.path, &self.words, &self.environment) {
            Ok(never) => match never {},
            Err(error) => error.into(),
        }
    }
}

/// The file of a program's name, as a shell would find it.
fn locate(name: &str, path: &str, cwd: &Path) -> Result<PathBuf, String> {
    let executable = |path: &Path| {
        let found = path.metadata()?;
        if found.is_dir() {
            return Err(std::io::Error::from_raw_os_error(libc::EISDIR));
        }
        if found.permissions().mode() & 0o111 == 0 {
            return Err(std::io::Error::from_raw_os_error(libc::EACCES));
        }
        Ok(())
    };
    if name.contains('/') {
        let file = cwd.join(name);
        return executable(&file).map(|()| file.clone()).map_err(|error| {
            format!("exec: {name:?}: stat {}: {}", file.display(), plain(&error))
        });
    }
    path.split(':')
        .map(|folder| if folder.is_empty() { "." } else { folder })
        .map(|folder| cwd.join(folder).join(name))
        .find(|file| !name.is_empty() && executable(file).is_ok())
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}

/// An error of the system's in the words that C and Go use for it, which callers look for.
fn plain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// As much of a passwd file as an image may have.
const PASSWD_BYTES: u64 = 1 << 20;

/// What the container has in its passwd file; nothing where that is no regular file.
///
/// The image, or what has run in the container before, decides what is there: a FIFO would hold the start up for ever, and
/// a link to /dev/zero would fill the memory.
fn read_passwd(path: &Path) -> String {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let regular = |file: &std::fs::File| file.metadata().is_ok_and(|found| found.is_file());
    let mut bytes = Vec::new();
    if let Ok(file) = opened
        && regular(&file)
    {
        // What could be read counts.
        let _ = file.take(PASSWD_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A user's home in the text of /etc/passwd.
fn home(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let found = fields.next()?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (found == uid && !home.is_empty()).then_some(home)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_would() {
        let root = Path::new("/");
        assert_eq!(locate("sh", "/nowhere:/bin", root), Ok("/bin/sh".into()));
        assert_eq!(
            locate("./sh", "", Path::new("/bin")),
            Ok("/bin/./sh".into())
        );
        for (name, message) in [
            ("berth-no-such", "executable file not found in $PATH"),
            ("", "executable file not found in $PATH"),
            ("/no/such", "stat /no/such: no such file or directory"),
            ("/etc/passwd", "permission denied"),
            ("/etc", "directory"),
        ] {
            let error = locate(name, "/bin", root).expect_err(name);
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_passwd_that_is_no_file_is_none() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("passwd");
        assert_eq!(read_passwd(&path), "");
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&path, mode).expect("fifo");
        assert_eq!(read_passwd(&path), "");
        std::fs::remove_file(&path).expect("remove");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("link");
        assert_eq!(read_passwd(&path), "");
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "root:x:0:0::/root:").expect("write");
        assert_eq!(read_passwd(&path), "root:x:0:0::/root:");
        let file = std::fs::File::options().write(true).open(&path);
        file.expect("open").set_len(20 << 30).expect("grow");
        assert_eq!(read_passwd(&path).len(), 1 << 20);
    }

    #[test]
    fn homes_come_from_passwd() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:7:7::/home/u:/bin/sh\nn:x:8:8:::\n";
        assert_eq!(home(passwd, 0), Some("/root"));
        assert_eq!(home(passwd, 7), Some("/home/u"));
        assert_eq!(home(passwd, 8), None);
        assert_eq!(home(passwd, 9), None);
    }
}
