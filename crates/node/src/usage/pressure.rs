//! How long tasks waited (pressure stall information), where the kernel keeps it: for the machine, and for cgroups of
//! version 2. Where it does not, there is none, which is not the same as no pressure.

use std::path::Path;

use serde_json::{Value, json};

use super::files::text;

/// One line: all tasks (`full`) or at least one (`some`) waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stall {
    /// Since the beginning, in nanoseconds.
    pub(crate) total_ns: u64,
    /// Percent of the last 10, 60 and 300 seconds.
    averages: [f64; 3],
}

/// Pressure on one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    pub(crate) some: Stall,
    pub(crate) full: Option<Stall>,
}

/// Pressure on all that the kernel tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressures {
    pub(crate) cpu: Option<Pressure>,
    pub(crate) memory: Option<Pressure>,
    pub(crate) io: Option<Pressure>,
}

/// Reads `PREFIXcpuSUFFIX` and so on.
pub(crate) fn read(dir: &Path, prefix: &str, suffix: &str) -> Pressures {
    let of = |resource: &str| parse(&text(dir, &format!("{prefix}{resource}{suffix}"))?);
    Pressures {
        cpu: of("cpu"),
        memory: of("memory"),
        io: of("io"),
    }
}

/// The machine's.
pub(crate) fn machine() -> Pressures {
    read(Path::new("/proc/pressure"), "", "")
}

fn parse(text: &str) -> Option<Pressure> {
    Some(Pressure {
        some: line(text, "some ")?,
        full: line(text, "full "),
    })
}

fn line(text: &str, kind: &str) -> Option<Stall> {
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let value = |key: &str| {
        let mut words = line.split(' ');
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let average = |key: &str| value(key)?.parse::<f64>().ok().filter(|n| n.is_finite());
    Some(Stall {
        // The kernel counts microseconds.
        total_ns: value("total")?.parse::<u64>().ok()?.saturating_mul(1000),
        averages: [average("avg10")?, average("avg60")?, average("avg300")?],
    })
}

impl Stall {
    fn json(&self) -> Value {
        let [avg10, avg60, avg300] = self.averages;
        json!({"total": self.total_ns, "avg10": avg10, "avg60": avg60, "avg300": avg300})
    }
}

impl Pressure {
    /// As the stock summary has it.
    pub(crate) fn json(&self) -> Value {
        let full = self.full.as_ref().map(Stall::json);
        json!({"some": self.some.json(), "full": full.unwrap_or_else(|| Stall::default().json())})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pressure_is_none() {
        for text in [
            "",
            "some",
            "some avg10=1 avg60=1 avg300=1",
            "some avg10=inf avg60=1 avg300=1 total=1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let read = parse("some avg10=0.50 avg60=0.00 avg300=0.00 total=4\n").unwrap();
        assert_eq!(read.json()["some"]["total"], 4000);
        assert_eq!(read.json()["some"]["avg10"], 0.5);
    }
}
