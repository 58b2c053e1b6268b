//! Commands under a container's seccomp filter in a gVisor, which starts executed commands without.
//!
//! A static program of a few instructions, made for each container with its filter in it, lies in the
//! container at [`PLACE`]. Its arguments are the files that may be the command, an empty one, and the
//! command's arguments. It puts itself under the filter and becomes the first file that there is.

use std::path::Path;

use berth_oci::{RuntimeProcess, Spec};

use crate::elf;

/// Where the program is in the container.
pub(crate) const PLACE: &str = "/.berth-exec";

/// The code; the filter's `struct sock_fprog` follows it, and then its instructions.
///
/// ```asm
///   mov rbx, [rsp]
///   lea r12, [rsp+16]
///   lea r14, [rsp+rbx*8+16]
///   mov eax, 317
///   mov edi, 1
///   xor esi, esi
///   lea rdx, [rip+filter]
///   syscall
///   test eax, eax
///   jz find
///   mov eax, 157
///   mov edi, 38
///   mov esi, 1
///   xor edx, edx
///   xor r10d, r10d
///   xor r8d, r8d
///   syscall
///   mov eax, 317
///   mov edi, 1
///   xor esi, esi
///   lea rdx, [rip+filter]
///   syscall
///   test eax, eax
///   jnz fail
/// find:
///   mov r13, r12
/// scan:
///   mov rax, [r13]
///   test rax, rax
///   jz fail
///   add r13, 8
///   cmp byte ptr [rax], 0
///   jne scan
/// try:
///   mov rdi, [r12]
///   cmp byte ptr [rdi], 0
///   je fail
///   mov rsi, r13
///   mov rdx, r14
///   mov eax, 59
///   syscall
///   add r12, 8
///   jmp try
/// fail:
///   mov edi, 127
///   mov eax, 231
///   syscall
///   .p2align 3
/// filter:
/// ```
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0x48, 0x8b, 0x1c, 0x24, 0x4c, 0x8d, 0x64, 0x24, 0x10, 0x4c, 0x8d, 0x74, 0xdc, 0x10, 0xb8, 0x3d,
    0x01, 0x00, 0x00, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x31, 0xf6, 0x48, 0x8d, 0x15, 0x77, 0x00, 0x00,
    0x00, 0x0f, 0x05, 0x85, 0xc0, 0x74, 0x32, 0xb8, 0x9d, 0x00, 0x00, 0x00, 0xbf, 0x26, 0x00, 0x00,
    0x00, 0xbe, 0x01, 0x00, 0x00, 0x00, 0x31, 0xd2, 0x45, 0x31, 0xd2, 0x45, 0x31, 0xc0, 0x0f, 0x05,
    0xb8, 0x3d, 0x01, 0x00, 0x00, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x31, 0xf6, 0x48, 0x8d, 0x15, 0x45,
    0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xc0, 0x75, 0x31, 0x4d, 0x89, 0xe5, 0x49, 0x8b, 0x45, 0x00,
    0x48, 0x85, 0xc0, 0x74, 0x25, 0x49, 0x83, 0xc5, 0x08, 0x80, 0x38, 0x00, 0x75, 0xee, 0x49, 0x8b,
    0x3c, 0x24, 0x80, 0x3f, 0x00, 0x74, 0x13, 0x4c, 0x89, 0xee, 0x4c, 0x89, 0xf2, 0xb8, 0x3b, 0x00,
    0x00, 0x00, 0x0f, 0x05, 0x49, 0x83, 0xc4, 0x08, 0xeb, 0xe4, 0xbf, 0x7f, 0x00, 0x00, 0x00, 0xb8,
    0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x66, 0x90,
];
/// The same in aarch64.
///
/// ```asm
///   ldr x20, [sp]
///   add x21, sp, 16
///   add x22, x21, x20, lsl 3
///   mov x8, 277
///   mov x0, 1
///   mov x1, 0
///   adr x2, filter
///   svc 0
///   cbz x0, find
///   mov x8, 167
///   mov x0, 38
///   mov x1, 1
///   mov x2, 0
///   mov x3, 0
///   mov x4, 0
///   svc 0
///   mov x8, 277
///   mov x0, 1
///   mov x1, 0
///   adr x2, filter
///   svc 0
///   cbnz x0, fail
/// find:
///   mov x23, x21
/// scan:
///   ldr x0, [x23]
///   cbz x0, fail
///   add x23, x23, 8
///   ldrb w1, [x0]
///   cbnz w1, scan
/// try:
///   ldr x0, [x21]
///   ldrb w1, [x0]
///   cbz w1, fail
///   mov x1, x23
///   mov x2, x22
///   mov x8, 221
///   svc 0
///   add x21, x21, 8
///   b try
/// fail:
///   mov x0, 127
///   mov x8, 94
///   svc 0
///   .p2align 3
/// filter:
/// ```
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xf4, 0x03, 0x40, 0xf9, 0xf5, 0x43, 0x00, 0x91, 0xb6, 0x0e, 0x14, 0x8b, 0xa8, 0x22, 0x80, 0xd2,
    0x20, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x42, 0x04, 0x00, 0x10, 0x01, 0x00, 0x00, 0xd4,
    0xc0, 0x01, 0x00, 0xb4, 0xe8, 0x14, 0x80, 0xd2, 0xc0, 0x04, 0x80, 0xd2, 0x21, 0x00, 0x80, 0xd2,
    0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x04, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    0xa8, 0x22, 0x80, 0xd2, 0x20, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0xa2, 0x02, 0x00, 0x10,
    0x01, 0x00, 0x00, 0xd4, 0x00, 0x02, 0x00, 0xb5, 0xf7, 0x03, 0x15, 0xaa, 0xe0, 0x02, 0x40, 0xf9,
    0xa0, 0x01, 0x00, 0xb4, 0xf7, 0x22, 0x00, 0x91, 0x01, 0x00, 0x40, 0x39, 0x81, 0xff, 0xff, 0x35,
    0xa0, 0x02, 0x40, 0xf9, 0x01, 0x00, 0x40, 0x39, 0xe1, 0x00, 0x00, 0x34, 0xe1, 0x03, 0x17, 0xaa,
    0xe2, 0x03, 0x16, 0xaa, 0xa8, 0x1b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xb5, 0x22, 0x00, 0x91,
    0xf8, 0xff, 0xff, 0x17, 0xe0, 0x0f, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
];

