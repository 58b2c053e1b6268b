//! The process of a sandbox container: a static program of a few instructions, for runtimes that
//! need one (gVisor, VMs) and for pods that share a PID namespace.
//!
//! Without arguments it ignores SIGCHLD, so that the kernel reaps what is reparented to it, and waits
//! for SIGTERM or SIGINT, at which it exits with 0. The signals are blocked and waited for, not
//! handled: PID 1 of a namespace would not get them otherwise.
//!
//! With pairs of arguments it writes: each first names a file, each second is written into it; where the first is empty,
//! the second becomes the hostname. It exits with 0, or with the errno of what failed. Executed in a sandbox that has a
//! kernel of its own it sets that kernel's sysctls, without a shell in there.
//!
//! With one argument ([`RECEIVE`]) it is the process of a sandbox that waits for its pod (`crate::warm`): it reads the pod's
//! hostname from stdin in one go, sets it, gives up all its capabilities, writes one byte to stdout, and goes on as without
//! arguments. It exits with 0 when stdin ends before, and with the errno of what failed.

use crate::elf;

/// What a sandbox container's image is called where a runtime wants a name; there is no image behind it.
pub(crate) const IMAGE: &str = "localhost/berth/pause";

/// The argument with which it takes a hostname from stdin before it waits.
pub(crate) const RECEIVE: &str = "receive";

