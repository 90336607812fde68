//! Which hosts are asked, and in which order, given what DNS answered (pure; RFC 5321, 5.1; RFC 7505).

use crate::mail::queue::Answer;
use crate::net::dns::{Missing, Mx};
use std::net::IpAddr;

/// Addresses that one try asks at most.
pub const ADDRESSES_MAX: usize = 5;
/// Hosts of a list that are looked at.
const HOSTS_MAX: usize = 10;

/// Why there is no host to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHost {
    /// Later there may be one.
    NotNow(Answer),
    /// There never will be.
    Never(Answer),
}

/// The hosts for a domain, best first. Equals are shuffled by a random number; of a list in which we are ourselves, only
/// those that are better than we.
pub fn hosts(
    domain: &str,
    found: Result<Vec<Mx>, Missing>,
    own: &[String],
    random: u64,
) -> Result<Vec<String>, NoHost> {
    let mut list = match found {
        Ok(list) => list,
        Err(Missing::Record) => return Ok(vec![domain.to_string()]),
        Err(missing) => return Err(missing_domain(domain, missing)),
    };
    if list.iter().all(|mx| mx.host.is_empty()) {
        return Err(never("5.1.10", format!("{domain} takes no mail")));
    }
    list.retain(|mx| !mx.host.is_empty());
    let ours = |mx: &&Mx| own.iter().any(|name| name.eq_ignore_ascii_case(&mx.host));
    if let Some(limit) = list.iter().filter(ours).map(|mx| mx.preference).min() {
        list.retain(|mx| mx.preference < limit);
        if list.is_empty() {
            return Err(never("5.4.6", format!("the mail of {domain} would come back to us")));
        }
    }
    shuffle(&mut list, random);
    list.sort_by_key(|mx| mx.preference);
    list.truncate(HOSTS_MAX);
    Ok(list.into_iter().map(|mx| mx.host).collect())
}

fn missing_domain(domain: &str, missing: Missing) -> NoHost {
    match missing {
        Missing::Name => never("5.1.2", format!("there is no domain {domain}")),
        Missing::Record => never("5.1.2", format!("{domain} has no address")),
        Missing::Answer(why) => NoHost::NotNow(Answer::of_ours(
            "4.4.3",
            format!("DNS does not say where {domain} is: {why}"),
        )),
    }
}

fn never(status: &str, text: String) -> NoHost {
    NoHost::Never(Answer::of_ours(status, text))
}

/// Fisher and Yates, with numbers that follow from the one given.
fn shuffle<T>(list: &mut [T], random: u64) {
    let mut state = random;
    for n in (1..list.len()).rev() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        list.swap(n, (state >> 33) as usize % (n + 1));
    }
}

/// Adds the addresses of a host to those that are asked; a host that has none is left out.
pub fn add_addresses(
    list: &mut Vec<(String, IpAddr)>,
    host: &str,
    addresses: &[IpAddr],
    loopback: bool,
) {
    let allowed = addresses.iter().filter(|address| is_allowed(**address, loopback));
    let room = ADDRESSES_MAX.saturating_sub(list.len());
    let new = allowed.filter(|a| list.iter().all(|(_, known)| known != *a)).take(room);
    let new: Vec<_> = new.map(|address| (host.to_string(), *address)).collect();
    list.extend(new);
}

/// What to say where no host has an address that may be asked.
pub fn no_address(domain: &str, last: Option<Missing>, any: bool) -> NoHost {
    match last {
        Some(Missing::Answer(why)) => missing_domain(domain, Missing::Answer(why)),
        _ if any => never("5.4.4", format!("the hosts of {domain} have no address in the world")),
        Some(missing) => missing_domain(domain, missing),
        None => missing_domain(domain, Missing::Record),
    }
}

/// Whether mail may go to an address: never to this machine (unless it is a trial), to everybody or to nobody. An
/// address of IPv4 within one of IPv6 is judged as what it is.
pub fn is_allowed(address: IpAddr, loopback: bool) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() {
        return loopback;
    }
    let wrong = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 224 || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(wrong || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(hosts: &[(u16, &str)]) -> Result<Vec<Mx>, Missing> {
        Ok(hosts.iter().map(|(p, h)| Mx { preference: *p, host: h.to_string() }).collect())
    }

    fn ask(found: Result<Vec<Mx>, Missing>, random: u64) -> Result<Vec<String>, String> {
        let own = ["us.penn.test".to_string()];
        hosts("x.org", found, &own, random).map_err(|no| match no {
            NoHost::NotNow(answer) | NoHost::Never(answer) => answer.status,
        })
    }

    #[test]
    fn better_hosts_come_first_and_equals_take_turns() {
        let found = || list(&[(20, "c"), (10, "a"), (10, "b")]);
        let orders: std::collections::BTreeSet<_> =
            (0..64).map(|random| ask(found(), random).unwrap()).collect();
        let want = [["a", "b", "c"], ["b", "a", "c"]].map(|o| o.map(String::from).to_vec());
        assert_eq!(orders, want.into());
    }

    #[test]
    fn each_answer_of_dns_means_something_else() {
        assert_eq!(ask(list(&[(0, "")]), 1), Err("5.1.10".into()));
        assert_eq!(ask(Err(Missing::Name), 1), Err("5.1.2".into()));
        assert_eq!(ask(Err(Missing::Record), 1), Ok(vec!["x.org".into()]));
        assert_eq!(ask(Err(Missing::Answer("SERVFAIL".into())), 1), Err("4.4.3".into()));
        assert_eq!(ask(list(&[(0, ""), (5, "a")]), 1), Ok(vec!["a".into()]));
    }

    #[test]
    fn where_we_are_in_the_list_only_better_hosts_count() {
        let with_us = list(&[(5, "a"), (10, "US.penn.test"), (10, "b"), (20, "c")]);
        assert_eq!(ask(with_us, 1), Ok(vec!["a".into()]));
        assert_eq!(ask(list(&[(10, "us.penn.test"), (20, "c")]), 1), Err("5.4.6".into()));
    }

    #[test]
    fn a_try_asks_five_addresses_each_once() {
        let many: Vec<IpAddr> = (1..9).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let mut asked = Vec::new();
        add_addresses(&mut asked, "a", &many[..2], false);
        add_addresses(&mut asked, "b", &many, false);
        assert_eq!(asked.len(), ADDRESSES_MAX);
        assert_eq!(asked[1], ("a".into(), many[1]));
        assert_eq!(asked[2], ("b".into(), many[2]));
    }

    #[test]
    fn addresses_that_are_nobodys_are_not_asked() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "::",
            "ff02::1",
            "fe80::1",
        ] {
            assert!(!is_allowed(address.parse().unwrap(), true), "{address}");
        }
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let address = address.parse().unwrap();
            assert!(!is_allowed(address, false) && is_allowed(address, true), "{address}");
        }
        assert!(is_allowed("192.0.2.1".parse().unwrap(), false));
        assert!(is_allowed("2001:db8::1".parse().unwrap(), false));
    }
}