/// The program's file for a filter in the kernel's instructions of eight bytes.
pub(crate) fn program(filter: &[u8]) -> Vec<u8> {
    let mut content = CODE.to_vec();
    let instructions = u64::try_from(filter.len() / 8).unwrap_or(0);
    content.extend_from_slice(&instructions.to_le_bytes());
    content.extend_from_slice(&elf::address(CODE.len() + 16).to_le_bytes());
    content.extend_from_slice(filter);
    elf::file(&content)
}

/// Whether a container has the program.
pub(crate) fn has(spec: &Spec) -> bool {
    let mounts = spec.mounts();
    mounts
        .iter()
        .flatten()
        .any(|mount| mount.destination() == Path::new(PLACE))
}

/// Lets the program start the process' command.
pub(crate) fn wrap(process: &mut RuntimeProcess) {
    let args = process.args().clone().unwrap_or_default();
    let Some(command) = args.first() else {
        return;
    };
    let env = process.env().clone().unwrap_or_default();
    let path = env.iter().find_map(|line| line.strip_prefix("PATH="));
    let mut out = vec![PLACE.to_owned()];
    if command.contains('/') {
        out.push(command.clone());
    } else {
        let folders = path.unwrap_or("/bin:/usr/bin").split(':');
        out.extend(
            folders
                .filter(|folder| !folder.is_empty())
                .map(|folder| format!("{folder}/{command}")),
        );
    }
    out.push(String::new());
    out.extend(args);
    process.set_args(Some(out));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// errno 1 for one call, whatever its arguments; everything else is allowed.
    fn denying(call: libc::c_long) -> Vec<u8> {
        let call = u32::try_from(call).unwrap();
        [
            (0x20, 0, 0, 0),           // load the number
            (0x15, 0, 1, call),        // is it that one?
            (0x06, 0, 0, 0x0005_0001), // errno 1
            (0x06, 0, 0, 0x7fff_0000), // allow
        ]
        .iter()
        .flat_map(|(code, yes, no, k): &(u16, u8, u8, u32)| {
            let mut word = code.to_ne_bytes().to_vec();
            word.extend([*yes, *no]);
            word.extend(k.to_ne_bytes());
            word
        })
        .collect()
    }

    #[test]
    fn a_command_runs_under_the_filter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exec");
        std::fs::write(&path, program(&denying(libc::SYS_sethostname))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let run = |args: &[&str]| {
            let output = Command::new(&path)
                .args(args)
                .env("X", "of the environment")
                .output();
            let output = output.unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap(),
            )
        };
        let script = "echo $0 $1 $X; grep -c 'Seccomp:.2' /proc/self/status";
        assert_eq!(
            run(&["/none/sh", "/bin/sh", "", "sh", "-c", script, "zero", "one"]),
            (Some(0), "zero one of the environment\n1\n".to_owned())
        );
        assert_eq!(run(&["/none/sh", "", "sh"]).0, Some(127));
        assert_eq!(run(&["/none/sh"]).0, Some(127));
    }

    #[test]
    fn commands_are_looked_for_in_the_containers_path() {
        let wrapped = |command: &str| {
            let mut process = RuntimeProcess::default();
            process.set_env(Some(vec!["A=b".to_owned(), "PATH=/x::/y".to_owned()]));
            process.set_args(Some(vec![command.to_owned(), "-l".to_owned()]));
            wrap(&mut process);
            process.args().clone().unwrap()
        };
        assert_eq!(wrapped("ls"), [PLACE, "/x/ls", "/y/ls", "", "ls", "-l"]);
        assert_eq!(wrapped("./ls"), [PLACE, "./ls", "", "./ls", "-l"]);
    }
}
