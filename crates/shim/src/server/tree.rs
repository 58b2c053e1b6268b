//! A process and all that descend from it.

use std::collections::HashSet;

/// The pids of `root`, of its descendants, and of all in the session that it leads (a daemon's child may have lost
/// its parent, but not its session).
pub(super) fn tree(root: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec![root];
    };
    let mut processes: Vec<(i32, i32, i32)> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| parent_and_session(pid).map(|(parent, session)| (pid, parent, session)))
        .collect();
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        processes.retain(|(pid, parent, session)| {
            let ours = *session == root || found.contains(parent) || *pid == root;
            if ours {
                found.insert(*pid);
            }
            !ours
        });
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// Fields 4 and 6 of /proc/PID/stat; the name before them may hold blanks and parentheses.
fn parent_and_session(pid: i32) -> Option<(i32, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some((parent, session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::os::unix::process::CommandExt;

    #[test]
    fn finds_children_and_orphans_of_the_session() {
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args([
                "-c",
                "(sleep 1000 & echo orphan $!); sleep 1000 & echo child $!; wait",
            ])
            .stdout(std::process::Stdio::piped());
        // SAFETY: setsid is a plain system call.
        unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
        let mut child = command.spawn().expect("sh");
        let root = i32::try_from(child.id()).expect("pid");
        let lines = std::io::BufReader::new(child.stdout.take().expect("stdout")).lines();
        let pids: Vec<i32> = lines
            .take(2)
            .map(|l| {
                l.expect("line")
                    .rsplit_once(' ')
                    .expect("pid")
                    .1
                    .parse()
                    .expect("number")
            })
            .collect();
        let found = tree(root);
        for pid in found.iter().copied() {
            let pid = rustix::process::Pid::from_raw(pid).expect("pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.wait().expect("wait");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(pids.iter().all(|p| found.contains(p)), "{pids:?} {found:?}");
    }
}
