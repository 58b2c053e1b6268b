//! A wake-up when anybody changes nftables: the kernel tells it to whoever has joined the group.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

/// `NFNLGRP_NFTABLES` as a bit of the groups that a socket joins.
const GROUP: u32 = 1 << (libc::NFNLGRP_NFTABLES - 1);

/// Changes of nftables, whoever made them: our own ones, too.
pub(crate) struct Changes {
    socket: AsyncFd<OwnedFd>,
}

impl Changes {
    /// From now on.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub(crate) fn new() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        // SAFETY: the OwnedFd keeps its descriptor open and the same for as long as it lives in the AsyncFd.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket })
    }

    /// Waits for one or several changes since the last call.
    ///
    /// # Errors
    /// When the socket can't be read any more.
    pub(crate) async fn next(&self) -> io::Result<()> {
        let mut buffer = vec![0_u8; 16 * 1024];
        loop {
            let mut ready = self.socket.readable().await?;
            let mut seen = false;
            loop {
                match recv(
                    ready.get_inner().as_raw_fd(),
                    &mut buffer,
                    MsgFlags::MSG_DONTWAIT,
                ) {
                    Ok(_) => seen = true,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => break,
                    // More than the socket holds: what it was doesn't matter, but that it was.
                    Err(Errno::ENOBUFS) => seen = true,
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }
}
