//! Pod cgroups: `kubepods[/burstable|/besteffort]/pod<uid>`, with the pod's overhead counted, on
//! cgroup v1, hybrid and v2; made here, or by systemd as slices where the runtime uses its driver.

mod slice;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_lifecycle::qos::{Qos, cpu_quota, cpu_shares, cpu_weight, qos};
use k8s_openapi::api::core::v1::Pod;
use tracing::debug;

use crate::amount;
use crate::huge_pages::{self, Pool};
use crate::swap::Swap;
use crate::usage::hierarchy::Hierarchy;

const CONTROLLERS: [&str; 10] = [
    "cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb",
    "systemd",
];
/// Where cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
const PERIOD_US: &str = "100000";
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";

/// Which hierarchy this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// One directory per controller (v1 and hybrid).
    Split(Vec<PathBuf>),
    /// One tree.
    Unified(PathBuf),
    /// None that can be written.
    Absent,
}

/// Why a pod has no cgroup with its limits.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}", told(.0))]
    Slice(#[from] slice::SliceError),
}

/// What a pod may use in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    shares: i64,
    weight: i64,
    /// Of [`PERIOD_US`].
    quota: Option<i64>,
    memory: Option<i64>,
    /// Beyond memory; none where it can't be bounded.
    swap: Option<i64>,
    /// Bytes of huge pages by their size, as `2MB`.
    huge_pages: Vec<(String, i64)>,
}

impl Limits {
    fn larger(&self, other: &Self) -> Self {
        let both = |a: Option<i64>, b: Option<i64>| Some(a?.max(b?));
        Self {
            shares: self.shares.max(other.shares),
            weight: self.weight.max(other.weight),
            quota: both(self.quota, other.quota),
            memory: both(self.memory, other.memory),
            swap: both(self.swap, other.swap),
            // Not resized.
            huge_pages: other.huge_pages.clone(),
        }
    }
}

/// Makes and removes pod cgroups.
#[derive(Clone, Debug)]
pub(crate) struct PodCgroups {
    layout: Layout,
    overhead: bool,
    swap: Option<Swap>,
    pools: Vec<Pool>,
}

impl PodCgroups {
    pub(crate) fn new(enabled: bool, overhead: bool, swap: Swap) -> Self {
        let layout = if enabled {
            detect(Path::new(MOUNT))
        } else {
            Layout::Absent
        };
        Self {
            layout,
            overhead,
            swap: Some(swap),
            pools: huge_pages::pools(),
        }
    }

    fn relative(pod: &Pod) -> PathBuf {
        relative(pod.metadata.uid.as_deref().unwrap_or_default(), qos(pod))
    }

    /// The cgroup parent to hand to the runtime; empty leaves the choice to it.
    pub(crate) fn parent(&self, pod: &Pod, systemd: bool) -> String {
        if systemd {
            return slice_name(pod);
        }
        if self.layout == Layout::Absent {
            return String::new();
        }
        format!("/{}", Self::relative(pod).display())
    }

    /// Makes the pod's cgroup with its limits.
    ///
    /// # Errors
    /// When there is no such cgroup, or it has not the limits that the pod asks for: the pod must not run then, since
    /// nothing would bound what its containers use together. Shares are only a wish.
    pub(crate) async fn ensure(&self, pod: &Pod, systemd: bool) -> Result<(), CgroupError> {
        match self.limits(pod) {
            Some(limits) => self.apply(pod, &limits, systemd).await,
            None => Ok(()),
        }
    }

