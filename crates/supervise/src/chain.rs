//! An error with its causes, for a log line.

use std::error::Error;
use std::fmt;

/// The error and each of its causes once: many types print their cause themselves.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<Layer>>,
    }

    #[test]
    fn causes_follow_unless_they_were_said() {
        let layer = |text, cause: Option<Layer>| Layer {
            text,
            cause: cause.map(Box::new),
        };
        let inner = layer("connection refused", None);
        let error = layer(
            "client error",
            Some(layer("client error (Connect)", Some(inner))),
        );
        assert_eq!(
            Chain(&error).to_string(),
            "client error: client error (Connect): connection refused"
        );
        let twice = layer("cannot: refused", Some(layer("refused", None)));
        assert_eq!(Chain(&twice).to_string(), "cannot: refused");
    }
}
