//! Who is outside: reached by the interface of the default route, where the address is no pod's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use parking_lot::Mutex;

/// How long the routes are taken for known.
const FRESH: Duration = Duration::from_secs(5);

/// The routes of this machine, read again from time to time.
pub(crate) struct Outside {
    /// This machine's own, which are never outside.
    own: Vec<IpAddr>,
    /// Nor are these.
    inside: Vec<IpNet>,
    routes: Mutex<Option<(Instant, Routes)>>,
}

#[derive(Default)]
struct Routes {
    /// Networks with the interface that leads there; the default routes are among them.
    all: Vec<(IpNet, String)>,
}

impl Outside {
    pub(crate) fn new(own: Vec<IpAddr>, inside: Vec<IpNet>) -> Self {
        Self {
            own,
            inside,
            routes: Mutex::new(None),
        }
    }

    /// Whether an address is outside.
    pub(crate) fn has(&self, client: IpAddr) -> bool {
        if client.is_loopback() || self.own.contains(&client) {
            return false;
        }
        if self.inside.iter().any(|network| network.contains(&client)) {
            return false;
        }
        let mut known = self.routes.lock();
        let now = Instant::now();
        let is_fresh = |(at, _): &(Instant, Routes)| now.saturating_duration_since(*at) < FRESH;
        if !known.as_ref().is_some_and(is_fresh) {
            *known = Some((now, Routes::load()));
        }
        known
            .as_ref()
            .is_none_or(|(_, routes)| routes.is_outside(client))
    }
}

impl Routes {
    fn load() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mut all = routes_v4(&read("/proc/net/route"));
        all.extend(routes_v6(&read("/proc/net/ipv6_route")));
        Self { all }
    }

    /// Whether the best route to an address is by an interface that has a default route; without any route it is, too.
    fn is_outside(&self, client: IpAddr) -> bool {
        let fitting = self
            .all
            .iter()
            .filter(|(network, _)| network.contains(&client));
        let best = fitting.max_by_key(|(network, _)| network.prefix_len());
        best.is_none_or(|(_, device)| {
            self.all
                .iter()
                .any(|(network, of)| network.prefix_len() == 0 && of == device)
        })
    }
}

/// Reads /proc/net/route: numbers in the machine's byte order.
fn routes_v4(text: &str) -> Vec<(IpNet, String)> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok().map(u32::from_be);
    let lines = text.lines().skip(1);
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv4Addr::from_bits(number(words.get(1)?)?);
        let mask = Ipv4Addr::from_bits(number(words.get(7)?)?);
        let network = Ipv4Net::with_netmask(address, mask).ok()?;
        Some((IpNet::V4(network), (*words.first()?).to_owned()))
    };
    lines.filter_map(read).collect()
}

/// Reads /proc/net/ipv6_route.
fn routes_v6(text: &str) -> Vec<(IpNet, String)> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = u128::from_str_radix(words.first()?, 16).ok()?;
        let bits = u8::from_str_radix(words.get(1)?, 16).ok()?;
        let network = Ipv6Net::new(Ipv6Addr::from_bits(address), bits).ok()?;
        let device = (*words.get(9)?).to_owned();
        // The kernel's own way to say that there is no route.
        (device != "lo" || bits > 0).then_some((IpNet::V6(network), device))
    };
    text.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_default_route_leads_to_is_outside() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                  eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
                  eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
                  cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t0000FFFF\n";
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00450003 eth0\n\
                  fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 cni0\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n";
        let mut all = routes_v4(v4);
        all.extend(routes_v6(v6));
        let routes = Routes { all };
        let outside = |ip: &str| routes.is_outside(ip.parse().unwrap());
        for ip in ["192.0.2.7", "198.51.100.1", "2001:db8::1"] {
            assert!(outside(ip), "{ip}");
        }
        for ip in ["10.244.3.4", "fd00::5"] {
            assert!(!outside(ip), "{ip}");
        }
        assert!(Routes::default().is_outside("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn this_machine_is_not_outside() {
        let own: IpAddr = "192.0.2.10".parse().unwrap();
        let outside = Outside::new(vec![own], vec!["198.51.100.0/24".parse().unwrap()]);
        assert!(!outside.has(own));
        assert!(!outside.has("127.0.0.1".parse().unwrap()));
        assert!(!outside.has("198.51.100.9".parse().unwrap()));
    }
}
