//! The "virtual machine": a PID namespace whose PID 1 is the VMM. Whoever kills the VMM ends all that runs in it.

use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::network::{self, Wire};

type Job = Box<dyn FnOnce() + Send>;

/// A booted virtual machine.
pub(crate) struct Guest {
    /// The VMM's PID on the host.
    pub(crate) pid: u32,
    vmm: Child,
    virtiofsd: Child,
    jobs: mpsc::Sender<Job>,
}

impl Guest {
    /// Boots one; `exits` hears of each process that ends there, by its PID there, and at last `None`: the VMM has ended.
    /// With a wire the VMM passes its frames on.
    pub(crate) fn boot(
        dir: &Path,
        id: &str,
        wire: Option<Wire>,
        exits: impl Fn(Option<(u32, u32)>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (booted, boots) = mpsc::channel();
        let mut vmm = program("vmm", dir, id)?;
        if let Some(wire) = wire {
            vmm.arg("-tap").stdin(wire.outside).stderr(wire.inside);
        }
        // The namespace is the thread's: all that it starts is in there, and the first is PID 1.
        std::thread::spawn(move || {
            let _ = booted.send(first(vmm));
            queue.into_iter().for_each(|job| job());
        });
        let (vmm, reader) = boots.recv().map_err(io::Error::other)??;
        let virtiofsd = program("virtiofsd", dir, id)?.spawn()?;
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Some((pid, code)) = line.split_once(' ')
                    && let (Ok(pid), Ok(code)) = (pid.parse(), code.parse())
                {
                    exits(Some((pid, code)));
                }
            }
            exits(None);
        });
        Ok(Self {
            pid: vmm.id(),
            vmm,
            virtiofsd,
            jobs,
        })
    }

    /// A way to run commands inside.
    pub(crate) fn hands(&self) -> Hands {
        Hands(self.jobs.clone())
    }

    /// Switches it off.
    pub(crate) fn stop(&mut self) {
        for child in [&mut self.vmm, &mut self.virtiofsd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs commands in a guest.
#[derive(Clone)]
pub(crate) struct Hands(mpsc::Sender<Job>);

impl Hands {
    /// Starts a command inside and waits for its end. Blocks.
    pub(crate) fn run(&self, mut command: Command) -> io::Result<std::process::ExitStatus> {
        let (done, end) = mpsc::channel();
        let job = Box::new(move || drop(done.send(command.status())));
        let gone = |_| io::Error::other("the virtual machine is off");
        self.0.send(job).map_err(gone)?;
        end.recv().map_err(io::Error::other)?
    }
}

fn first(mut vmm: Command) -> io::Result<(Child, PipeReader)> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    let (reader, writer) = io::pipe()?;
    let child = vmm.stdout(writer).spawn()?;
    Ok((child, reader))
}

fn program(name: &str, dir: &Path, id: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(name)
        .args(["-name", &format!("sandbox-{id}"), "-dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // As QEMU, which goes into the background: no signal to the shim's group reaches it.
        .process_group(0);
    Ok(command)
}

/// A command that runs in the guest, where /proc shows the guest's processes.
pub(crate) fn inside_command(command: &str) -> io::Result<Command> {
    let mut all = Command::new(std::env::current_exe()?);
    all.args(["inside", command]);
    Ok(all)
}

/// `inside COMMAND...`: gives itself the guest's /proc and becomes the command.
pub(crate) fn inside(words: Vec<String>) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| e.to_string())?;
    let none = None::<&str>;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .map_err(|e| format!("mount /proc: {e}"))?;
    let (program, rest) = words.split_first().ok_or("inside needs a command")?;
    Err(Command::new(program).args(rest).exec().to_string())
}

/// `signal NUMBER PID`.
pub(crate) fn signal(words: Vec<String>) -> Result<(), String> {
    let number = |index: usize| -> Result<i32, String> {
        let word = words.get(index).ok_or("signal needs a number and a PID")?;
        word.parse::<i32>().map_err(|e| e.to_string())
    };
    let signal = Signal::try_from(number(0)?).map_err(|e| e.to_string())?;
    kill(Pid::from_raw(number(1)?), signal).map_err(|e| e.to_string())
}

/// The VMM: tells of each process that ends, until SIGTERM, and carries frames where the guest has a tap device.
pub(crate) fn vmm(has_tap: bool) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|e| e.to_string())?;
    if has_tap {
        network::carry().map_err(|e| e.to_string())?;
    }
    let mut stdout = io::stdout();
    loop {
        if signals.wait().map_err(|e| e.to_string())? == Signal::SIGTERM {
            return Ok(());
        }
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(_) | Err(_) => break,
            };
            // A shim that is gone hears nothing.
            let _ = writeln!(stdout, "{pid} {code}").and_then(|()| stdout.flush());
        }
    }
}

/// Serves nothing, until it is ended.
pub(crate) fn virtiofsd() -> Result<(), String> {
    loop {
        std::thread::park();
    }
}
