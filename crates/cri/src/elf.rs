//! Static programs of a few instructions, as files.

/// Where a file is mapped.
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;
/// The machine's number in the ELF header.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
/// The machine's number in the ELF header.
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// The address that the content's byte at `offset` has in memory.
pub(crate) fn address(offset: usize) -> u64 {
    BASE + u64::try_from(HEADERS + offset).unwrap_or(0)
}

/// An executable that is mapped as it is, and starts at the content's first byte.
pub(crate) fn file(content: &[u8]) -> Vec<u8> {
    let size = u64::try_from(HEADERS + content.len()).unwrap_or(u64::MAX);
    let mut file = Vec::with_capacity(HEADERS + content.len());
    // ELF, 64 bits, little-endian, version 1, System V.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&2u16.to_le_bytes()); // ET_EXEC
    file.extend_from_slice(&MACHINE.to_le_bytes());
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&address(0).to_le_bytes());
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
    file.extend_from_slice(content);
    file
}
