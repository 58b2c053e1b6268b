//! Runs a program for what it prints, within bounds: a program named in a configuration may be any program.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::OFlags;

/// How long a program may take to say what it is.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much it may say, on each of its two streams.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How often a running program is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// What a program printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Runs `command` without input to its end. One that takes longer than ten seconds or prints more than a mebibyte is
/// killed with all processes of its group. Blocks.
///
/// # Errors
/// When it can't be started, or was killed.
pub fn ask(command: &mut Command) -> io::Result<Answer> {
    ask_within(command, DEADLINE, OUTPUT_LIMIT)
}

fn ask_within(command: &mut Command, deadline: Duration, limit: usize) -> io::Result<Answer> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let answer = follow(&mut child, deadline, limit);
    if answer.is_err() {
        if let Ok(id) = i32::try_from(child.id()) {
            // The group, since a shell's command would live on.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    answer
}

fn follow(child: &mut Child, deadline: Duration, limit: usize) -> io::Result<Answer> {
    let end = Instant::now() + deadline;
    let mut stdout = Stream::new(child.stdout.take())?;
    let mut stderr = Stream::new(child.stderr.take())?;
    loop {
        // Looked at before the streams are read: what an ended program has written is all there is then, whoever else
        // may hold its pipes.
        let ended = child.try_wait()?;
        stdout.drain(limit)?;
        stderr.drain(limit)?;
        if let Some(status) = ended {
            return Ok(Answer {
                status,
                stdout: stdout.bytes,
                stderr: stderr.bytes,
            });
        }
        if Instant::now() >= end {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "it did not end within {} s and was killed",
                    deadline.as_secs()
                ),
            ));
        }
        std::thread::sleep(PAUSE);
    }
}

/// One of the program's streams, read without waiting.
struct Stream<T> {
    pipe: Option<T>,
    bytes: Vec<u8>,
}

impl<T: Read + AsFd> Stream<T> {
    fn new(pipe: Option<T>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            let flags = rustix::fs::fcntl_getfl(pipe)?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            pipe,
            bytes: Vec::new(),
        })
    }

    fn drain(&mut self, limit: usize) -> io::Result<()> {
        let mut buffer = [0; 8192];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.bytes
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if self.bytes.len() > limit {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("it printed more than {limit} bytes and was killed"),
                        ));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: u64) -> io::Result<Answer> {
        let deadline = Duration::from_secs(seconds);
        ask_within(Command::new("sh").args(["-c", script]), deadline, 1000)
    }

    #[test]
    fn both_streams_and_the_end_are_told() {
        let answer = shell("echo out; echo err >&2; exit 3", 10).expect("an answer");
        assert_eq!(answer.status.code(), Some(3));
        assert_eq!(answer.stdout, b"out\n");
        assert_eq!(answer.stderr, b"err\n");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let begun = Instant::now();
        let error = shell("sleep 1000 & wait", 1).expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_prints_without_end_is_killed() {
        let error = shell("yes", 60).expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }

    #[test]
    fn whoever_keeps_its_streams_open_is_not_waited_for() {
        let begun = Instant::now();
        let answer = shell("echo out; sleep 20 & exit 0", 60).expect("an answer");
        assert_eq!(answer.stdout, b"out\n");
        assert!(begun.elapsed() < Duration::from_secs(15));
    }
}
