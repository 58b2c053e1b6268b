//! Removing a bridge: two ioctls, for which a netlink library would be most of a build.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// From linux/sockios.h.
const SIOCBRDELBR: libc::Ioctl = 0x89a1;

/// Takes a bridge down and removes it; false when there is no interface of that name.
///
/// # Errors
/// When the kernel refuses: it is no bridge, or the process may not.
pub(super) fn remove(name: &str) -> io::Result<bool> {
    let socket = control()?;
    let mut request = request(name)?;
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of this ifreq, which lives through the call.
    let got = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    match check(got) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(false),
        other => other?,
    }
    // SAFETY: SIOCGIFFLAGS has written the flags, so they are the field of the union that is valid.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = i16::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    request.ifr_ifru.ifru_flags = flags & !up;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of this ifreq, which lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    // SAFETY: SIOCBRDELBR reads a name of IFNAMSIZ bytes, which ends in a NUL here.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCBRDELBR, request.ifr_name.as_ptr()) })?;
    Ok(true)
}

fn control() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// A request about the interface of that name.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all of an ifreq's fields are numbers, arrays and pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.as_bytes();
    // The last byte stays the NUL.
    if bytes.is_empty() || bytes.len() >= request.ifr_name.len() || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is no name of an interface"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    Ok(request)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From linux/sockios.h.
    const SIOCBRADDBR: libc::Ioctl = 0x89a0;

    #[test]
    fn a_bridge_goes_even_when_it_is_up() {
        // A thread of its own, since it moves into a network namespace of its own.
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            assert!(!remove("br-gone").unwrap());
            let socket = control().unwrap();
            let mut request = request("br-here").unwrap();
            // SAFETY: as in `remove`.
            check(unsafe {
                libc::ioctl(socket.as_raw_fd(), SIOCBRADDBR, request.ifr_name.as_ptr())
            })
            .unwrap();
            request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).unwrap();
            // SAFETY: as in `remove`.
            check(unsafe {
                libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
            })
            .unwrap();
            assert!(remove("br-here").unwrap());
            assert!(!remove("br-here").unwrap());
            let error = remove("lo").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(remove("a-name-that-is-too-long").is_err());
        });
        thread.join().unwrap();
    }
}
