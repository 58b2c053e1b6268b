//! Bootstrap tokens, `ID.SECRET`. The ID is no secret: it is in the name of the token's user and of its Secret.

use std::fmt;

use anyhow::{Context as _, bail};
use rand::RngExt as _;

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token; what is printed of it for people and logs is its ID.
#[derive(Clone)]
pub(crate) struct BootstrapToken {
    id: String,
    secret: String,
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({}.…)", self.id)
    }
}

impl BootstrapToken {
    /// Reads `ID.SECRET`.
    ///
    /// # Errors
    /// When it has another form. The error does not show it.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (id, secret) = text
            .trim()
            .split_once('.')
            .context("a bootstrap token has the form ID.SECRET")?;
        if !is_id(id) || !fits(secret, SECRET_LENGTH) {
            bail!(
                "a bootstrap token has the form ID.SECRET, {ID_LENGTH} and {SECRET_LENGTH} characters of a-z and 0-9"
            );
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// A new one.
    #[must_use]
    pub(crate) fn generate() -> Self {
        Self {
            id: random(ID_LENGTH),
            secret: random(SECRET_LENGTH),
        }
    }

    /// What it is known by.
    #[must_use]
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What must stay secret.
    #[must_use]
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// The whole token.
    #[must_use]
    pub(crate) fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Whether it can be the ID of a token.
#[must_use]
pub(crate) fn is_id(id: &str) -> bool {
    fits(id, ID_LENGTH)
}

fn fits(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| LETTERS.contains(&byte))
}

/// All letters equally often: numbers past the last whole multiple of their count are drawn again.
fn random(length: usize) -> String {
    let mut random = rand::rng();
    let bound = u8::MAX - u8::MAX % 36;
    std::iter::repeat_with(|| random.random::<u8>())
        .filter(|byte| *byte < bound)
        .map(|byte| char::from(LETTERS[usize::from(byte % 36)]))
        .take(length)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_made_is_read_and_not_shown() {
        let made = BootstrapToken::generate();
        let read = BootstrapToken::parse(&format!(" {}\n", made.reveal())).unwrap();
        assert_eq!(read.reveal(), made.reveal());
        assert_ne!(made.secret(), BootstrapToken::generate().secret());
        assert!(!format!("{made:?}").contains(made.secret()));
    }

    #[test]
    fn another_form_is_refused_without_being_shown() {
        for wrong in [
            "",
            "abcdef",
            "abcdef.0123456789abcde",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcdef0",
            "abcdef.0123456789abcde!",
        ] {
            let error = BootstrapToken::parse(wrong).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
