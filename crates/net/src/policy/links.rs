//! The ports of the pods' bridge, and which pod is behind each: the kernel itself keeps it, as the alias of the interface, which
//! `berth cri` writes when a pod joins the network, and `port.rs` for other runtimes. It outlives every part of berth, and no pod can change it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// How an alias begins: `berth UID MAC IP...`.
pub(super) const MARK: &str = "berth";
/// The interfaces of this machine.
pub(super) const INTERFACES: &str = "/sys/class/net";

/// A port of the bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    /// The interface's name.
    pub(crate) name: String,
    /// The pod behind it.
    pub(crate) uid: String,
    /// The pod's hardware address.
    pub(crate) mac: String,
    /// The pod's addresses.
    pub(crate) addresses: Vec<IpAddr>,
}

/// All ports of a bridge that have a pod behind them; none while there is no such bridge. It blocks.
///
/// # Errors
/// When the kernel doesn't say.
pub(crate) fn of_bridge(bridge: &str) -> io::Result<Vec<Link>> {
    let interfaces = Path::new(INTERFACES);
    let ports = match fs::read_dir(interfaces.join(bridge).join("brif")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        ports => ports?,
    };
    let mut links = Vec::new();
    for port in ports {
        let Ok(name) = port?.file_name().into_string() else {
            continue;
        };
        match fs::read_to_string(interfaces.join(&name).join("ifalias")) {
            Ok(alias) => links.extend(parse(&name, &alias)),
            // It went meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    links.sort();
    Ok(links)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Whether it can be a pod's uid, of the API server or of a static pod: letters, digits and dashes, at most 64. So it may be a part of
/// a chain's name, and of a path.
#[must_use]
pub fn is_pod_uid(uid: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !uid.is_empty() && uid.len() <= 64 && uid.chars().all(fits)
}

/// Nothing for an interface that isn't a pod's, or whose alias isn't understood: nothing is let through it then.
pub(super) fn parse(name: &str, alias: &str) -> Option<Link> {
    // It becomes a part of a script.
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(fits) {
        return None;
    }
    let mut words = alias.split_whitespace();
    let (mark, uid, mac) = (words.next()?, words.next()?, words.next()?);
    let is_mac = mac.len() == 17
        && mac.split(':').count() == 6
        && mac
            .split(':')
            .all(|byte| byte.len() == 2 && byte.chars().all(|c| c.is_ascii_hexdigit()));
    let addresses: Option<Vec<IpAddr>> = words.map(|word| word.parse().ok()).collect();
    let addresses = addresses.filter(|all| !all.is_empty())?;
    (mark == MARK && is_pod_uid(uid) && is_mac).then(|| Link {
        name: name.to_owned(),
        uid: uid.to_owned(),
        mac: mac.to_ascii_lowercase(),
        addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_would_leave_the_directory_is_no_uid() {
        assert!(is_pod_uid("5c7472f5-4a65-4f99-a02c-209348dc3902"));
        assert!(is_pod_uid("0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
        for uid in ["", "..", "/etc", "a/b", "a.slice", &"a".repeat(65)] {
            assert!(!is_pod_uid(uid), "{uid}");
        }
    }

    #[test]
    fn an_alias_names_the_pod() {
        let found = parse(
            "veth1a",
            "berth 0f0e-1 02:00:00:00:00:0A 10.88.0.2 fd00::2\n",
        );
        let found = found.unwrap();
        assert_eq!(
            (found.uid.as_str(), found.mac.as_str()),
            ("0f0e-1", "02:00:00:00:00:0a")
        );
        assert_eq!(found.addresses.len(), 2);
        for alias in [
            "",
            "berth",
            "berth u",
            "berth u 02:00:00:00:00:0a",
            "other u 02:00:00:00:00:0a 10.0.0.1",
            "berth u;x 02:00:00:00:00:0a 10.0.0.1",
            "berth u 02:00:00:00:00 10.0.0.1",
            "berth u 02:00:00:00:00:zz 10.0.0.1",
            "berth u 02:00:00:00:00:0a 10.0.0.1 x",
        ] {
            assert_eq!(parse("veth1a", alias), None, "{alias}");
        }
        let good = "berth u 02:00:00:00:00:0a 10.0.0.1";
        assert!(parse("veth1a", good).is_some());
        assert_eq!(parse("veth}", good), None);
        assert_eq!(of_bridge("no-such-bridge").unwrap(), []);
    }
}
