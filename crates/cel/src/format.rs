//! Named formats of strings: what `format.NAME().validate(s)` complains about.

use base64::Engine as _;
use berth_api::names;

use crate::time;
use crate::url::Url;

/// A named format.
pub struct Format {
    /// The name that functions use.
    pub(crate) name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// How long a regular expression would be that checks it: what costs are proportional to.
    pub(crate) regex_size: u64,
}

pub(crate) static FORMATS: [Format; 13] = [
    Format {
        name: "dns1123Label",
        check: names::dns1123_label,
        regex_size: 30,
    },
    Format {
        name: "dns1123Subdomain",
        check: names::dns1123_subdomain,
        regex_size: 60,
    },
    Format {
        name: "dns1035Label",
        check: names::dns1035_label,
        regex_size: 30,
    },
    Format {
        name: "qualifiedName",
        check: names::qualified_name,
        regex_size: 60,
    },
    Format {
        name: "dns1123LabelPrefix",
        check: |s| names::dns1123_label(&masked(s)),
        regex_size: 30,
    },
    Format {
        name: "dns1123SubdomainPrefix",
        check: |s| names::dns1123_subdomain(&masked(s)),
        regex_size: 60,
    },
    Format {
        name: "dns1035LabelPrefix",
        check: |s| names::dns1035_label(&masked(s)),
        regex_size: 30,
    },
    Format {
        name: "labelValue",
        check: names::label_value,
        regex_size: 40,
    },
    Format {
        name: "uri",
        check: |s| Url::parse(s).err().into_iter().collect(),
        regex_size: 1_103,
    },
    Format {
        name: "uuid",
        check: |s| complain(is_uuid(s), "does not match the UUID format"),
        regex_size: 91,
    },
    Format {
        name: "byte",
        check: |s| complain(is_base64(s), "invalid base64"),
        regex_size: 84,
    },
    Format {
        name: "date",
        check: |s| complain(time::date(s).is_some(), "invalid date"),
        regex_size: 91,
    },
    Format {
        name: "datetime",
        check: |s| complain(time::timestamp(s).is_some(), "invalid datetime"),
        regex_size: 91,
    },
];

impl Format {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    pub(crate) fn complaints(&self, text: &str) -> Vec<String> {
        (self.check)(text)
    }
}

/// A prefix of a name may end with a dash or dot: what is generated comes behind it.
fn masked(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn complain(valid: bool, what: &str) -> Vec<String> {
    if valid {
        Vec::new()
    } else {
        vec![what.to_owned()]
    }
}

fn is_base64(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .is_ok()
}

fn is_uuid(text: &str) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (dashes.is_empty() || dashes == [8, 13, 18, 23])
}
