//! The CRI's signals by the names that people write: `SIGUSR1`, `SIGRTMIN+3`.

use crate::v1::Signal;

/// A signal's name; empty for the runtime's default.
#[must_use]
pub fn name(signal: Signal) -> String {
    if signal == Signal::RuntimeDefault {
        return String::new();
    }
    signal
        .as_str_name()
        .trim_start_matches("SIGNAL_")
        .replace("PLUS", "+")
        .replace("MINUS", "-")
}

/// The signal of a name, as [`name`] gives it.
#[must_use]
pub fn named(text: &str) -> Option<Signal> {
    let text = text.replace('+', "PLUS").replace('-', "MINUS");
    Signal::from_str_name(&format!("SIGNAL_{text}")).filter(|_| text.starts_with("SIG"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_signals() {
        let all = (1..).map_while(|value| Signal::try_from(value).ok());
        assert_eq!(all.clone().count(), 65);
        for signal in all {
            assert_eq!(named(&name(signal)), Some(signal));
        }
        assert_eq!(name(Signal::Sigrtmaxminus3), "SIGRTMAX-3");
        assert_eq!(name(Signal::RuntimeDefault), "");
        assert_eq!(named("RUNTIME_DEFAULT"), None);
        assert_eq!(named("SIGNONE"), None);
    }
}
