//! DNS over real sockets.

use crate::harness::Dns as Server;
use crate::harness::dns::Record::{A, Cname, Fails, Mx, Silent, Truncated};
use penncloud::net::dns::{Dns, Missing, Mx as Host, Resolver};
use std::net::Ipv4Addr;
use std::time::Duration;

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn host(preference: u16, host: &str) -> Host {
    Host { preference, host: host.into() }
}

#[test]
fn each_answer_of_a_dns_server_is_told_apart() {
    let server = Server::start(&[
        ("two.test", &[Mx(20, "b.two.test"), Mx(10, "A.two.test")]),
        ("a.two.test", &[A(ONE)]),
        ("null.test", &[Mx(0, "")]),
        ("bare.test", &[A(ONE)]),
        ("alias.test", &[Cname("two.test")]),
        ("fails.test", &[Fails]),
        ("silent.test", &[Silent]),
        ("cut.test", &[Truncated, Mx(5, "a.two.test")]),
    ]);
    let dns = Dns::new(Some(server.address), Duration::from_secs(2)).unwrap();
    let mut two = dns.mx("two.test").unwrap();
    two.sort_by_key(|mx| mx.preference);
    assert_eq!(two, [host(10, "a.two.test"), host(20, "b.two.test")]);
    assert_eq!(dns.mx("null.test"), Ok(vec![host(0, "")]));
    assert_eq!(dns.mx("bare.test"), Err(Missing::Record));
    assert_eq!(dns.mx("nowhere.test"), Err(Missing::Name));
    assert_eq!(dns.mx("alias.test").map(|list| list.len()), Ok(2));
    assert!(matches!(dns.mx("fails.test"), Err(Missing::Answer(_))));
    assert!(matches!(dns.mx("silent.test"), Err(Missing::Answer(_))));
    assert_eq!(dns.mx("cut.test"), Ok(vec![host(5, "a.two.test")]));
    assert!(server.over_tcp.lock().unwrap().contains(&"cut.test".to_string()));
    assert_eq!(dns.addresses("a.two.test"), Ok(vec![ONE.into()]));
    assert_eq!(dns.addresses("null.test"), Err(Missing::Record));
    assert_eq!(dns.addresses("nowhere.test"), Err(Missing::Name));
    assert!(matches!(dns.addresses("fails.test"), Err(Missing::Answer(_))));
}
