//! An etcd of a test's own, which can be killed and started again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// One etcd with its data in a directory; it ends with the test.
#[derive(Debug)]
pub struct EtcdServer {
    child: Option<Child>,
    dir: PathBuf,
    arguments: Vec<String>,
    /// Its client URL.
    pub url: String,
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A port that nobody uses at the moment.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

impl EtcdServer {
    /// Starts one.
    ///
    /// # Panics
    /// When etcd is not installed.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further arguments, and waits until it listens.
    ///
    /// # Panics
    /// When etcd is not installed, or ends at once however often it is tried.
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        let scheme = if arguments.iter().any(|a| a.starts_with("--cert-file")) {
            "https"
        } else {
            "http"
        };
        // Another test may take a port between its choice and etcd's start; etcd ends then.
        for _ in 0..5 {
            let (client, peer) = (free_port(), free_port());
            let cluster = format!("t=http://127.0.0.1:{peer}");
            let ports = (client, peer);
            let mut server = Self::start_member("t", scheme, ports, &cluster, arguments);
            if server.listens(client) {
                return server;
            }
        }
        panic!("etcd does not start with {arguments:?}");
    }

    /// Waits until it takes connections; false when it ends before that.
    fn listens(&mut self, client: u16) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
            if self.child.as_mut().is_none_or(ended) {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", client)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Starts the members of one cluster.
    ///
    /// # Panics
    /// When etcd is not installed.
    #[must_use]
    pub fn start_members(count: usize) -> Vec<Self> {
        let members: Vec<(String, (u16, u16))> = (0..count)
            .map(|n| (format!("t{n}"), (free_port(), free_port())))
            .collect();
        let cluster: Vec<String> = members
            .iter()
            .map(|(name, (_, peer))| format!("{name}=http://127.0.0.1:{peer}"))
            .collect();
        let cluster = cluster.join(",");
        members
            .iter()
            .map(|(name, ports)| Self::start_member(name, "http", *ports, &cluster, &[]))
            .collect()
    }

    fn start_member(
        name: &str,
        scheme: &str,
        (client, peer): (u16, u16),
        cluster: &str,
        arguments: &[&str],
    ) -> Self {
        let url = format!("{scheme}://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let directory = format!("berth-etcd-{}-{client}", std::process::id());
        let dir = std::env::temp_dir().join(directory);
        let _ = fs::remove_dir_all(&dir);
        let mut all: Vec<String> = ["--log-level=error", "--logger=zap", "--unsafe-no-fsync"]
            .map(str::to_owned)
            .into();
        all.extend([
            format!("--name={name}"),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={cluster}"),
            format!("--data-dir={}", dir.display()),
        ]);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut server = Self {
            child: None,
            dir,
            arguments: all,
            url,
        };
        server.start_again();
        server
    }

    /// Starts it again with the data that it has.
    ///
    /// # Panics
    /// When etcd is not installed.
    pub fn start_again(&mut self) {
        self.kill();
        let child = Command::new("etcd")
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed (Debian: etcd-server)");
        self.child = Some(child);
    }

    /// Ends it as if the machine had lost power.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it as it is, or lets it go on.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn stop(&self, stop: bool) {
        let pid = self.pid().expect("it runs").to_string();
        let signal = if stop { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill").success());
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Copies its data to a new directory; it should not run.
    ///
    /// # Panics
    /// When that fails.
    pub fn save(&self, to: &Path) {
        copy_dir(&self.dir, to);
    }

    /// Ends it, and puts a copy in place of its data.
    ///
    /// # Panics
    /// When that fails.
    pub fn put_back(&mut self, from: &Path) {
        self.lose_data();
        copy_dir(from, &self.dir);
    }

    /// Where its data is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes all its data; it must not run.
    ///
    /// # Panics
    /// When that fails.
    pub fn lose_data(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.dir).expect("its data goes");
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory to copy") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file to copy");
        }
    }
}
