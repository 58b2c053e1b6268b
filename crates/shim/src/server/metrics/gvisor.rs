//! What a container in gVisor uses, by the sentry's own count: the host sees only the sentry.
//!
//! The sentry counts CPU time by container. Memory it counts for the sandbox as a whole: it is divided evenly among the
//! containers, as newer sentries do it themselves, so that the sum is right. Neither is more than what the host's kernel counts
//! for the sandbox: the sentry counts a task that waits for a processor as one that runs, and may be in the hands of what
//! runs in it.

use containerd_shim_protos::cgroups::metrics::{
    CPUStat, CPUUsage, MemoryEntry, MemoryStat, Metrics, PidsStat,
};
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;

use super::control::{self, ControlError, Event};
use super::{Groups, number, pack, table};
use crate::server::container::Container;
use crate::server::error::Error;
use crate::server::io::ChildStdio;

/// A container's figures; nanoseconds, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Figures {
    cpu: u64,
    memory: u64,
    pids: u64,
}

/// What the host's kernel counts for the sandbox, where it does.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    cpu: Option<u64>,
    memory: Option<u64>,
    limit: u64,
}

pub(super) async fn metrics(container: &Container) -> Result<Any, Error> {
    let counted = counted(container.groups());
    let sandbox_id = container.sandbox_id();
    let sandbox = control::Sandbox {
        root: &container.runtime.command.root,
        id: sandbox_id,
        pid: container.init.pid(),
    };
    let figures = match control::event(&sandbox, &container.id).await {
        Ok(event) => {
            container.note_answer();
            figures(&event, &container.id, sandbox_id, counted)
        }
        // A runsc that has its socket elsewhere. One that had it where it was looked for has closed it.
        Err(ControlError::Connect(_)) if !container.has_answered() => by_runsc(container).await?,
        Err(error) => return Err(Error::Invalid(error.to_string())),
    };
    let mut out = Metrics::new();
    let usage = CPUUsage {
        total: container.cpu_time(figures.cpu),
        ..Default::default()
    };
    out.cpu = MessageField::some(CPUStat {
        usage: MessageField::some(usage),
        ..Default::default()
    });
    let memory = figures.memory;
    out.memory = MessageField::some(MemoryStat {
        total_rss: memory,
        rss: memory,
        usage: MessageField::some(MemoryEntry {
            usage: memory,
            limit: counted.limit,
            ..Default::default()
        }),
        ..Default::default()
    });
    out.pids = MessageField::some(PidsStat {
        current: figures.pids,
        ..Default::default()
    });
    Ok(pack("io.containerd.cgroups.v1.Metrics", &out))
}

fn counted(groups: &Groups) -> Counted {
    if let Some(dir) = groups.dir("memory") {
        let cpu = groups
            .dir("cpuacct")
            .map(|dir| number(&dir, "cpuacct.usage"));
        return Counted {
            cpu: cpu.filter(|cpu| *cpu > 0),
            memory: Some(number(&dir, "memory.usage_in_bytes")).filter(|memory| *memory > 0),
            limit: number(&dir, "memory.limit_in_bytes"),
        };
    }
    let Some(dir) = groups.unified() else {
        return Counted::default();
    };
    let cpu = table(&dir, "cpu.stat")
        .get("usage_usec")
        .map(|micro| micro.saturating_mul(1000));
    Counted {
        cpu: cpu.filter(|cpu| *cpu > 0),
        memory: Some(number(&dir, "memory.current")).filter(|memory| *memory > 0),
        limit: number(&dir, "memory.max"),
    }
}

fn figures(event: &Event, id: &str, sandbox: &str, counted: Counted) -> Figures {
    let others = event.cpu.keys().filter(|key| *key != sandbox).count();
    let others = u64::try_from(others).unwrap_or(u64::MAX);
    let memory = event.memory().min(counted.memory.unwrap_or(u64::MAX));
    let memory = match others {
        _ if event.by_container => memory,
        0 => memory,
        _ if id == sandbox => 0,
        others => memory / others,
    };
    let own = event.cpu.get(id).copied().unwrap_or(0);
    let all = event
        .cpu
        .values()
        .fold(0_u128, |sum, cpu| sum + u128::from(*cpu));
    let cpu = match counted.cpu {
        // All of the sandbox's containers together can't have used more.
        Some(most) if all > u128::from(most) => {
            u64::try_from(u128::from(own) * u128::from(most) / all).unwrap_or(most)
        }
        _ => own,
    };
    Figures {
        cpu,
        memory,
        pids: event.pids(),
    }
}

/// By a process of runsc's.
async fn by_runsc(container: &Container) -> Result<Figures, Error> {
    let args = ["--stats", container.id.as_str()];
    let text = container
        .runtime
        .call(&container.bundle, "events", &args, ChildStdio::default())
        .await?;
    let event: serde_json::Value =
        serde_json::from_str(text.trim()).map_err(|source| Error::Malformed {
            what: "runsc's statistics",
            source,
        })?;
    let get = |path: &str| {
        event
            .pointer(path)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    };
    Ok(Figures {
        cpu: get("/data/cpu/usage/total"),
        memory: get("/data/memory/usage/usage"),
        pids: get("/data/pids/current"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(memory: u64, cpu: &str) -> Event {
        let text = format!(
            r#"{{"event":{{"data":{{"memory":{{"usage":{{"usage":{memory}}}}},"pids":{{"current":2}}}}}},"containerUsage":{cpu}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn memory_is_divided_among_the_containers_and_adds_up() {
        let of = |event: &Event, id| figures(event, id, "s", Counted::default()).memory;
        let two = event(1000, r#"{"s":1,"a":2,"b":3}"#);
        assert_eq!((of(&two, "s"), of(&two, "a"), of(&two, "b")), (0, 500, 500));
        let alone = event(1000, r#"{"s":1}"#);
        assert_eq!(of(&alone, "s"), 1000);
        let mut newer = event(300, r#"{"s":1,"a":2,"b":3}"#);
        newer.by_container = true;
        assert_eq!(of(&newer, "a"), 300);
    }

    #[test]
    fn a_sandbox_uses_no_more_than_the_host_counts() {
        let liar = event(u64::MAX, &format!(r#"{{"s":0,"a":{0},"b":{0}}}"#, u64::MAX));
        let counted = Counted {
            cpu: Some(1000),
            memory: Some(600),
            limit: 0,
        };
        let of = |id| figures(&liar, id, "s", counted);
        assert_eq!((of("a").cpu, of("b").cpu), (500, 500));
        assert_eq!((of("a").memory, of("b").memory), (300, 300));
        let honest = event(10, r#"{"s":0,"a":7}"#);
        assert_eq!(figures(&honest, "a", "s", counted).cpu, 7);
        assert_eq!(figures(&honest, "gone", "s", counted).cpu, 0);
    }
}