/// The code and its constants.
///
/// ```asm
///   mov  rbx, [rsp]
///   lea  r12, [rsp+16]
///   cmp  ebx, 1
///   jle  wait
///   cmp  ebx, 2
///   je   receive
/// next:
///   mov  rsi, [r12]
///   test rsi, rsi
///   jz   done
///   cmp  byte ptr [rsi], 0
///   je   name
///   mov  eax, 257
///   mov  edi, -100
///   mov  edx, 1
///   xor  r10d, r10d
///   syscall
///   test eax, eax
///   js   fail
///   mov  edi, eax
///   mov  rsi, [r12+8]
///   xor  edx, edx
/// length:
///   cmp  byte ptr [rsi+rdx], 0
///   je   write
///   inc  edx
///   jmp  length
/// write:
///   mov  eax, 1
///   syscall
///   test eax, eax
///   js   fail
///   jmp  pair
/// name:
///   mov  rdi, [r12+8]
///   xor  esi, esi
/// size:
///   cmp  byte ptr [rdi+rsi], 0
///   je   set_name
///   inc  esi
///   jmp  size
/// set_name:
///   mov  eax, 170
///   syscall
///   test eax, eax
///   js   fail
/// pair:
///   add  r12, 16
///   jmp  next
/// fail:
///   neg  eax
///   mov  edi, eax
///   jmp  exit
/// done:
///   xor  edi, edi
/// exit:
///   mov  eax, 231
///   syscall
/// receive:
///   sub  rsp, 80
///   xor  eax, eax
///   xor  edi, edi
///   mov  rsi, rsp
///   mov  edx, 65
///   syscall
///   test eax, eax
///   js   fail
///   jz   done
///   mov  esi, eax
///   mov  rdi, rsp
///   mov  eax, 170
///   syscall
///   test eax, eax
///   js   fail
///   mov  eax, 126
///   lea  rdi, [rip+header]
///   lea  rsi, [rip+none]
///   syscall
///   test eax, eax
///   js   fail
///   mov  eax, 1
///   mov  edi, 1
///   mov  rsi, rsp
///   mov  edx, 1
///   syscall
///   test eax, eax
///   js   fail
/// wait:
///   mov  eax, 13
///   mov  edi, 17
///   lea  rsi, [rip+action]
///   xor  edx, edx
///   mov  r10d, 8
///   syscall
///   mov  eax, 14
///   xor  edi, edi
///   lea  rsi, [rip+set]
///   xor  edx, edx
///   mov  r10d, 8
///   syscall
/// again:
///   mov  eax, 128
///   lea  rdi, [rip+set]
///   xor  esi, esi
///   xor  edx, edx
///   mov  r10d, 8
///   syscall
///   test eax, eax
///   js   again
///   jmp  done
/// action: .quad 1, 0x2, 0, 0
/// set:    .quad 0x4002
/// header: .long 0x20080522, 0
/// none:   .long 0, 0, 0, 0, 0, 0
/// ```
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0x48, 0x8b, 0x1c, 0x24, 0x4c, 0x8d, 0x64, 0x24, 0x10, 0x83, 0xfb, 0x01, 0x0f, 0x8e, 0xd5, 0x00,
    0x00, 0x00, 0x83, 0xfb, 0x02, 0x74, 0x77, 0x49, 0x8b, 0x34, 0x24, 0x48, 0x85, 0xf6, 0x74, 0x65,
    0x80, 0x3e, 0x00, 0x74, 0x38, 0xb8, 0x01, 0x01, 0x00, 0x00, 0xbf, 0x9c, 0xff, 0xff, 0xff, 0xba,
    0x01, 0x00, 0x00, 0x00, 0x45, 0x31, 0xd2, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0x42, 0x89, 0xc7, 0x49,
    0x8b, 0x74, 0x24, 0x08, 0x31, 0xd2, 0x80, 0x3c, 0x16, 0x00, 0x74, 0x04, 0xff, 0xc2, 0xeb, 0xf6,
    0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0x24, 0xeb, 0x1c, 0x49, 0x8b, 0x7c,
    0x24, 0x08, 0x31, 0xf6, 0x80, 0x3c, 0x37, 0x00, 0x74, 0x04, 0xff, 0xc6, 0xeb, 0xf6, 0xb8, 0xaa,
    0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0x06, 0x49, 0x83, 0xc4, 0x10, 0xeb, 0x98, 0xf7,
    0xd8, 0x89, 0xc7, 0xeb, 0x02, 0x31, 0xff, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x48, 0x83,
    0xec, 0x50, 0x31, 0xc0, 0x31, 0xff, 0x48, 0x89, 0xe6, 0xba, 0x41, 0x00, 0x00, 0x00, 0x0f, 0x05,
    0x85, 0xc0, 0x78, 0xdb, 0x74, 0xdf, 0x89, 0xc6, 0x48, 0x89, 0xe7, 0xb8, 0xaa, 0x00, 0x00, 0x00,
    0x0f, 0x05, 0x85, 0xc0, 0x78, 0xc9, 0xb8, 0x7e, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x3d, 0xa1, 0x00,
    0x00, 0x00, 0x48, 0x8d, 0x35, 0xa2, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0xb0, 0xb8,
    0x01, 0x00, 0x00, 0x00, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x48, 0x89, 0xe6, 0xba, 0x01, 0x00, 0x00,
    0x00, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0x98, 0xb8, 0x0d, 0x00, 0x00, 0x00, 0xbf, 0x11, 0x00, 0x00,
    0x00, 0x48, 0x8d, 0x35, 0x43, 0x00, 0x00, 0x00, 0x31, 0xd2, 0x41, 0xba, 0x08, 0x00, 0x00, 0x00,
    0x0f, 0x05, 0xb8, 0x0e, 0x00, 0x00, 0x00, 0x31, 0xff, 0x48, 0x8d, 0x35, 0x4b, 0x00, 0x00, 0x00,
    0x31, 0xd2, 0x41, 0xba, 0x08, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xb8, 0x80, 0x00, 0x00, 0x00, 0x48,
    0x8d, 0x3d, 0x35, 0x00, 0x00, 0x00, 0x31, 0xf6, 0x31, 0xd2, 0x41, 0xba, 0x08, 0x00, 0x00, 0x00,
    0x0f, 0x05, 0x85, 0xc0, 0x78, 0xe4, 0xe9, 0x4a, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x40, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x22, 0x05, 0x08, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00,
];

