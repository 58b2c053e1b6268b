//! Huge pages: how many there are of each size, and what pods ask for of them.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;

/// Where the kernel shows them.
const POOLS: &str = "/sys/kernel/mm/hugepages";
const PREFIX: &str = "hugepages-";

/// The pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pool {
    /// Of one page.
    pub(crate) bytes: i64,
    /// Those that the machine has set aside.
    pub(crate) count: i64,
}

impl Pool {
    /// The resource's name, as `hugepages-2Mi`.
    pub(crate) fn resource(self) -> String {
        format!("{PREFIX}{}", binary(self.bytes))
    }

    /// The size as CRI and the cgroup's files have it, as `2MB`.
    pub(crate) fn size(self) -> String {
        let size = binary(self.bytes);
        format!("{}B", size.trim_end_matches('i'))
    }

    /// All pages together.
    pub(crate) fn total(self) -> i64 {
        self.bytes.saturating_mul(self.count)
    }
}

/// The pools of this machine, by size; their number can change while it runs.
pub(crate) fn pools() -> Vec<Pool> {
    pools_in(Path::new(POOLS))
}

fn pools_in(dir: &Path) -> Vec<Pool> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut pools: Vec<Pool> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib = name.strip_prefix(PREFIX)?.strip_suffix("kB")?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
            Some(Pool {
                bytes: kib.parse::<i64>().ok()?.checked_mul(1024)?,
                count: count.trim().parse().ok()?,
            })
        })
        .collect();
    pools.sort();
    pools
}

/// A number of bytes as a quantity.
pub(crate) fn binary(mut n: i64) -> String {
    let mut units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while n != 0 && n % 1024 == 0 {
        let Some(next) = units.next() else { break };
        (n, unit) = (n / 1024, next);
    }
    format!("{n}{unit}")
}

/// Why an emptyDir of huge pages cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum MediumError {
    #[error("medium {0:?} is not known to this node")]
    Unknown(String),
    #[error(
        "medium {medium:?} needs containers of the pod that have a limit of {resource}, and none has one"
    )]
    NotAskedFor { medium: String, resource: String },
    #[error(
        "medium \"HugePages\" needs a limit of huge pages of exactly one size among the pod's containers, which have {0}; name the size in the medium, as in \"HugePages-2Mi\""
    )]
    Sizes(String),
}

/// The size of the pages that a medium asks for (`HugePages`, or `HugePages-2Mi`), as `2Mi`: one that a container of the
/// pod has a limit of, as under the stock kubelet.
pub(crate) fn of_medium(medium: &str, spec: &PodSpec) -> Result<String, MediumError> {
    let mut asked: Vec<&str> = resources(spec)
        .filter_map(|name| name.strip_prefix(PREFIX))
        .collect();
    asked.sort_unstable();
    asked.dedup();
    match medium.strip_prefix("HugePages") {
        Some("") => match asked.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(MediumError::Sizes("none".to_owned())),
            several => Err(MediumError::Sizes(several.join(", "))),
        },
        Some(size) if size.starts_with('-') => {
            let size = size.trim_start_matches('-');
            if asked.contains(&size) {
                return Ok(size.to_owned());
            }
            Err(MediumError::NotAskedFor {
                medium: medium.to_owned(),
                resource: format!("{PREFIX}{size}"),
            })
        }
        Some(_) | None => Err(MediumError::Unknown(medium.to_owned())),
    }
}

/// The names of all limits in a pod.
fn resources(spec: &PodSpec) -> impl Iterator<Item = &str> {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let all = containers
        .map(|c| c.resources.as_ref())
        .chain([spec.resources.as_ref()]);
    all.flatten()
        .flat_map(|r| r.limits.iter().flatten())
        .map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pools_have_the_names_of_resources() {
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [
            ("hugepages-1048576kB", "2\n"),
            ("hugepages-2048kB", "512"),
            ("hugepages-64kB", "0"),
        ] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        fs::create_dir(dir.path().join("hugepages-xkB")).unwrap();
        let pools: Vec<_> = pools_in(dir.path())
            .into_iter()
            .map(|p| (p.resource(), p.size(), binary(p.total())))
            .collect();
        let of = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            pools,
            [
                of("hugepages-64Ki", "64KB", "0"),
                of("hugepages-2Mi", "2MB", "1Gi"),
                of("hugepages-1Gi", "1GB", "2Gi"),
            ]
        );
        assert!(pools_in(Path::new("/none")).is_empty());
    }

    #[test]
    fn a_medium_is_of_a_size_that_the_pod_asks_for() {
        let spec = |sizes: &[&str]| -> PodSpec {
            let limits: serde_json::Map<_, _> = sizes
                .iter()
                .map(|s| (format!("hugepages-{s}"), json!("2Gi")))
                .collect();
            serde_json::from_value(
                json!({"containers": [{"name": "c", "resources": {"limits": limits}}]}),
            )
            .unwrap()
        };
        let size = |medium, sizes: &[&str]| of_medium(medium, &spec(sizes));
        assert_eq!(size("HugePages", &["2Mi"]).unwrap(), "2Mi");
        assert_eq!(size("HugePages-1Gi", &["2Mi", "1Gi"]).unwrap(), "1Gi");
        for (medium, sizes, want) in [
            ("HugePages", &[] as &[&str], "have none"),
            ("HugePages", &["2Mi", "1Gi"], "have 1Gi, 2Mi"),
            ("HugePages-1Gi", &["2Mi"], "a limit of hugepages-1Gi"),
            ("HugePages-", &["2Mi"], "a limit of hugepages-,"),
            ("HugePagesX", &["2Mi"], "not known"),
            ("Disk", &["2Mi"], "not known"),
        ] {
            let error = size(medium, sizes).unwrap_err().to_string();
            assert!(error.contains(want), "{medium}: {error}");
        }
    }
}
