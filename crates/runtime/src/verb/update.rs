//! `update`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use crate::cgroup;
use crate::cli::Global;
use crate::devices::Devices;
use crate::error::Error;
use crate::record::Place;

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// File with the spec's linux.resources as JSON, or - for standard input; the other flags have no effect then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of the CPU time
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// Microseconds of CPU time in a period
    #[arg(long, value_name = "N")]
    cpu_quota: Option<i64>,
    /// Microseconds of a period
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// CPUs
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Bytes of memory
    #[arg(long, value_name = "N")]
    memory: Option<i64>,
    /// Bytes of memory with swap
    #[arg(long, value_name = "N")]
    memory_swap: Option<i64>,
    /// Bytes of memory that are left to it longest
    #[arg(long, value_name = "N")]
    memory_reservation: Option<i64>,
    /// Processes
    #[arg(long, value_name = "N")]
    pids_limit: Option<i64>,
    /// The container's id
    id: String,
}

pub(crate) fn update(global: &Global, args: &Update) -> Result<(), Error> {
    let (container, _) = Place::new(global, &args.id)?.load()?;
    let resources = match args.resources.as_deref() {
        Some(path) => read(path)?,
        None => parse(Path::new("the flags"), &described(args).to_string())?,
    };
    // Unlike limits, rules that are not told stay as they are.
    let devices = if cgroup::is_unified() && resources.devices().is_some() {
        let devices = Devices::prepare(Some(&resources)).map_err(Error::devices(&args.id))?;
        Some((devices, cgroup::unified(&container)?))
    } else {
        None
    };
    cgroup::limit(&args.id, &cgroup::manager(&container)?, &resources)?;
    devices.map_or(Ok(()), |(devices, cgroup)| {
        devices.enforce(&cgroup).map_err(Error::devices(&args.id))
    })
}

fn read(path: &Path) -> Result<LinuxResources, Error> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    parse(path, &text.map_err(Error::file("read", path))?)
}

fn parse(path: &Path, text: &str) -> Result<LinuxResources, Error> {
    serde_json::from_str(text).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}

fn described(args: &Update) -> Value {
    let mut out = json!({});
    let mut put = |group: &str, key: &str, value: Value| {
        if !value.is_null() {
            out[group][key] = value;
        }
    };
    put("cpu", "shares", json!(args.cpu_share));
    put("cpu", "quota", json!(args.cpu_quota));
    put("cpu", "period", json!(args.cpu_period));
    put("cpu", "cpus", json!(args.cpuset_cpus));
    put("cpu", "mems", json!(args.cpuset_mems));
    put("memory", "limit", json!(args.memory));
    put("memory", "swap", json!(args.memory_swap));
    put("memory", "reservation", json!(args.memory_reservation));
    put("pids", "limit", json!(args.pids_limit));
    out
}
