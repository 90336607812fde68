//! How an smtp process sends mail to other hosts.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How an smtp process sends mail to other hosts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// `"mx"`: to the hosts that DNS names; `"none"`: to nobody, mail to others is refused; `"host:port"`: all through
    /// this host.
    pub route: String,
    /// With a host as route: the name under which we sign in there, over TLS alone. Nobody while it is empty.
    pub user: String,
    /// File that holds the password for it.
    pub password_file: PathBuf,
    /// `ip:port` of the DNS server that is asked; those of the system while it is empty.
    pub dns: String,
    /// Port of other hosts.
    pub port: u16,
    /// Whether hosts may have addresses of this machine (127/8, ::1): for trying.
    pub loopback: bool,
    /// Messages that are sent at once; 0: this process sends nothing.
    pub workers: usize,
    /// Of these, to one domain.
    pub workers_per_domain: usize,
    /// Pause between two looks into the queue.
    pub poll_ms: u64,
    /// How long a message is one worker's unless he renews it.
    pub lease_ms: u64,
    /// Longest wait for a reply to most commands (RFC 5321, 4.5.3.2: five minutes); the other waits follow from it.
    pub patience_ms: u64,
    /// A minute of the schedule of tries; shorter in tests alone.
    pub minute_ms: u64,
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            route: "mx".into(),
            user: String::new(),
            password_file: PathBuf::new(),
            dns: String::new(),
            port: 25,
            loopback: false,
            workers: 16,
            workers_per_domain: 4,
            poll_ms: 1000,
            lease_ms: 120_000,
            patience_ms: 300_000,
            minute_ms: 60_000,
        }
    }
}

/// Where mail for other hosts goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nowhere: it is refused.
    None,
    /// To the hosts that DNS names.
    Mx,
    /// All through one host.
    Smarthost {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl Relay {
    /// The route, read.
    pub fn route(&self) -> Result<Route> {
        match self.route.as_str() {
            "none" => Ok(Route::None),
            "mx" => Ok(Route::Mx),
            other => {
                let parts = other.rsplit_once(':').and_then(|(h, p)| Some((h, p.parse().ok()?)));
                let wrong = || Error::config("relay.route is \"mx\", \"none\" or \"host:port\"");
                let (host, port) = parts.filter(|(host, _)| !host.is_empty()).ok_or_else(wrong)?;
                Ok(Route::Smarthost { host: host.trim_matches(['[', ']']).into(), port })
            }
        }
    }

    /// Whether anything is sent to other hosts.
    pub fn sends(&self) -> bool {
        self.workers > 0 && self.route().is_ok_and(|route| route != Route::None)
    }

    /// The DNS server, where one is set.
    pub fn dns(&self) -> Result<Option<SocketAddr>> {
        let wrong = |_| Error::config("relay.dns is \"ip:port\", or \"\" for the system's servers");
        (!self.dns.is_empty()).then(|| self.dns.parse().map_err(wrong)).transpose()
    }

    pub(super) fn check(&self) -> Result<()> {
        self.dns()?;
        let is_host = matches!(self.route()?, Route::Smarthost { .. });
        if !self.user.is_empty() && !is_host {
            return Err(Error::config("relay.user needs a host as relay.route"));
        }
        if self.workers > 0 && self.workers_per_domain == 0 {
            return Err(Error::config("relay.workers_per_domain must be at least 1"));
        }
        Ok(())
    }

    /// Its times, by name.
    pub(super) fn times(&self) -> [(&'static str, u64); 4] {
        [
            ("relay.poll_ms", self.poll_ms),
            ("relay.lease_ms", self.lease_ms),
            ("relay.patience_ms", self.patience_ms),
            ("relay.minute_ms", self.minute_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Result<Route> {
        Relay { route: text.into(), ..Relay::default() }.route()
    }

    #[test]
    fn routes_are_read() {
        let host = |host: &str, port| Ok(Route::Smarthost { host: host.into(), port });
        assert_eq!(route("mx"), Ok(Route::Mx));
        assert_eq!(route("none"), Ok(Route::None));
        assert_eq!(route("mail.x.org:587"), host("mail.x.org", 587));
        assert_eq!(route("[::1]:25"), host("::1", 25));
        for bad in ["", "MX", "mail.x.org", ":25", "mail:x"] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_without_a_host_to_sign_in_at_is_refused() {
        assert!(Relay::default().check().is_ok());
        assert!(Relay { user: "u".into(), ..Relay::default() }.check().is_err());
        assert!(Relay { dns: "nowhere".into(), ..Relay::default() }.check().is_err());
    }
}