    /// Gives the pod's cgroup the larger of what it had `before` and shall have `after` a resize, so that the limits of
    /// its containers can change in any order.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub(crate) async fn raise(
        &self,
        before: &Pod,
        after: &Pod,
        systemd: bool,
    ) -> Result<(), CgroupError> {
        match (self.limits(before), self.limits(after)) {
            (Some(a), Some(b)) => self.apply(after, &a.larger(&b), systemd).await,
            _ => Ok(()),
        }
    }

    /// Whether the limits that were set last are those of the pod.
    pub(crate) fn is_settled(&self, pod: &Pod, set: Option<&Limits>) -> bool {
        self.limits(pod).as_ref() == set
    }

    async fn apply(&self, pod: &Pod, limits: &Limits, systemd: bool) -> Result<(), CgroupError> {
        if self.layout == Layout::Absent {
            return Ok(());
        }
        if systemd {
            return Ok(slice::ensure(&slice_name(pod), self.is_unified(), limits).await?);
        }
        let relative = Self::relative(pod);
        match &self.layout {
            Layout::Absent => Ok(()),
            Layout::Split(roots) => roots.iter().try_for_each(|r| split(r, &relative, limits)),
            Layout::Unified(root) => unified(root, &relative, limits),
        }
    }

    /// What a pod may use in all, with overhead where it counts; none for a pod without a spec.
    pub(crate) fn limits(&self, pod: &Pod) -> Option<Limits> {
        let spec = pod.spec.as_ref()?;
        let shares = cpu_shares(amount::pod_request(spec, "cpu", self.overhead));
        Some(Limits {
            shares,
            weight: cpu_weight(shares),
            quota: amount::pod_limit(spec, "cpu", self.overhead).map(cpu_quota),
            memory: amount::pod_limit(spec, "memory", self.overhead),
            swap: self.swap.and_then(|swap| swap.of_pod(pod)),
            huge_pages: self
                .pools
                .iter()
                .map(|pool| {
                    let bytes = amount::pod_request(spec, &pool.resource(), false);
                    (pool.size(), bytes)
                })
                .collect(),
        })
    }

    /// The trees to read from; empty where pods get no cgroups here.
    pub(crate) fn hierarchy(&self) -> Hierarchy {
        match &self.layout {
            Layout::Absent => Hierarchy::default(),
            Layout::Split(_) | Layout::Unified(_) => Hierarchy::detect(Path::new(MOUNT)),
        }
    }

    /// The pod's cgroup below a tree's root; none where pods get none here.
    pub(crate) fn path(&self, pod: &Pod, systemd: bool) -> Option<PathBuf> {
        match &self.layout {
            Layout::Absent => None,
            _ if systemd => Some(slice_path(&slice_name(pod))),
            Layout::Split(_) | Layout::Unified(_) => Some(Self::relative(pod)),
        }
    }

    /// The cgroups that pods are below.
    pub(crate) fn groups(&self, systemd: bool) -> Vec<PathBuf> {
        match &self.layout {
            Layout::Absent => Vec::new(),
            _ if systemd => [
                "kubepods.slice",
                "kubepods-burstable.slice",
                "kubepods-besteffort.slice",
            ]
            .map(slice_path)
            .to_vec(),
            Layout::Split(_) | Layout::Unified(_) => {
                ["kubepods", "kubepods/burstable", "kubepods/besteffort"]
                    .map(PathBuf::from)
                    .to_vec()
            }
        }
    }

    fn is_unified(&self) -> bool {
        matches!(self.layout, Layout::Unified(_))
    }

    /// Removes the pod's cgroup. False when some of it stays, since something is in it: then it has to be tried again.
    pub(crate) async fn remove(&self, pod: &Pod, systemd: bool) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.remove_of_class(uid, qos(pod), systemd).await
    }

    /// As [`Self::remove`], of a pod of which only the uid is known.
    pub(crate) async fn remove_by_uid(&self, uid: &str, systemd: bool) -> bool {
        let mut gone = true;
        for class in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            gone &= self.remove_of_class(uid, class, systemd).await;
        }
        gone
    }

    async fn remove_of_class(&self, uid: &str, class: Qos, systemd: bool) -> bool {
        let mut gone = true;
        if systemd
            && self.layout != Layout::Absent
            && let Err(error) = slice::stop(&slice_of(uid, class)).await
        {
            debug!(error = told(&error), "pod slice not stopped");
            gone = false;
        }
        let relative = relative(uid, class);
        let roots: &[PathBuf] = match &self.layout {
            Layout::Absent => &[],
            Layout::Split(roots) => roots,
            Layout::Unified(root) => std::slice::from_ref(root),
        };
        // A hybrid machine has a tree of version 2 beside those of version 1; the runtime makes the pod's cgroup there, too.
        let beside = match &self.layout {
            Layout::Split(roots) => roots.first().and_then(|root| root.parent()),
            Layout::Absent | Layout::Unified(_) => None,
        };
        let beside = beside.map(|mount| mount.join("unified"));
        for root in roots.iter().chain(&beside) {
            if let Err(error) = remove_tree(&root.join(&relative)) {
                debug!(%error, path = %relative.display(), "pod cgroup not removed");
                gone = false;
            }
        }
        gone
    }

    /// The directory with the pod's memory accounting, for stats and eviction.
    pub(crate) fn memory_usage(&self, pod: &Pod, systemd: bool) -> Option<i64> {
        let relative = if systemd {
            slice_path(&slice_name(pod))
        } else {
            Self::relative(pod)
        };
        let read =
            |path: PathBuf| -> Option<i64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        match &self.layout {
            Layout::Absent => None,
            Layout::Split(roots) => {
                let root = roots.iter().find(|r| r.ends_with("memory"))?;
                read(root.join(relative).join("memory.usage_in_bytes"))
            }
            Layout::Unified(root) => read(root.join(relative).join("memory.current")),
        }
    }
}

