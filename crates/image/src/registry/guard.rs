//! Where a registry's answers may lead a pull: nowhere on this machine, unless the registry is there itself.
//!
//! A redirect or a token realm is a URL that a server chose. Without a bound, an image reference would be
//! enough to have this machine ask its own kubelet port, or the metadata service of its cloud, and to read
//! the beginning of the answer in an event. Names are judged by what they resolve to when the connection is
//! made, since a name can mean something else a moment later.

use std::collections::HashSet;
use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use reqwest::Response;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// A server led to an address that only this machine or its link should see.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} has a loopback or link-local address ({address}); only a registry that is at such an address itself may refer to one"
)]
pub(super) struct LeadsInside {
    host: String,
    address: IpAddr,
}

/// Loopback, link-local, unspecified and other addresses that never leave this machine's links.
pub(crate) fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            let embedded = {
                let ([x, y], [z, w]) = (g.to_be_bytes(), h.to_be_bytes());
                Ipv4Addr::new(x, y, z, w)
            };
            // IPv4-compatible addresses, and NAT64's prefix of RFC 6052.
            let embeds =
                [a, b, c, d, e, f] == [0; 6] || [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
                // The metadata service of EC2.
                || (a, b) == (0xfd00, 0x0ec2)
                || embeds && is_local_v4(embedded)
        }
    }
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        // 0.0.0.0 is this machine; so is the rest of 0.0.0.0/8 by RFC 1122.
        || address.octets()[0] == 0
}

/// Refuses a URL whose host says by itself that it is local.
pub(super) fn check_name(url: &Url) -> Result<(), LeadsInside> {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            if name != "localhost" && !name.ends_with(".localhost") {
                return Ok(());
            }
            Ipv4Addr::LOCALHOST.into()
        }
        None => return Ok(()),
    };
    if is_local(address) {
        return Err(LeadsInside {
            host: url.host_str().unwrap_or_default().to_owned(),
            address,
        });
    }
    Ok(())
}

/// Whether an answer came from such an address, so that what is there may be referred to.
pub(super) fn came_from_inside(response: &Response) -> bool {
    // Behind a proxy the address is the proxy's.
    PROXIES.is_empty()
        && response
            .remote_addr()
            .is_some_and(|from| is_local(from.ip()))
}

/// Resolves names to addresses that are not local.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            if PROXIES.contains(name.as_str()) {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            match found.iter().find(|address| is_local(address.ip())) {
                Some(address) => Err(LeadsInside {
                    host: name.as_str().to_owned(),
                    address: address.ip(),
                }
                .into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

/// Hosts of the proxies that the environment sets; the administrator chose them, and they may be on loopback.
static PROXIES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ]
    .into_iter()
    .filter_map(|name| env::var(name).ok())
    .filter_map(|value| {
        let value = value.trim();
        let url = Url::parse(value).ok().filter(Url::has_host);
        let url = url.or_else(|| Url::parse(&format!("http://{value}")).ok())?;
        url.host_str().map(str::to_owned)
    })
    .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_its_links() {
        for local in [
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for remote in [
            "10.0.0.1",
            "192.168.1.1",
            "1.1.1.1",
            "2606:4700::1111",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::101:101",
        ] {
            assert!(!is_local(remote.parse().unwrap()), "{remote}");
        }
    }

    #[test]
    fn names_that_say_it_themselves() {
        for local in [
            "http://localhost/",
            "http://LOCALHOST.:1/",
            "https://a.localhost/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:80/",
            "http://[::ffff:169.254.169.254]/",
        ] {
            assert!(check_name(&Url::parse(local).unwrap()).is_err(), "{local}");
        }
        for remote in [
            "https://example.com/",
            "https://10.0.0.1/",
            "https://localhost.example/",
        ] {
            assert!(check_name(&Url::parse(remote).unwrap()).is_ok(), "{remote}");
        }
    }

    #[tokio::test]
    async fn names_that_resolve_to_it() {
        let error = match GuardedResolver.resolve("localhost".parse().unwrap()).await {
            Ok(_) => panic!("localhost was resolved"),
            Err(error) => error,
        };
        assert!(error.downcast_ref::<LeadsInside>().is_some(), "{error}");
    }
}