/// The same in aarch64.
///
/// ```asm
///   ldr x20, [sp] ; add x21, sp, 16 ; cmp x20, 1 ; b.le wait ; cmp x20, 2 ; b.eq receive
/// next:
///   ldr x1, [x21] ; cbz x1, done ; ldrb w4, [x1] ; cbz w4, name ; mov x8, 56 ; mov x0, -100
///   mov x2, 1 ; mov x3, 0 ; svc 0 ; tbnz x0, 63, fail ; ldr x1, [x21, 8] ; mov x2, 0
/// length:
///   ldrb w4, [x1, x2] ; cbz w4, write ; add x2, x2, 1 ; b length
/// write:
///   mov x8, 64 ; svc 0 ; tbnz x0, 63, fail ; b pair
/// name:
///   ldr x0, [x21, 8] ; mov x1, 0
/// size:
///   ldrb w4, [x0, x1] ; cbz w4, set_name ; add x1, x1, 1 ; b size
/// set_name:
///   mov x8, 161 ; svc 0 ; tbnz x0, 63, fail
/// pair:
///   add x21, x21, 16 ; b next
/// fail:
///   neg x0, x0 ; b exit
/// done:
///   mov x0, 0
/// exit:
///   mov x8, 94 ; svc 0
/// receive:
///   sub sp, sp, 80 ; mov x8, 63 ; mov x0, 0 ; mov x1, sp ; mov x2, 65 ; svc 0 ; tbnz x0, 63, fail
///   cbz x0, done ; mov x1, x0 ; mov x0, sp ; mov x8, 161 ; svc 0 ; tbnz x0, 63, fail ; mov x8, 91
///   adr x0, header ; adr x1, none ; svc 0 ; tbnz x0, 63, fail ; mov x8, 64 ; mov x0, 1 ; mov x1, sp
///   mov x2, 1 ; svc 0 ; tbnz x0, 63, fail
/// wait:
///   mov x8, 134 ; mov x0, 17 ; adr x1, action ; mov x2, 0 ; mov x3, 8 ; svc 0 ; mov x8, 135
///   mov x0, 0 ; adr x1, set ; mov x2, 0 ; mov x3, 8 ; svc 0
/// again:
///   mov x8, 137 ; adr x0, set ; mov x1, 0 ; mov x2, 0 ; mov x3, 8 ; svc 0 ; tbnz x0, 63, again
///   b done
/// action: .quad 1, 0x2, 0, 0
/// set:    .quad 0x4002
/// header: .long 0x20080522, 0
/// none:   .long 0, 0, 0, 0, 0, 0
/// ```
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xf4, 0x03, 0x40, 0xf9, 0xf5, 0x43, 0x00, 0x91, 0x9f, 0x06, 0x00, 0xf1, 0xed, 0x07, 0x00, 0x54,
    0x9f, 0x0a, 0x00, 0xf1, 0xa0, 0x04, 0x00, 0x54, 0xa1, 0x02, 0x40, 0xf9, 0x01, 0x04, 0x00, 0xb4,
    0x24, 0x00, 0x40, 0x39, 0x24, 0x02, 0x00, 0x34, 0x08, 0x07, 0x80, 0xd2, 0x60, 0x0c, 0x80, 0x92,
    0x22, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xc0, 0x02, 0xf8, 0xb7,
    0xa1, 0x06, 0x40, 0xf9, 0x02, 0x00, 0x80, 0xd2, 0x24, 0x68, 0x62, 0x38, 0x64, 0x00, 0x00, 0x34,
    0x42, 0x04, 0x00, 0x91, 0xfd, 0xff, 0xff, 0x17, 0x08, 0x08, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0xa0, 0x01, 0xf8, 0xb7, 0x0a, 0x00, 0x00, 0x14, 0xa0, 0x06, 0x40, 0xf9, 0x01, 0x00, 0x80, 0xd2,
    0x04, 0x68, 0x61, 0x38, 0x64, 0x00, 0x00, 0x34, 0x21, 0x04, 0x00, 0x91, 0xfd, 0xff, 0xff, 0x17,
    0x28, 0x14, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0x60, 0x00, 0xf8, 0xb7, 0xb5, 0x42, 0x00, 0x91,
    0xe2, 0xff, 0xff, 0x17, 0xe0, 0x03, 0x00, 0xcb, 0x02, 0x00, 0x00, 0x14, 0x00, 0x00, 0x80, 0xd2,
    0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xff, 0x43, 0x01, 0xd1, 0xe8, 0x07, 0x80, 0xd2,
    0x00, 0x00, 0x80, 0xd2, 0xe1, 0x03, 0x00, 0x91, 0x22, 0x08, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0xa0, 0xfe, 0xff, 0xb7, 0xc0, 0xfe, 0xff, 0xb4, 0xe1, 0x03, 0x00, 0xaa, 0xe0, 0x03, 0x00, 0x91,
    0x28, 0x14, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xe0, 0xfd, 0xff, 0xb7, 0x68, 0x0b, 0x80, 0xd2,
    0x00, 0x05, 0x00, 0x10, 0x21, 0x05, 0x00, 0x10, 0x01, 0x00, 0x00, 0xd4, 0x40, 0xfd, 0xff, 0xb7,
    0x08, 0x08, 0x80, 0xd2, 0x20, 0x00, 0x80, 0xd2, 0xe1, 0x03, 0x00, 0x91, 0x22, 0x00, 0x80, 0xd2,
    0x01, 0x00, 0x00, 0xd4, 0x80, 0xfc, 0xff, 0xb7, 0xc8, 0x10, 0x80, 0xd2, 0x20, 0x02, 0x80, 0xd2,
    0x41, 0x02, 0x00, 0x10, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x01, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0xe8, 0x10, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x81, 0x02, 0x00, 0x10, 0x02, 0x00, 0x80, 0xd2,
    0x03, 0x01, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0x28, 0x11, 0x80, 0xd2, 0xe0, 0x01, 0x00, 0x10,
    0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x01, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0x40, 0xff, 0xff, 0xb7, 0xd2, 0xff, 0xff, 0x17, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x22, 0x05, 0x08, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// The program's file.