fn split(root: &Path, relative: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let dir = root.join(relative);
    make_split(root, relative).map_err(failed(&dir))?;
    let name = root
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    if name.split(',').any(|c| c == "cpu") {
        write(&dir, "cpu.shares", &limits.shares.to_string());
        if let Some(quota) = limits.quota {
            limit(&dir, "cpu.cfs_period_us", PERIOD_US)?;
            limit(&dir, "cpu.cfs_quota_us", &quota.to_string())?;
        }
    }
    if name == "memory"
        && let Some(bytes) = limits.memory
    {
        // Together with swap it is never less than alone, so what grows is written before, and what shrinks after.
        let both = limits
            .swap
            .map(|swap| bytes.saturating_add(swap).to_string());
        let both = both.filter(|_| dir.join(MEMORY_AND_SWAP).exists());
        if let Some(both) = &both {
            write(&dir, MEMORY_AND_SWAP, both);
        }
        limit(&dir, "memory.limit_in_bytes", &bytes.to_string())?;
        if let Some(both) = &both {
            limit(&dir, MEMORY_AND_SWAP, both)?;
        }
    }
    if name == "hugetlb" {
        huge_pages_in(&dir, limits, "limit_in_bytes")?;
    }
    Ok(())
}

/// Pages that are reserved count from their reservation on, where the kernel knows that.
fn huge_pages_in(dir: &Path, limits: &Limits, file: &str) -> Result<(), CgroupError> {
    for (size, bytes) in &limits.huge_pages {
        for name in [
            format!("hugetlb.{size}.{file}"),
            format!("hugetlb.{size}.rsvd.{file}"),
        ] {
            if dir.join(&name).exists() {
                limit(dir, &name, &bytes.to_string())?;
            }
        }
    }
    Ok(())
}

fn unified(root: &Path, relative: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let mut here = root.to_owned();
    for part in relative {
        enable(&here);
        here.push(part);
        mkdir(&here).map_err(failed(&here))?;
    }
    enable(&here);
    write(&here, "cpu.weight", &limits.weight.to_string());
    if let Some(quota) = limits.quota {
        limit(&here, "cpu.max", &format!("{quota} {PERIOD_US}"))?;
    }
    if let Some(bytes) = limits.memory {
        limit(&here, "memory.max", &bytes.to_string())?;
    }
    if let Some(bytes) = limits.swap
        && here.join("memory.swap.max").exists()
    {
        limit(&here, "memory.swap.max", &bytes.to_string())?;
    }
    huge_pages_in(&here, limits, "max")
}

/// The cgroup of a pod below a tree's root.
fn relative(uid: &str, class: Qos) -> PathBuf {
    let root = Path::new("kubepods");
    let parent = match class {
        Qos::Guaranteed => root.to_owned(),
        Qos::Burstable => root.join("burstable"),
        Qos::BestEffort => root.join("besteffort"),
    };
    parent.join(format!("pod{uid}"))
}

fn slice_name(pod: &Pod) -> String {
    slice_of(pod.metadata.uid.as_deref().unwrap_or_default(), qos(pod))
}

fn slice_of(uid: &str, class: Qos) -> String {
    let uid = uid.replace('-', "_");
    match class {
        Qos::Guaranteed => format!("kubepods-pod{uid}.slice"),
        Qos::Burstable => format!("kubepods-burstable-pod{uid}.slice"),
        Qos::BestEffort => format!("kubepods-besteffort-pod{uid}.slice"),
    }
}

/// Where systemd has a slice: each dash of its name is a level.
fn slice_path(name: &str) -> PathBuf {
    let stem = name.strip_suffix(".slice").unwrap_or(name);
    stem.match_indices('-')
        .map(|(at, _)| at)
        .chain([stem.len()])
        .map(|end| format!("{}.slice", &stem[..end]))
        .collect()
}

