//! `events`: a container's figures in runc's form.

use std::time::Duration;

use libcgroups::common::CgroupManager as _;
use libcgroups::stats::{MemoryData, Stats};
use libcontainer::container::ContainerStatus;
use serde_json::{Value, json};

use crate::cgroup;
use crate::cli::Global;
use crate::error::Error;
use crate::record::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Once, now
    #[arg(long)]
    stats: bool,
    /// Else every so often
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    interval: String,
    /// The container's id
    id: String,
}

pub(crate) fn events(global: &Global, args: &Events) -> Result<(), Error> {
    let place = Place::new(global, &args.id)?;
    let seconds = args.interval.trim_end_matches('s').parse::<u64>();
    let interval = Duration::from_secs(seconds.unwrap_or(5).max(1));
    loop {
        let (container, _) = place.load()?;
        if container.status() == ContainerStatus::Stopped {
            return if args.stats {
                Err(Error::NotRunning(args.id.clone()))
            } else {
                Ok(())
            };
        }
        let stats = cgroup::manager(&container)?
            .stats()
            .map_err(|error| Error::Cgroup {
                id: args.id.clone(),
                message: error.to_string(),
            })?;
        println!("{}", view(&args.id, &stats));
        if args.stats {
            return Ok(());
        }
        std::thread::sleep(interval);
    }
}

fn view(id: &str, stats: &Stats) -> Value {
    let memory = |data: &MemoryData| json!({ "usage": data.usage, "max": data.max_usage, "limit": data.limit, "failcnt": data.fail_count });
    let (usage, throttling) = (&stats.cpu.usage, &stats.cpu.throttling);
    json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": {
                "usage": {
                    "total": usage.usage_total,
                    "percpu": usage.per_core_usage_total,
                    "kernel": usage.usage_kernel,
                    "user": usage.usage_user,
                },
                "throttling": {
                    "periods": throttling.periods,
                    "throttledPeriods": throttling.throttled_periods,
                    "throttledTime": throttling.throttled_time,
                },
            },
            "memory": {
                "cache": stats.memory.cache,
                "usage": memory(&stats.memory.memory),
                "swap": memory(&stats.memory.memswap),
                "kernel": memory(&stats.memory.kernel),
                "kernelTCP": memory(&stats.memory.kernel_tcp),
                "raw": stats.memory.stats,
            },
            "pids": { "current": stats.pids.current, "limit": stats.pids.limit },
        },
    })
}
