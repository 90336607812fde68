//! DNS: where other mail hosts are. The one place that stands on an asynchronous library, and does not show it.
//!
//! One runtime with one thread serves all lookups of the process: connections to DNS servers outlive a lookup, and one
//! that waits for a silent server holds up no other.

use crate::error::{Error, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use trust_dns_resolver::TokioResolver;
use trust_dns_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use trust_dns_resolver::net::NetError;
use trust_dns_resolver::net::runtime::TokioRuntimeProvider;
use trust_dns_resolver::proto::rr::{RData, Record, RecordType};

/// How often a server is asked before it counts as silent.
const ATTEMPTS: usize = 2;
/// Answers that are remembered.
const CACHE_ANSWERS: u64 = 1024;
/// Longest time that an answer is remembered, whatever it says itself.
const CACHE_TIME_MAX: Duration = Duration::from_secs(60 * 60);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("dns")
        .enable_all()
        .build()
        .expect("a process can start one more thread")
});

/// A host that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// Lower ones are tried first.
    pub preference: u16,
    /// Its name in lower case, without the last dot; empty: the domain takes no mail (RFC 7505).
    pub host: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such name.
    Name,
    /// The name has no such record.
    Record,
    /// Nobody could say: a server failed or was silent. Later it may be known.
    Answer(String),
}

/// Who knows where hosts are.
pub trait Resolver: Send + Sync {
    /// The hosts that take mail for a domain, as DNS names them.
    fn mx(&self, domain: &str) -> Result<Vec<Mx>, Missing>;

    /// The addresses of a host.
    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Missing>;
}

/// The DNS servers of the system, or one that is named.
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Asks this server, or those of the system; each answer may take so long.
    pub fn new(server: Option<SocketAddr>, within: Duration) -> Result<Dns> {
        let cannot = |e: NetError| Error::config(format!("DNS cannot be asked: {e}"));
        let mut builder = match server {
            Some(server) => {
                TokioResolver::builder_with_config(only(server), TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio().map_err(cannot)?,
        };
        set(builder.options_mut(), within);
        let _entered = RUNTIME.enter();
        Ok(Dns { resolver: builder.build().map_err(cannot)? })
    }

    /// The records of one kind; never those of a name in a domain of ours that was not asked for.
    fn records(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Missing> {
        let name = format!("{}.", name.trim_end_matches('.'));
        let found = RUNTIME.block_on(self.resolver.lookup(name, kind));
        found.map(|lookup| lookup.answers().to_vec()).map_err(|error| match error {
            error if error.is_nx_domain() => Missing::Name,
            error if error.is_no_records_found() => no_records(&error),
            error => Missing::Answer(error.to_string()),
        })
    }
}

/// No records is an answer only where a server said that it went well.
fn no_records(error: &NetError) -> Missing {
    use trust_dns_resolver::net::DnsError;
    use trust_dns_resolver::proto::op::ResponseCode;
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if none.response_code != ResponseCode::NoError =>
        {
            Missing::Answer(format!("the DNS server answered {}", none.response_code))
        }
        _ => Missing::Record,
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    let server = NameServerConfig::new(server.ip(), true, connections);
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn set(options: &mut ResolverOpts, within: Duration) {
    options.timeout = within;
    options.attempts = ATTEMPTS;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHE_ANSWERS;
    options.positive_max_ttl = Some(CACHE_TIME_MAX);
    options.negative_max_ttl = Some(CACHE_TIME_MAX);
}

impl Resolver for Dns {
    fn mx(&self, domain: &str) -> Result<Vec<Mx>, Missing> {
        let records = self.records(domain, RecordType::MX)?;
        let hosts: Vec<Mx> = records
            .iter()
            .filter_map(|record| match &record.data {
                RData::MX(mx) => Some(Mx {
                    preference: mx.preference,
                    host: mx.exchange.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
                }),
                _ => None,
            })
            .collect();
        if hosts.is_empty() { Err(Missing::Record) } else { Ok(hosts) }
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Missing> {
        let (four, six) = (self.records(host, RecordType::A), self.records(host, RecordType::AAAA));
        let address = |record: &Record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        };
        let found: Vec<IpAddr> =
            [&four, &six].into_iter().flatten().flatten().filter_map(address).collect();
        match (four, six) {
            _ if !found.is_empty() => Ok(found),
            (Err(Missing::Answer(why)), _) | (_, Err(Missing::Answer(why))) => {
                Err(Missing::Answer(why))
            }
            (Err(missing), _) => Err(missing),
            _ => Err(Missing::Record),
        }
    }
}
