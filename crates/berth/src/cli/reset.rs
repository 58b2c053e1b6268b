//! `berth reset`: remove everything that a data directory stands for.

use std::io::Write as _;

use anyhow::{Context as _, ensure};

use crate::data_dir::{self, DataDir};
use crate::dirs::{self, DirArgs};
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
        let noted = data_dir::uses(held.path())?;
        let is_noted = noted.is_some();
        let noted = noted.unwrap_or_default();
        let mut runs = noted.run_dirs;
        runs.insert(dirs::absolute(&run));
        let traces = Traces {
            data: held.path().to_owned(),
            runs: runs.into_iter().collect(),
            pod_logs: self.dirs.pod_logs_dir(),
            network: held.marker().bridge.clone(),
            bridges: noted.bridges.into_iter().collect(),
        };
        let removed = reset::remove(&traces).await?;
        drop(held);
        writeln!(out, "removed {}: {removed}", dir.display())
            .and_then(|()| {
                if is_noted {
                    Ok(())
                } else {
                    writeln!(
                        out,
                        "not known: whether it was used with another --run-dir or --bridge, since no berth of this version has \
                         noted it; look for them, or run it again with --run-dir"
                    )
                }
            })
            .context("cannot write to standard output")
    }
}
