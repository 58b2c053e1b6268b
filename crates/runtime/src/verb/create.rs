//! `create`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::stat::Mode;
use oci_spec::runtime::Spec;

use super::delete;
use crate::bundle::{Bundle, UMASK};
use crate::cgroup;
use crate::cli::Global;
use crate::devices::Devices;
use crate::error::Error;
use crate::launch::Launch;
use crate::record::{Place, Record, start_time};
use crate::report;

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Unix socket to send the terminal's master end to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File to write the pid to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Change the root with chroot, for initial ramdisks
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Stay in the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Pass so many descriptors more than the standard streams
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: i32,
    /// The container's id
    pub(crate) id: String,
}

pub(crate) fn create(global: &Global, args: &Create) -> Result<(), Error> {
    let place = Place::new(global, &args.id)?;
    let bundle = Bundle::read(global, &args.bundle, &args.id)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&global.root)
        .map_err(Error::file("make", &global.root))?;
    if place.state().exists() {
        return Err(Error::Exists(args.id.clone()));
    }
    // Leftovers of a create that was cut short before libcontainer began.
    let _ = std::fs::remove_dir_all(place.own());
    let result =
        prepare(&place, &bundle).and_then(|launch| build(global, args, &place, &bundle, launch));
    if result.is_err() {
        let _ = std::fs::remove_dir_all(place.own());
    }
    result.and_then(|pid| {
        let started = pid.and_then(start_time);
        place.save(&record(&bundle, started))
    })
}

fn record(bundle: &Bundle, started: Option<u64>) -> Record {
    let root = bundle.spec.root().as_ref();
    Record {
        bundle: bundle.path.clone(),
        rootfs: root.map(|root| root.path().clone()).unwrap_or_default(),
        started,
    }
}

/// Writes what the container's later verbs need.
fn prepare(place: &Place, bundle: &Bundle) -> Result<Launch, Error> {
    let own = place.own();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&own)
        .map_err(Error::file("make", &own))?;
    let config = own.join("config.json");
    bundle.spec.save(&config).map_err(|source| Error::Spec {
        path: config,
        source,
    })?;
    if let Some(filter) = &bundle.filter {
        filter.save(&place.filter())?;
    }
    place.save(&record(bundle, None))?;
    let report = report::make(&place.report())?;
    Ok(Launch::new(bundle.process.clone(), bundle.filter.clone()).reporting(report))
}

fn build(
    global: &Global,
    args: &Create,
    place: &Place,
    bundle: &Bundle,
    mut launch: Launch,
) -> Result<Option<i32>, Error> {
    if !args.no_new_keyring {
        launch = launch.in_keyring(&args.id);
    }
    let failed = |source| Error::Container {
        verb: "create",
        id: args.id.clone(),
        source,
    };
    let devices = devices(&args.id, &bundle.spec)?;
    // libcontainer makes folders for mount points and devices with what this leaves of 0777.
    nix::sys::stat::umask(Mode::from_bits_truncate(UMASK));
    let away = cgroup::join_others(&bundle.spec)?;
    let container = ContainerBuilder::new(args.id.clone(), SyscallType::default())
        .with_executor(launch)
        .with_pid_file(args.pid_file.as_ref())
        .map_err(failed)?
        .with_console_socket(args.console_socket.as_ref())
        .with_root_path(&global.root)
        .map_err(failed)?
        .with_preserved_fds(args.preserve_fds)
        .as_init(place.own())
        .with_systemd(global.systemd_cgroup)
        .with_detach(true)
        .with_no_pivot(args.no_pivot)
        .build()
        .map_err(failed)?;
    drop(away);
    // Before `start` nothing of the image runs.
    cgroup::limit_huge_pages(&container, &bundle.spec)
        .and_then(|()| match &devices {
            Some(devices) => restrict(&container, devices),
            None => Ok(()),
        })
        .inspect_err(|_| {
            let _ = delete::remove(global, &args.id, true);
        })?;
    Ok(container.pid().map(|pid| pid.as_raw()))
}

/// The container's device rules, where libcgroups does not see to them.
fn devices(id: &str, spec: &Spec) -> Result<Option<Devices>, Error> {
    if !cgroup::is_unified() {
        return Ok(None);
    }
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let devices = Devices::prepare(resources).map_err(Error::devices(id))?;
    Ok(Some(devices))
}

/// Puts the rules in force.
///
/// Under systemd the cgroup is there only once a process is in it. That process runs nothing of the container's
/// before `start`, which takes no container whose creation did not come to its end.
fn restrict(container: &Container, devices: &Devices) -> Result<(), Error> {
    let folder = cgroup::unified(container)?;
    if let Some(pid) = container.pid()
        && !cgroup::holds(&folder, pid.as_raw())?
    {
        return Err(Error::Cgroup {
            id: container.id().to_owned(),
            message: format!("its process is not in {}", folder.display()),
        });
    }
    let failed = Error::devices(container.id());
    devices.enforce(&folder).map_err(failed)
}
