//! `berth reset`: remove everything that a data directory stands for.

use std::io::Write as _;

use anyhow::{Context as _, ensure};

use crate::data_dir::{self, DataDir};
use crate::dirs::DirArgs;
use crate::reset::{self, Traces};

#[derive(Debug, clap::Args)]
pub(super) struct ResetArgs {
    #[command(flatten)]
    dirs: DirArgs,
    /// Do it: pods are killed, and images, objects and certificates deleted
    #[arg(long)]
    yes: bool,
}

impl ResetArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        super::up::require_root("berth reset")?;
        let (dir, run) = (&self.dirs.data_dir, self.dirs.run_dir());
        let mut out = std::io::stdout().lock();
        if !dir.exists() && !run.exists() {
            return writeln!(out, "{} does not exist: nothing to remove", dir.display())
                .context("cannot write to standard output");
        }
        let marked = !dir.exists() || data_dir::read_marker(dir)?.is_some();
        ensure!(
            marked,
            "{} is not a berth data directory (no berth.json): nothing was touched",
            dir.display()
        );
        ensure!(
            self.yes,
            "this kills every pod of {} and deletes its images, objects and certificates; \
             add --yes to go on",
            dir.display()
        );
        let (bridge, pod_cidr) = self.dirs.network();
        let held = DataDir::open(dir, || data_dir::marker(bridge, pod_cidr))?;
        let traces = Traces {
            data: held.path().to_owned(),
            run,
            pod_logs: self.dirs.pod_logs_dir(),
            bridge: held.marker().bridge.clone(),
        };
        let removed = reset::remove(&traces).await?;
        drop(held);
        writeln!(out, "removed {}: {removed}", dir.display())
            .context("cannot write to standard output")
    }
}