pub(crate) fn program() -> Vec<u8> {
    elf::file(CODE)
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

    #[test]
    fn with_arguments_it_writes_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for file in [&one, &two] {
            std::fs::write(file, "").unwrap();
        }
        let mut all = Command::new(&path);
        all.arg(&one).arg("1024 65000").arg(&two).arg("");
        assert_eq!(all.status().unwrap().code(), Some(0));
        assert_eq!(std::fs::read_to_string(&one).unwrap(), "1024 65000");
        let mut missing = Command::new(&path);
        missing.arg(dir.path().join("none")).arg("1");
        assert_eq!(missing.status().unwrap().code(), Some(libc::ENOENT));
    }

    /// A shell in a UTS namespace of its own, with the program at hand as `$0`.
    fn in_own_uts(script: &str, path: &std::path::Path) -> Command {
        let mut shell = Command::new("unshare");
        shell.args(["--uts", "sh", "-c", script]).arg(path);
        shell
    }

    #[test]
    fn a_hostname_is_set_by_arguments_or_taken_from_stdin() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = in_own_uts("$0 '' by-argument && hostname", &path).output();
        let output = output.unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "by-argument"
        );

        let mut child = in_own_uts("exec $0 receive", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"by-stdin").unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff"] {
            let line = format!("{set}:\t0000000000000000");
            assert!(status.contains(&line), "{status}");
        }
        let uts = std::fs::File::open(format!("/proc/{}/ns/uts", child.id())).unwrap();
        let name = std::thread::spawn(move || {
            nix::sched::setns(uts, nix::sched::CloneFlags::CLONE_NEWUTS).unwrap();
            nix::unistd::gethostname().unwrap()
        });
        assert_eq!(name.join().unwrap(), "by-stdin");
        // Once it waits for signals, stdin's end is none of its business.
        let settled = || {
            let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.id()));
            call.is_ok_and(|call| call.starts_with(WAIT))
        };
        let end = Instant::now() + Duration::from_secs(10);
        while !settled() {
            assert!(Instant::now() < end, "pause did not settle");
            std::thread::yield_now();
        }
        drop(stdin);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));

        let mut unasked = in_own_uts("exec $0 receive", &path);
        assert_eq!(
            unasked.stdin(Stdio::null()).status().unwrap().code(),
            Some(0)
        );
        let mut long = in_own_uts("printf %065d 1 | $0 receive", &path);
        assert_eq!(long.status().unwrap().code(), Some(libc::EINVAL));
    }
}