/// An error with its cause.
fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn detect(mount: &Path) -> Layout {
    if mount.join("cgroup.controllers").exists() {
        return Layout::Unified(mount.to_owned());
    }
    let mut roots: Vec<PathBuf> = Vec::new();
    for name in CONTROLLERS {
        let Ok(path) = fs::canonicalize(mount.join(name)) else {
            continue;
        };
        if path.join("cgroup.procs").exists() && !roots.contains(&path) {
            roots.push(path);
        }
    }
    if roots.is_empty() {
        Layout::Absent
    } else {
        Layout::Split(roots)
    }
}

fn mkdir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// On v1 a new cpuset is unusable until it has cpus and mems: they are taken from its parent.
fn make_split(root: &Path, relative: &Path) -> io::Result<()> {
    let mut here = root.to_owned();
    for part in relative {
        let parent = here.clone();
        here.push(part);
        mkdir(&here)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let Ok(own) = fs::read_to_string(here.join(file)) else {
                continue;
            };
            if own.trim().is_empty() {
                let inherited = fs::read_to_string(parent.join(file))?;
                fs::write(here.join(file), inherited.trim())?;
            }
        }
    }
    Ok(())
}

/// On v2 children get the controllers that their parent passes on.
fn enable(dir: &Path) {
    let Ok(have) = fs::read_to_string(dir.join("cgroup.controllers")) else {
        return;
    };
    for controller in have.split_whitespace() {
        write(dir, "cgroup.subtree_control", &format!("+{controller}"));
    }
}

