//! `berth cri` next to containerd, both driven by the same CRI client, in turns, so that noise of the machine hits
//! both. `scripts/bench-cri` starts the two and calls this; each figure is printed with its goal.
//!
//! `side_by_side --berth SOCKET --state DIR --containerd SOCKET --image NAME [--cgroup NAME]
//! [--rounds N] [--pods N] [SECTION...]`
//!
//! Sections: calls, exec, runsc, burst (with the memory of shims and daemons). All when none is named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may end on an error"
)]

mod bare;
mod burst;
mod calls;
mod daemon;
mod memory;
mod report;
mod runsc;

use std::path::PathBuf;

use daemon::Daemon;

/// What the command line says.
pub(crate) struct Options {
    berth: PathBuf,
    containerd: PathBuf,
    /// berth's run directory for its runtimes and bundles.
    pub(crate) state: PathBuf,
    pub(crate) image: String,
    /// All pods' cgroups lie below it.
    pub(crate) cgroup: String,
    /// How often each thing is measured.
    pub(crate) rounds: usize,
    /// How many pods start at once.
    pub(crate) pods: usize,
    sections: Vec<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self {
            berth: PathBuf::new(),
            containerd: PathBuf::new(),
            state: PathBuf::new(),
            image: String::new(),
            cgroup: "/berth-bench".to_owned(),
            rounds: 15,
            pods: 50,
            sections: Vec::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().expect("the flag has a value");
            match word.as_str() {
                "--berth" => options.berth = value().into(),
                "--containerd" => options.containerd = value().into(),
                "--state" => options.state = value().into(),
                "--image" => options.image = value(),
                "--cgroup" => options.cgroup = format!("/{}", value()),
                "--rounds" => options.rounds = value().parse().expect("a number"),
                "--pods" => options.pods = value().parse().expect("a number"),
                // What cargo bench says to every benchmark.
                "--bench" => {}
                section => options.sections.push(section.to_owned()),
            }
        }
        options
    }

    fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|s| s == section)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let mut berth = Daemon::connect("berth", &options.berth, &options).await;
    let mut containerd = Daemon::connect("containerd", &options.containerd, &options).await;
    if options.wants("calls") {
        calls::lives(&options, &mut berth, &mut containerd).await;
    }
    if options.wants("exec") {
        calls::execs(&options, &mut berth, &mut containerd).await;
    }
    if options.wants("runsc") {
        runsc::measure(&options, &mut berth).await;
    }
    if options.wants("burst") {
        burst::measure(&options, &mut berth, &mut containerd).await;
    }
}
