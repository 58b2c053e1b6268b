//! Stop signals: as images write them, as the CRI numbers them, as the kernel does.

use berth_cri_api::signal::name;
use berth_cri_api::v1::Signal;

pub(crate) const SIGKILL: u32 = 9;
pub(crate) const SIGTERM: u32 = 15;

/// glibc's first and last real-time signals; it keeps two of the kernel's for itself.
const SIGRTMIN: u32 = 34;
const SIGRTMAX: u32 = 64;

/// The kernel's number of `SIGQUIT`, `QUIT`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
pub(crate) fn number(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse::<u32>() {
        return (1..=SIGRTMAX).contains(&number).then_some(number);
    }
    let name = name.to_uppercase();
    let short = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |rest: &str, sign| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse().ok().filter(|n| *n <= 30),
    };
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return Some(SIGRTMIN + offset(rest, '+')?);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        return Some(SIGRTMAX - offset(rest, '-')?);
    }
    let short = match short {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    let signal: nix::sys::signal::Signal = format!("SIG{short}").parse().ok()?;
    u32::try_from(signal as i32).ok()
}

/// The CRI's word for a stop signal; one that nobody chose is SIGTERM.
pub(super) fn of_name(text: &str) -> Signal {
    let wanted = if text.is_empty() {
        Some(SIGTERM)
    } else {
        number(text)
    };
    (1..)
        .map_while(|value| Signal::try_from(value).ok())
        .find(|signal| number(&name(*signal)) == wanted)
        .unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_every_name() {
        for (text, expected) in [
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("15", Some(15)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGPOLL", Some(29)),
            ("SIGNONE", None),
            ("99", None),
            ("RTMIN-1", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn every_signal_of_the_cri_is_one_of_the_kernels() {
        let mut count = 0;
        for signal in (1..).map_while(|value| Signal::try_from(value).ok()) {
            let text = name(signal);
            let kernel = number(&text);
            assert!(kernel.is_some(), "{text}");
            assert_eq!(number(&name(of_name(&text))), kernel, "{text}");
            count += 1;
        }
        assert_eq!(count, 65);
        assert_eq!(of_name(""), Signal::Sigterm);
        assert_eq!(of_name("SIGRTMIN+3"), Signal::Sigrtminplus3);
        assert_eq!(of_name("nonsense"), Signal::RuntimeDefault);
    }
}
