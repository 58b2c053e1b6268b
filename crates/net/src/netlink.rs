//! Questions to the kernel by netlink, and its answers.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Flags of a message.
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
/// Kinds of answers.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Of a message (`nlmsghdr`), of an attribute (`nlattr`).
const HEADER: usize = 16;
pub(crate) const ATTRIBUTE: usize = 4;
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once.
const PATIENCE_SECONDS: i64 = 10;

/// A socket for questions, in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel gives none.
pub(crate) fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        protocol,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::new(PATIENCE_SECONDS, 0),
    )?;
    Ok(socket)
}

/// A message: `fixed` is what its kind has before the attributes.
pub(crate) fn message(kind: u16, flags: u16, fixed: &[u8], attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + fixed.len() + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence and sender: one question at a time.
    bytes.extend([0; 8]);
    bytes.extend(fixed);
    bytes.extend(attributes);
    bytes
}

/// Sends a message.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn ask(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket.as_raw_fd(), message, MsgFlags::empty())?;
    Ok(())
}

/// Reads answers until the last one: their kinds, and what is in them.
///
/// # Errors
/// What the kernel says.
pub(crate) fn read(socket: &OwnedFd, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            length => length?,
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, after)) = next_message(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => return error_of(body),
                _ => each(kind, body),
            }
            rest = after;
        }
    }
}

/// The kind of the first message, what is in it, and what comes after it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(align(length)..).unwrap_or_default();
    Some((kind, body, after))
}

/// An error of zero is an acknowledgement.
fn error_of(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Where what comes after it begins.
pub(crate) fn align(length: usize) -> usize {
    length.div_ceil(4) * 4
}

/// The attributes in it: their kinds, what is in them, and their whole bytes.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        // The upper two bits say what is in it.
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let (body, whole) = (bytes.get(ATTRIBUTE..length)?, bytes.get(..length)?);
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, body, whole))
    })
}