/// A limit that the pod asks for.
fn limit(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(failed(&path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { path, source }
}

fn write(dir: &Path, file: &str, value: &str) {
    let path = dir.join(file);
    if let Err(error) = fs::write(&path, value) {
        debug!(%error, path = %path.display(), value, "cgroup value not written");
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        // Whoever has made it may remove it, too.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use std::collections::BTreeMap;

    fn list(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
        [("cpu", cpu), ("memory", memory)]
            .into_iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(k, v)| (k.to_owned(), Quantity(v.to_owned())))
            .collect()
    }

    fn pod(requests: (&str, &str), limits: (&str, &str), overhead: (&str, &str)) -> Pod {
        let mut pod = Pod {
            spec: Some(PodSpec {
                containers: vec![Container {
                    resources: Some(ResourceRequirements {
                        requests: Some(list(requests.0, requests.1)),
                        limits: Some(list(limits.0, limits.1)),
                        ..ResourceRequirements::default()
                    }),
                    ..Container::default()
                }],
                overhead: Some(list(overhead.0, overhead.1)),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        pod.metadata.uid = Some("u".to_owned());
        pod
    }

    fn split(dir: &Path, overhead: bool) -> PodCgroups {
        let roots = ["cpu", "memory"].map(|name| dir.join(name));
        for root in &roots {
            fs::create_dir_all(root).unwrap();
        }
        PodCgroups {
            layout: Layout::Split(roots.to_vec()),
            overhead,
            swap: None,
            pools: Vec::new(),
        }
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap_or_else(|_| "-".to_owned())
    }

    #[tokio::test]
    async fn overhead_counts_in_the_pods_cgroup_unless_the_gate_is_off() {
        let guaranteed = pod(("1", "64Mi"), ("1", "64Mi"), ("250m", "16Mi"));
        for (overhead, shares, quota, memory) in [
            (true, "1280", "125000", "83886080"),
            (false, "1024", "100000", "67108864"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let cgroups = split(dir.path(), overhead);
            cgroups.ensure(&guaranteed, false).await.unwrap();
            let at = |path: &str| read(dir.path().join(path));
            assert_eq!(at("cpu/kubepods/podu/cpu.shares"), shares);
            assert_eq!(at("cpu/kubepods/podu/cpu.cfs_quota_us"), quota);
            assert_eq!(at("memory/kubepods/podu/memory.limit_in_bytes"), memory);
            assert_eq!(cgroups.parent(&guaranteed, false), "/kubepods/podu");
        }
    }

    #[tokio::test]
    async fn the_class_of_service_names_the_parent_and_a_missing_limit_sets_none() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = split(dir.path(), true);
        let burstable = pod(("100m", ""), ("", ""), ("50m", "8Mi"));
        cgroups.ensure(&burstable, false).await.unwrap();
        let at = |path: &str| read(dir.path().join(path));
        assert_eq!(at("cpu/kubepods/burstable/podu/cpu.shares"), "153");
        assert_eq!(at("cpu/kubepods/burstable/podu/cpu.cfs_quota_us"), "-");
        assert_eq!(
            at("memory/kubepods/burstable/podu/memory.limit_in_bytes"),
            "-"
        );
        let nothing = pod(("", ""), ("", ""), ("", ""));
        assert_eq!(cgroups.parent(&nothing, false), "/kubepods/besteffort/podu");
        assert_eq!(
            cgroups.parent(&burstable, true),
            "kubepods-burstable-podu.slice"
        );
        assert_eq!(
            slice_path("kubepods-burstable-podu.slice"),
            Path::new("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu.slice")
        );
    }

    #[tokio::test]
    async fn a_pods_cgroup_goes_in_the_tree_of_version_2_beside_the_others_too() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = split(dir.path(), true);
        let pod = pod(("1", "64Mi"), ("1", "64Mi"), ("", ""));
        let beside = dir.path().join("unified/kubepods/podu");
        fs::create_dir_all(beside.join("container")).unwrap();
        // As a cgroup with a process, it can't be removed.
        fs::write(beside.join("container/busy"), "").unwrap();
        assert!(!cgroups.remove(&pod, false).await);
        fs::remove_file(beside.join("container/busy")).unwrap();
        assert!(cgroups.remove(&pod, false).await && !beside.exists());
        // Without the pod its class is not known.
        fs::create_dir_all(dir.path().join("cpu/kubepods/besteffort/podu")).unwrap();
        assert!(cgroups.remove_by_uid("u", false).await);
        assert!(!dir.path().join("cpu/kubepods/besteffort/podu").exists());
    }

    #[tokio::test]
    async fn while_containers_change_the_pod_has_the_larger_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = split(dir.path(), true);
        let before = pod(("2", "64Mi"), ("2", "64Mi"), ("", ""));
        let after = pod(("1", "128Mi"), ("1", "128Mi"), ("", ""));
        cgroups.raise(&before, &after, false).await.unwrap();
        let at = |path: &str| read(dir.path().join(path));
        assert_eq!(at("cpu/kubepods/podu/cpu.shares"), "2048");
        assert_eq!(at("cpu/kubepods/podu/cpu.cfs_quota_us"), "200000");
        let memory = "memory/kubepods/podu/memory.limit_in_bytes";
        assert_eq!(at(memory), (128 << 20).to_string());
        cgroups.ensure(&after, false).await.unwrap();
        assert_eq!(at("cpu/kubepods/podu/cpu.cfs_quota_us"), "100000");
        assert!(!cgroups.is_settled(&after, cgroups.limits(&before).as_ref()));
        assert!(cgroups.is_settled(&after, cgroups.limits(&after).as_ref()));
    }

    #[tokio::test]
    async fn without_its_limits_a_pod_has_no_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let limited = pod(("1", "64Mi"), ("1", "64Mi"), ("", ""));
        // A file where the pod's directory would be, a directory where the limit would be written.
        for (place, named) in [
            ("memory/kubepods", "memory/kubepods/podu"),
            (
                "memory/kubepods/podu/memory.limit_in_bytes/x",
                "memory.limit_in_bytes",
            ),
        ] {
            let cgroups = split(dir.path(), true);
            let place = dir.path().join(place);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, "").unwrap();
            let error = cgroups
                .ensure(&limited, false)
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{error}");
            fs::remove_file(&place).unwrap();
        }
    }

    #[tokio::test]
    async fn one_tree_on_version_two() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.controllers"), "cpu memory").unwrap();
        let cgroups = PodCgroups {
            layout: detect(dir.path()),
            overhead: true,
            swap: None,
            pools: Vec::new(),
        };
        assert_eq!(cgroups.layout, Layout::Unified(dir.path().to_owned()));
        cgroups
            .ensure(&pod(("1", "64Mi"), ("1", "64Mi"), ("250m", "16Mi")), false)
            .await
            .unwrap();
        let at = |file: &str| read(dir.path().join("kubepods/podu").join(file));
        assert_eq!(at("cpu.weight"), "49");
        assert_eq!(at("cpu.max"), "125000 100000");
        assert_eq!(at("memory.max"), "83886080");
    }
}
