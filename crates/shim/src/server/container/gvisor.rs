//! What only gVisor's containers need: their processes are the sandbox's own, invisible to the host.

use super::Container;
use crate::server::error::Error;
use crate::server::io::ChildStdio;

impl Container {
    /// Signals a process inside the sandbox by its pid there; with `all` its descendants, too.
    pub(super) async fn signal_inside(
        &self,
        root: i32,
        signal: u32,
        all: bool,
    ) -> Result<(), Error> {
        let mut pids = vec![root];
        if all {
            let table = ["--format", "table", self.id.as_str()];
            let text = self
                .runtime
                .call(&self.bundle, "ps", &table, ChildStdio::default())
                .await?;
            pids = tree(root, &text);
        }
        let mut result = Ok(());
        for pid in pids {
            let (target, number) = (pid.to_string(), signal.to_string());
            let args = ["--pid", &target, &self.id, &number];
            let sent = self
                .runtime
                .call(&self.bundle, "kill", &args, ChildStdio::default())
                .await;
            // Descendants may be gone by now; whether the process itself was there is what counts.
            if pid == root {
                result = sent.map(drop);
            }
        }
        result
    }
}

/// `root` and all that descend from it, in the table that `runsc ps` prints (UID PID PPID ...).
fn tree(root: i32, table: &str) -> Vec<i32> {
    let rows: Vec<(i32, i32)> = table
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace().skip(1);
            Some((columns.next()?.parse().ok()?, columns.next()?.parse().ok()?))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for (pid, ppid) in &rows {
            if *ppid == parent && !found.contains(pid) {
                found.push(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_in_runscs_table() {
        let table = "UID       PID       PPID      C         TTY       STIME     TIME      CMD\n\
                     0         1         0         0         ?         21:20     0s        sleep\n\
                     0         7         0         0         ?         21:20     0s        sh\n\
                     0         9         8         0         ?         21:20     0s        sleep\n\
                     0         8         7         0         ?         21:20     0s        sh\n";
        assert_eq!(tree(7, table), [7, 8, 9]);
        assert_eq!(tree(5, table), [5]);
    }
}
