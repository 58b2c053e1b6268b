//! The process of a sandbox container: a static program of a few instructions, for runtimes that
//! need one (gVisor, VMs) and for pods that share a PID namespace.
//!
//! It ignores SIGCHLD, so that the kernel reaps what is reparented to it, and waits for SIGTERM or
//! SIGINT, at which it exits with 0. The signals are blocked and waited for, not handled: PID 1
//! of a namespace would not get them otherwise.

/// Where the file is mapped.
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

/// The code and its two constants.
///
/// ```asm
///   mov  eax, 13            ; rt_sigaction(SIGCHLD, &action, NULL, 8)
///   mov  edi, 17
///   lea  rsi, [rip+action]
///   xor  edx, edx
///   mov  r10d, 8
///   syscall
///   mov  eax, 14            ; rt_sigprocmask(SIG_BLOCK, &set, NULL, 8)
///   xor  edi, edi
///   lea  rsi, [rip+set]
///   xor  edx, edx
///   mov  r10d, 8
///   syscall
/// again:
///   mov  eax, 128           ; rt_sigtimedwait(&set, NULL, NULL, 8)
///   lea  rdi, [rip+set]
///   xor  esi, esi
///   xor  edx, edx
///   mov  r10d, 8
///   syscall
///   test eax, eax
///   js   again
///   mov  eax, 231           ; exit_group(0)
///   xor  edi, edi
///   syscall
/// action: .quad 1, 0x2, 0, 0   ; SIG_IGN, SA_NOCLDWAIT
/// set:    .quad 0x4002         ; SIGINT, SIGTERM
/// ```
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0xb8, 0x0d, 0x00, 0x00, 0x00, 0xbf, 0x11, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x35, 0x47, 0x00, 0x00,
    0x00, 0x31, 0xd2, 0x41, 0xba, 0x08, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xb8, 0x0e, 0x00, 0x00, 0x00,
    0x31, 0xff, 0x48, 0x8d, 0x35, 0x4f, 0x00, 0x00, 0x00, 0x31, 0xd2, 0x41, 0xba, 0x08, 0x00, 0x00,
    0x00, 0x0f, 0x05, 0xb8, 0x80, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x3d, 0x39, 0x00, 0x00, 0x00, 0x31,
    0xf6, 0x31, 0xd2, 0x41, 0xba, 0x08, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0xe4, 0xb8,
    0xe7, 0x00, 0x00, 0x00, 0x31, 0xff, 0x0f, 0x05, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];
/// The machine's number in the ELF header.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// The same in aarch64.
///
/// ```asm
///   mov  x8, 134 ; mov x0, 17 ; adr x1, action ; mov x2, 0 ; mov x3, 8 ; svc 0
///   mov  x8, 135 ; mov x0, 0  ; adr x1, set    ; mov x2, 0 ; mov x3, 8 ; svc 0
/// again:
///   mov  x8, 137 ; adr x0, set ; mov x1, 0     ; mov x2, 0 ; mov x3, 8 ; svc 0
///   tbnz x0, 63, again
///   mov  x8, 94  ; mov x0, 0  ; svc 0
/// ```
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xc8, 0x10, 0x80, 0xd2, 0x20, 0x02, 0x80, 0xd2, 0x81, 0x02, 0x00, 0x10, 0x02, 0x00, 0x80, 0xd2,
    0x03, 0x01, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xe8, 0x10, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2,
    0x81, 0x02, 0x00, 0x10, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x01, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0x28, 0x11, 0x80, 0xd2, 0xe0, 0x01, 0x00, 0x10, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2,
    0x03, 0x01, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0x40, 0xff, 0xff, 0xb7, 0xc8, 0x0b, 0x80, 0xd2,
    0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];
/// The machine's number in the ELF header.
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The program's file.
pub(crate) fn program() -> Vec<u8> {
    let size = u64::try_from(HEADERS + CODE.len()).unwrap_or(u64::MAX);
    let entry = BASE + u64::try_from(HEADERS).unwrap_or(0);
    let mut file = Vec::with_capacity(HEADERS + CODE.len());
    // ELF, 64 bits, little-endian, version 1, System V.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&2u16.to_le_bytes()); // ET_EXEC
    file.extend_from_slice(&MACHINE.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&entry.to_le_bytes());
    file.extend_from_slice(&64u64.to_le_bytes()); // program headers
    file.extend_from_slice(&0u64.to_le_bytes()); // no section headers
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes()); // PT_LOAD
    file.extend_from_slice(&5u32.to_le_bytes()); // read, execute
    file.extend_from_slice(&0u64.to_le_bytes());
    for word in [BASE, BASE, size, size, 0x1000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(CODE);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::program;

    #[cfg(target_arch = "x86_64")]
    const WAIT: &str = "128 ";
    #[cfg(target_arch = "aarch64")]
    const WAIT: &str = "137 ";

    /// As PID 1 of a PID namespace it reaps an orphan and ends with 0 at SIGTERM.
    #[test]
    fn reaps_orphans_and_ends_at_sigterm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // The shell leaves an orphan in the new namespace, then becomes the program.
        let script = format!("(sh -c 'exit 3' & echo $! ) ; exec {}", path.display());
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "sh", "-c", &script])
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let of_unshare = format!("/proc/{0}/task/{0}/children", child.id());
        let end = Instant::now() + Duration::from_secs(10);
        let pause = loop {
            let pids = std::fs::read_to_string(&of_unshare).unwrap_or_default();
            if let Some(pid) = pids.split_whitespace().next()
                && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|comm| comm.trim() == "pause")
                && std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
                    .is_ok_and(|c| c.trim().is_empty())
                // Waiting in rt_sigtimedwait: everything before it is done.
                && std::fs::read_to_string(format!("/proc/{pid}/syscall"))
                    .is_ok_and(|call| call.starts_with(WAIT))
            {
                break pid.parse().unwrap();
            }
            if Instant::now() > end {
                let _ = child.kill();
                panic!("pause did not settle");
            }
            std::thread::yield_now();
        };
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pause),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
