//! From a domain to the addresses that are asked for it.

use super::mx::{self, NoHost};
use crate::config::Route;
use crate::mail::Address;
use crate::mail::queue::Answer;
use crate::net::dns::{Missing, Resolver};
use crate::smtp::client::Target;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// After so long no further host of a list is looked up: the message's lease runs.
const LOOK_UP_TIME: Duration = Duration::from_secs(30);

/// What the search needs to know.
pub(super) struct Router {
    pub(super) route: Route,
    pub(super) resolver: Box<dyn Resolver>,
    /// Names under which we are known.
    pub(super) own: Vec<String>,
    /// Where we take mail ourselves: nothing is sent there.
    pub(super) listeners: Vec<SocketAddr>,
    pub(super) port: u16,
    /// Whether addresses of this machine may be asked.
    pub(super) loopback: bool,
}

impl Router {
    /// The addresses for one domain, best first.
    pub(super) fn targets(&self, domain: &str, random: u64) -> Result<Vec<Target>, NoHost> {
        match &self.route {
            Route::None => Err(NoHost::Never(Answer::of_ours(
                "5.7.1",
                "this cluster sends no mail to other hosts",
            ))),
            Route::Smarthost { host, port } => {
                self.all(host, std::slice::from_ref(host), *port, true)
            }
            Route::Mx => match literal(domain) {
                Some(address) => self.at_literal(domain, address),
                None => {
                    let hosts = mx::hosts(domain, self.resolver.mx(domain), &self.own, random)?;
                    self.all(domain, &hosts, self.port, self.loopback)
                }
            },
        }
    }

    /// The addresses of hosts, as many as one try asks.
    fn all(
        &self,
        domain: &str,
        hosts: &[String],
        port: u16,
        loopback: bool,
    ) -> Result<Vec<Target>, NoHost> {
        let (mut list, mut last, mut any): (Vec<(String, IpAddr)>, _, _) =
            (Vec::new(), None, false);
        let began = Instant::now();
        for host in hosts {
            if list.len() >= mx::ADDRESSES_MAX || began.elapsed() > LOOK_UP_TIME {
                break;
            }
            let found =
                host.parse().map_or_else(|_| self.resolver.addresses(host), |ip| Ok(vec![ip]));
            match found {
                Ok(addresses) => {
                    any = true;
                    mx::add_addresses(&mut list, host, &addresses, loopback);
                }
                Err(missing @ Missing::Answer(_)) => last = Some(missing),
                Err(missing) => last = last.or(Some(missing)),
            }
        }
        if list.is_empty() {
            return Err(mx::no_address(domain, last, any));
        }
        let target =
            |(host, ip): (String, IpAddr)| Target { host, address: SocketAddr::new(ip, port) };
        let mut targets: Vec<Target> = list.into_iter().map(target).collect();
        targets.retain(|target| !self.listeners.contains(&target.address));
        if targets.is_empty() { Err(mx::no_address(domain, last, true)) } else { Ok(targets) }
    }

    fn at_literal(&self, domain: &str, address: IpAddr) -> Result<Vec<Target>, NoHost> {
        if !mx::is_allowed(address, self.loopback) {
            return Err(mx::no_address(domain, None, true));
        }
        let address = SocketAddr::new(address, self.port);
        if self.listeners.contains(&address) {
            return Err(mx::no_address(domain, None, true));
        }
        Ok(vec![Target { host: domain.into(), address }])
    }
}

/// `[192.0.2.1]` and `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3).
fn literal(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    inner
        .get(..5)
        .filter(|tag| tag.eq_ignore_ascii_case("ipv6:"))
        .map_or(inner, |_| &inner[5..])
        .parse()
        .ok()
}

