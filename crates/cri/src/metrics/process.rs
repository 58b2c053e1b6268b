//! Samples from the container's processes.

use super::Sample;

pub(super) fn samples(pids: &[u32]) -> Vec<Sample> {
    let (mut descriptors, mut sockets) = (0, 0);
    for pid in pids {
        // A process that has ended meanwhile has none.
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            descriptors += 1;
            let is_socket = std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
            sockets += u64::from(is_socket);
        }
    }
    let processes = u64::try_from(pids.len()).unwrap_or(u64::MAX);
    vec![
        ("container_file_descriptors", Vec::new(), descriptors),
        ("container_sockets", Vec::new(), sockets),
        ("container_processes", Vec::new(), processes),
    ]
}
