//! An SMTP server: its listeners, its certificate, its limits.

use super::Relay;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::PathBuf;

/// An SMTP server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Name of the process.
    pub name: String,
    /// Where it takes mail for our users from anyone (port 25 by custom).
    pub exchange: String,
    /// Where our users' mail programs send, with a password, after STARTTLS (port 587); nowhere while this is empty.
    #[serde(default)]
    pub submission: String,
    /// The same under TLS from the first octet (port 465).
    #[serde(default)]
    pub submissions: String,
    /// Certificate with its chain, PEM; no TLS while this is empty.
    #[serde(default)]
    pub tls_cert: PathBuf,
    /// Its private key, PKCS #8 in PEM.
    #[serde(default)]
    pub tls_key: PathBuf,
    /// Whether passwords are taken without TLS: for tests, and behind something that ends TLS.
    #[serde(default)]
    pub auth_in_clear: bool,
    /// Largest message.
    #[serde(default = "default_message_bytes")]
    pub message_bytes_max: u64,
    /// Recipients of one message; more are told 452.
    #[serde(default = "default_recipients")]
    pub recipients_max: usize,
    /// Open sessions of each listener; one more is told 421.
    #[serde(default = "default_sessions")]
    pub sessions_max: usize,
    /// Open sessions of each listener from one address; loopback is exempt.
    #[serde(default = "default_sessions_per_address")]
    pub sessions_per_address_max: usize,
    /// Silence after which a session is told 421 and closed; also the most time for one command line.
    #[serde(default = "default_idle")]
    pub idle_ms: u64,
    /// How it sends mail to other hosts.
    #[serde(default)]
    pub relay: Relay,
}

impl Smtp {
    /// Whether there is a certificate.
    pub fn has_tls(&self) -> bool {
        !self.tls_cert.as_os_str().is_empty()
    }

    /// The listeners beside the main one, `exchange`: what each is for, and its address.
    pub fn other_listeners(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let both = [("submission", &self.submission), ("submissions", &self.submissions)];
        both.map(|(what, address)| (what, address.as_str()))
            .into_iter()
            .filter(|(_, address)| !address.is_empty())
    }

    pub(super) fn check(&self) -> Result<()> {
        self.relay.check()?;
        let name = &self.name;
        if self.has_tls() == self.tls_key.as_os_str().is_empty() {
            return Err(Error::config(format!(
                "tls_cert and tls_key of the smtp {name} belong together"
            )));
        }
        if !self.submissions.is_empty() && !self.has_tls() {
            return Err(Error::config(format!("submissions of the smtp {name} needs tls_cert")));
        }
        if !self.submission.is_empty() && !self.has_tls() && !self.auth_in_clear {
            return Err(Error::config(format!(
                "submission of the smtp {name} needs tls_cert: passwords are not taken in the clear"
            )));
        }
        Ok(())
    }
}

fn default_message_bytes() -> u64 {
    50 << 20
}
fn default_recipients() -> usize {
    100
}
fn default_sessions() -> usize {
    256
}
fn default_sessions_per_address() -> usize {
    50
}
fn default_idle() -> u64 {
    300_000
}
