//! What every HTTP listener has in common: limits, times, and TLS.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// Limits of every HTTP listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Open connections; one more is answered 503.
    pub connections_max: usize,
    /// Open connections from one address; loopback is exempt.
    pub connections_per_address_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Bytes of a form's body.
    pub form_bytes_max: u64,
    /// Bytes of an uploaded body.
    pub upload_bytes_max: u64,
    /// Total time for a request's head, from its first byte.
    pub head_ms: u64,
    /// Total time for a form's body.
    pub form_ms: u64,
    /// Silence on a kept connection after which it is closed.
    pub idle_ms: u64,
    /// Time without progress after which an upload or a download is given up.
    pub stall_ms: u64,
    /// Certificate with its chain, PEM; HTTP in the clear while this is empty.
    pub tls_cert: PathBuf,
    /// Its private key, PKCS #8 in PEM.
    pub tls_key: PathBuf,
}

impl Http {
    pub(super) fn check(&self) -> Result<()> {
        if self.tls_cert.as_os_str().is_empty() != self.tls_key.as_os_str().is_empty() {
            return Err(Error::config("http.tls_cert and http.tls_key belong together"));
        }
        Ok(())
    }

    /// How the listeners are spoken to.
    pub fn scheme(&self) -> Scheme {
        if self.tls_cert.as_os_str().is_empty() { Scheme::Http } else { Scheme::Https }
    }
}

/// How an HTTP listener is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Under TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Scheme::Https { "https" } else { "http" })
    }
}

impl Default for Http {
    fn default() -> Http {
        Http {
            connections_max: 4096,
            connections_per_address_max: 256,
            head_bytes_max: 16 << 10,
            form_bytes_max: 1 << 20,
            upload_bytes_max: 1 << 40,
            head_ms: 10_000,
            form_ms: 30_000,
            idle_ms: 15_000,
            stall_ms: 30_000,
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}
