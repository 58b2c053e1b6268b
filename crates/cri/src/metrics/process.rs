//! Samples from the container's processes.

use super::Sample;

pub(super) fn samples(pids: &[u32]) -> Vec<Sample> {
    let processes = u64::try_from(pids.len()).unwrap_or(u64::MAX);
    let mut samples = open_files(pids);
    samples.push(("container_processes", Vec::new(), processes));
    samples
}

/// What processes have open.
pub(super) fn open_files(pids: &[u32]) -> Vec<Sample> {
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
    vec![
        ("container_file_descriptors", Vec::new(), descriptors),
        ("container_sockets", Vec::new(), sockets),
    ]
}
