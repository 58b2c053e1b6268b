//! The guest's network as Kata's model `tcfilter` makes it: in the pod's network namespace the pod's interface and a tap
//! device send each other whatever they receive, so that the guest has the pod's addresses and the namespace's own IP layer
//! sees nothing.
//!
//! The guest's interface is a tap device, too, in a network namespace of its own, in which all containers are. The VMM
//! passes frames between the two, as QEMU does with a virtio device.

use std::ffi::c_int;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

/// The tap device in the pod's network namespace.
const TAP: &str = "tap0_kata";
/// The pod's interface, and the guest's.
const INTERFACE: &str = "eth0";
/// Larger than any frame.
const FRAME_MAX: usize = 1 << 16;

/// The two tap devices: the one in the pod's network namespace, and the guest's.
pub(crate) struct Wire {
    pub(crate) outside: OwnedFd,
    pub(crate) inside: OwnedFd,
}

/// Gives a guest the network of the pod in `pod`, a network namespace; the guest's own one is mounted on `guest`. Blocks.
pub(crate) fn plug(pod: &Path, guest: &Path) -> io::Result<Wire> {
    std::fs::write(guest, "")?;
    let place = guest.to_owned();
    apart(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = Some("/proc/thread-self/ns/net");
        mount(own, &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    })?;
    let outside = tap(pod, TAP)?;
    let inside = tap(guest, INTERFACE)?;
    let found = json(pod, &["addr", "show", "dev", INTERFACE])?;
    let found = found.get(0).cloned().unwrap_or_default();
    let (mac, mtu) = (text(&found, "address")?, found["mtu"].to_string());
    ip(pod, &["link", "set", TAP, "mtu", &mtu, "up"])?;
    for device in [INTERFACE, TAP] {
        run(pod, "tc", &["qdisc", "add", "dev", device, "ingress"])?;
    }
    for (from, to) in [(INTERFACE, TAP), (TAP, INTERFACE)] {
        let filter = [
            "filter", "add", "dev", from, "parent", "ffff:", "protocol", "all", "u32", "match",
            "u8", "0", "0", "action", "mirred", "egress", "redirect", "dev", to,
        ];
        run(pod, "tc", &filter)?;
    }
    ip(guest, &["link", "set", "lo", "up"])?;
    let link = ["link", "set", INTERFACE, "address", mac, "mtu", &mtu, "up"];
    ip(guest, &link)?;
    let addresses = found["addr_info"].as_array();
    for address in addresses.into_iter().flatten() {
        if address["scope"] == "global" {
            let local = format!("{}/{}", text(address, "local")?, address["prefixlen"]);
            ip(guest, &["addr", "add", &local, "dev", INTERFACE])?;
        }
    }
    let routes = json(pod, &["route", "show", "dev", INTERFACE])?;
    for route in routes.as_array().into_iter().flatten() {
        if let Some(gateway) = route["gateway"].as_str() {
            let to = text(route, "dst")?;
            ip(
                guest,
                &["route", "add", to, "via", gateway, "dev", INTERFACE],
            )?;
        }
    }
    Ok(Wire { outside, inside })
}

/// Passes frames on in both directions as long as both devices are there. They are the VMM's stdin and stderr, which no
/// other process inherits: with the VMM the devices go.
pub(crate) fn carry() -> io::Result<()> {
    let outside = io::stdin().as_fd().try_clone_to_owned()?;
    let inside = io::stderr().as_fd().try_clone_to_owned()?;
    let both = [
        (outside.try_clone()?, inside.try_clone()?),
        (inside, outside),
    ];
    for (from, to) in both {
        let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
        std::thread::spawn(move || {
            let mut frame = vec![0; FRAME_MAX];
            while let Ok(length) = from.read(&mut frame) {
                // A device that is down takes none.
                let _lost = to.write(frame.get(..length).unwrap_or_default());
            }
        });
    }
    Ok(())
}

/// Connects from a guest's network namespace. Blocks for half a second at most.
pub(crate) fn connect(guest: &Path, to: SocketAddr) -> io::Result<()> {
    within(guest, move || {
        TcpStream::connect_timeout(&to, Duration::from_millis(500)).map(drop)
    })
}

/// Takes away the guest's namespace.
pub(crate) fn unplug(guest: &Path) {
    let _none = umount2(guest, MntFlags::MNT_DETACH);
}

/// Makes a tap device that lives as long as its descriptor is open.
fn tap(namespace: &Path, name: &'static str) -> io::Result<OwnedFd> {
    within(namespace, move || {
        let mut options = std::fs::File::options();
        let file = options.read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: a request of zeroes is valid: a name of no bytes and no flags.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags =
            i16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).map_err(io::Error::other)?;
        // SAFETY: the kernel reads and writes the request, which lives longer than the call.
        let done: c_int = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
        match done {
            0 => Ok(OwnedFd::from(file)),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

fn within<T: Send + 'static>(
    namespace: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let file = std::fs::File::open(namespace)?;
    apart(move || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Does something in a thread of its own, whose namespaces go with it.
fn apart<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let ended = std::thread::spawn(work).join();
    ended.unwrap_or_else(|_| Err(io::Error::other("a thread failed")))
}

fn ip(namespace: &Path, words: &[&str]) -> io::Result<Vec<u8>> {
    run(namespace, "ip", words)
}

fn json(namespace: &Path, words: &[&str]) -> io::Result<Value> {
    let said = ip(namespace, &[&["-json"], words].concat())?;
    serde_json::from_slice(&said).map_err(io::Error::other)
}

fn text<'a>(value: &'a Value, key: &str) -> io::Result<&'a str> {
    let found = value[key].as_str();
    found.ok_or_else(|| io::Error::other(format!("no {key:?} in {value}")))
}

fn run(namespace: &Path, program: &str, words: &[&str]) -> io::Result<Vec<u8>> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("nsenter")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .arg(format!("--net={}", namespace.display()))
        .arg(program)
        .args(words)
        .output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("{program} {}: {}", words.join(" "), said.trim());
    Err(io::Error::other(what))
}
