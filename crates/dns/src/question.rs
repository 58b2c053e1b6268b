//! What somebody else is asked, and under which its answer is kept.

use hickory_proto::rr::{Name, RecordType};

/// What is asked; equal whatever the case of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// In lower case.
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

impl Question {
    pub(crate) fn new(
        name: &Name,
        kind: RecordType,
        dnssec_ok: bool,
        checking_disabled: bool,
    ) -> Self {
        let mut name = name.to_lowercase();
        name.set_fqdn(true);
        Self {
            name,
            kind,
            dnssec_ok,
            checking_disabled,
        }
    }
}
