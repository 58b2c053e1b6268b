//! The command line of a shim v2.

use std::path::PathBuf;

/// What whoever starts the shim says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    pub(crate) action: String,
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) address: String,
    pub(crate) publish_binary: String,
    pub(crate) bundle: String,
    /// `BERTH_TESTVM_DIR`.
    pub(crate) dir: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(words: Vec<String>) -> Result<Self, String> {
        let mut arguments = Self {
            dir: std::env::var_os("BERTH_TESTVM_DIR")
                .map(PathBuf::from)
                .ok_or("BERTH_TESTVM_DIR is not set")?,
            ..Self::default()
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "-id" => arguments.id = value()?,
                "-namespace" => arguments.namespace = value()?,
                "-address" => arguments.address = value()?,
                "-publish-binary" => arguments.publish_binary = value()?,
                "-bundle" => arguments.bundle = value()?,
                "-debug" => {}
                // So that each process of a sandbox can be told from another test's.
                "-dir" => drop(value()?),
                action => arguments.action = action.to_owned(),
            }
        }
        // As Kata does.
        if arguments.id.is_empty()
            || arguments.namespace.is_empty()
            || arguments.publish_binary.is_empty()
        {
            return Err("ArgumentIsEmpty: id, namespace and publish_binary".to_owned());
        }
        Ok(arguments)
    }

    /// What stays of a sandbox whose shim was killed.
    pub(crate) fn shared(&self, sandbox: &str) -> PathBuf {
        self.dir.join("shared/sandboxes").join(sandbox)
    }

    /// The sandbox's socket.
    pub(crate) fn socket(&self, sandbox: &str) -> PathBuf {
        let short = sandbox.get(..16).unwrap_or(sandbox);
        self.dir.join("s").join(short)
    }
}