/// The recipients' domains, each with the places of its recipients; one group where all go through one host.
pub(super) fn by_domain(
    recipients: &[(usize, &Address)],
    route: &Route,
) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (n, address) in recipients {
        let key = match route {
            Route::Smarthost { host, .. } => host.as_str(),
            _ => address.domain(),
        };
        match groups.iter_mut().find(|(domain, _)| domain == key) {
            Some((_, members)) => members.push(*n),
            None => groups.push((key.to_string(), vec![*n])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dns::Mx;

    /// A world in which `a.x` has an address, `here.x` one of this machine, `gone.x` none, and nobody knows of `?`.
    struct World;

    impl Resolver for World {
        fn mx(&self, domain: &str) -> Result<Vec<Mx>, Missing> {
            let mx = |preference, host: &str| Mx { preference, host: host.into() };
            match domain {
                "two.x" => Ok(vec![mx(2, "a.x"), mx(1, "gone.x")]),
                "lost.x" => Ok(vec![mx(1, "gone.x")]),
                "unclear.x" => Ok(vec![mx(1, "gone.x"), mx(2, "?")]),
                "inside.x" => Ok(vec![mx(1, "here.x")]),
                "half.x" => Ok(vec![mx(1, "here.x"), mx(2, "?")]),
                _ => Err(Missing::Record),
            }
        }

        fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Missing> {
            match host {
                "a.x" => Ok(vec![IpAddr::from([192, 0, 2, 1])]),
                "here.x" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
                "?" => Err(Missing::Answer("silence".into())),
                _ => Err(Missing::Record),
            }
        }
    }

    fn targets(route: Route, domain: &str) -> Result<Vec<String>, String> {
        let (resolver, own) = (Box::new(World), vec![]);
        let router = Router { route, resolver, own, listeners: vec![], port: 25, loopback: false };
        let found = router.targets(domain, 0).map_err(|no| match no {
            NoHost::NotNow(answer) | NoHost::Never(answer) => answer.status,
        });
        found.map(|list| list.into_iter().map(|t| format!("{} {}", t.host, t.address)).collect())
    }

    #[test]
    fn a_domain_leads_to_addresses() {
        let at = |domain| targets(Route::Mx, domain);
        assert_eq!(at("two.x"), Ok(vec!["a.x 192.0.2.1:25".into()]));
        assert_eq!(at("a.x"), Ok(vec!["a.x 192.0.2.1:25".into()]));
        assert_eq!(at("lost.x"), Err("5.1.2".into()));
        assert_eq!(at("unclear.x"), Err("4.4.3".into()));
        assert_eq!(at("inside.x"), Err("5.4.4".into()));
        assert_eq!(at("half.x"), Err("4.4.3".into()), "the other host may be a good one");
        assert_eq!(at("[127.0.0.1]"), Err("5.4.4".into()));
        assert_eq!(at("[192.0.2.7]"), Ok(vec!["[192.0.2.7] 192.0.2.7:25".into()]));
        assert_eq!(
            at("[ipv6:2001:db8::7]"),
            Ok(vec!["[ipv6:2001:db8::7] [2001:db8::7]:25".into()])
        );
    }

    #[test]
    fn a_smarthost_takes_all_and_may_be_this_machine() {
        let smart = |host: &str| Route::Smarthost { host: host.into(), port: 587 };
        assert_eq!(targets(smart("127.0.0.1"), "x"), Ok(vec!["127.0.0.1 127.0.0.1:587".into()]));
        assert_eq!(targets(smart("a.x"), "lost.x"), Ok(vec!["a.x 192.0.2.1:587".into()]));
        assert_eq!(targets(Route::None, "a.x"), Err("5.7.1".into()));
    }

    #[test]
    fn recipients_are_grouped_by_domain() {
        let people = ["a@x.org", "b@y.org", "c@x.org"].map(|a| Address::parse(a).unwrap());
        let people: Vec<_> = people.iter().enumerate().collect();
        let groups = by_domain(&people, &Route::Mx);
        assert_eq!(groups, [("x.org".into(), vec![0, 2]), ("y.org".into(), vec![1])]);
        let smart = Route::Smarthost { host: "h".into(), port: 1 };
        assert_eq!(by_domain(&people, &smart), [("h".to_string(), vec![0, 1, 2])]);
    }
}
