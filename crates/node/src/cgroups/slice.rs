//! A pod's slice, where systemd makes the cgroups: it is asked through `busctl`, which comes with it.

use std::io;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::Limits;

/// What systemd counts CPU quotas against.
const SECOND_US: i64 = 1_000_000;
const PERIOD_US: i64 = 100_000;

/// Why a slice is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SliceError {
    #[error("cannot run busctl")]
    Run(#[source] io::Error),
    #[error("systemd refused {method} of {slice}: {said}")]
    Refused {
        method: &'static str,
        slice: String,
        said: String,
    },
}

/// Starts a slice with its limits, or changes those of one that runs.
pub(super) async fn ensure(slice: &str, unified: bool, limits: &Limits) -> Result<(), SliceError> {
    let properties = properties(unified, limits);
    let mut start = words(&["ssa(sv)a(sa(sv))", slice, "replace"]);
    start.extend(properties.iter().cloned());
    start.push("0".to_owned());
    match call("StartTransientUnit", slice, &start).await {
        Err(SliceError::Refused { said, .. }) if said.contains("already") => {
            let mut set = words(&["sba(sv)", slice, "true"]);
            set.extend(properties);
            call("SetUnitProperties", slice, &set).await
        }
        other => other,
    }
}

/// Stops a slice, and with it removes its cgroup; none is as good.
pub(super) async fn stop(slice: &str) -> Result<(), SliceError> {
    match call("StopUnit", slice, &words(&["ss", slice, "replace"])).await {
        Err(SliceError::Refused { said, .. }) if said.contains("not loaded") => Ok(()),
        other => other,
    }
}

/// The limits as busctl wants an `a(sv)`: how many, then name, type and value of each.
fn properties(unified: bool, limits: &Limits) -> Vec<String> {
    let (weight, memory) = if unified {
        (("CPUWeight", limits.weight), "MemoryMax")
    } else {
        (("CPUShares", limits.shares), "MemoryLimit")
    };
    let mut all = vec![(weight.0, "t", weight.1.to_string())];
    if let Some(quota) = limits.quota {
        let per_second = quota.saturating_mul(SECOND_US / PERIOD_US);
        all.push(("CPUQuotaPerSecUSec", "t", per_second.to_string()));
    }
    if let Some(bytes) = limits.memory {
        all.push((memory, "t", bytes.to_string()));
    }
    if let Some(bytes) = limits.swap.filter(|_| unified) {
        all.push(("MemorySwapMax", "t", bytes.to_string()));
    }
    // So that each of the pod's cgroups has the controllers.
    for accounting in ["CPUAccounting", "MemoryAccounting", "TasksAccounting"] {
        all.push((accounting, "b", "true".to_owned()));
    }
    let mut out = vec![all.len().to_string()];
    for (name, kind, value) in all {
        out.extend([name.to_owned(), kind.to_owned(), value]);
    }
    out
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

async fn call(method: &'static str, slice: &str, arguments: &[String]) -> Result<(), SliceError> {
    let Output { status, stderr, .. } = Command::new("busctl")
        .args(["--system", "--quiet", "call", "org.freedesktop.systemd1"])
        .args([
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        ])
        .arg(method)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(SliceError::Run)?;
    if status.success() {
        return Ok(());
    }
    Err(SliceError::Refused {
        method,
        slice: slice.to_owned(),
        said: String::from_utf8_lossy(&stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_properties_of_the_version_of_cgroups() {
        let limits = Limits {
            shares: 1280,
            weight: 49,
            quota: Some(125_000),
            memory: Some(83_886_080),
            swap: None,
            huge_pages: Vec::new(),
        };
        assert_eq!(
            properties(true, &limits).join(" "),
            "6 CPUWeight t 49 CPUQuotaPerSecUSec t 1250000 MemoryMax t 83886080 \
             CPUAccounting b true MemoryAccounting b true TasksAccounting b true"
        );
        let swapless = Limits {
            swap: Some(0),
            ..limits.clone()
        };
        let all = properties(true, &swapless).join(" ");
        assert!(
            all.starts_with("7 ") && all.contains(" MemorySwapMax t 0 "),
            "{all}"
        );
        assert!(!properties(false, &swapless).join(" ").contains("Swap"));
        let best_effort = Limits {
            quota: None,
            memory: None,
            ..limits
        };
        assert_eq!(
            properties(false, &best_effort).join(" "),
            "4 CPUShares t 1280 CPUAccounting b true MemoryAccounting b true TasksAccounting b true"
        );
    }
}
