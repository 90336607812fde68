//! TLS: connections that are in the clear or under TLS, and the certificate of a listener, which is read again when
//! the process gets SIGHUP.
//!
//! # Caveats
//!
//! * `native-tls` accepts TLS 1.2 alone: its acceptor knows neither 1.3 nor which host name was asked for.
//! * Of those of our clients that send no secret, each takes any certificate: the one that asks whether a process is
//!   there, and the one that brings mail to hosts which strangers have named.

use super::Stream;
use crate::error::{Error, Result};
use native_tls::{HandshakeError, Identity, TlsAcceptor, TlsConnector, TlsStream};
use openssl::pkey::PKey;
use openssl::x509::X509;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, RwLock};

/// Asks for no certificate that somebody vouches for: it is told apart from the clear text alone.
static CONNECTOR: LazyLock<TlsConnector> = LazyLock::new(|| {
    TlsConnector::builder()
        .danger_accept_invalid_certs(true)
        .danger_accept_invalid_hostnames(true)
        .use_sni(false)
        .build()
        .expect("a connector without certificates has nothing that can fail")
});

/// The certificate of a listener, with the files from which it comes.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads a certificate, with its chain behind it, and its key, which is PKCS #8; both are PEM.
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls> {
        let acceptor = RwLock::new(acceptor(certificate, key)?);
        Ok(Tls { certificate: certificate.into(), key: key.into(), acceptor })
    }

    /// Reads both files again whenever the process gets SIGHUP. New connections get the new certificate; what cannot be
    /// used is said in the log, and the one before stays.
    pub fn reload_on_hangup(self: &Arc<Tls>) -> Result<()> {
        let cannot = |e: io::Error| Error::config(format!("cannot wait for SIGHUP: {e}"));
        let mut hangups = Signals::new([SIGHUP]).map_err(cannot)?;
        let tls = self.clone();
        let reload = move || hangups.forever().for_each(|_| tls.reload());
        std::thread::Builder::new().name("certificate".into()).spawn(reload).map_err(cannot)?;
        Ok(())
    }

    fn reload(&self) {
        match acceptor(&self.certificate, &self.key) {
            Ok(acceptor) => {
                *self.acceptor.write().expect("no thread panics while it holds this") = acceptor;
                log::info!("the certificate was read again");
            }
            Err(e) => log::error!("the certificate stays as it was: {e}"),
        }
    }

    /// Shakes hands with a client, within the stream's deadline.
    pub fn accept(&self, stream: Stream) -> io::Result<Channel> {
        let acceptor = self.acceptor.read().expect("no thread panics while it holds this").clone();
        shaken(acceptor.accept(Clocked(stream)))
    }
}

/// Judges both files: OpenSSL itself would drop a key that is another certificate's and say nothing.
fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| of_file(path, &e));
    let (pem, key_pem) = (read(certificate)?, read(key)?);
    let leaf = X509::from_pem(&pem).map_err(|e| of_file(certificate, &e))?;
    let public = leaf.public_key().map_err(|e| of_file(certificate, &e))?;
    let private = PKey::private_key_from_pem(&key_pem).map_err(|e| of_file(key, &e))?;
    if !public.public_eq(&private) {
        return Err(of_file(key, &format_args!("not the key of {}", certificate.display())));
    }
    let identity = Identity::from_pkcs8(&pem, &key_pem).map_err(|e| of_file(key, &e))?;
    TlsAcceptor::new(identity).map_err(|e| of_file(certificate, &e))
}

fn of_file(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::config(format!("the TLS file {}: {why}", path.display()))
}

/// What a connection's bytes pass through.
pub enum Channel {
    /// Nothing.
    Plain(Stream),
    /// TLS.
    Tls(Box<TlsStream<Clocked>>),
}

impl Channel {
    /// Shakes hands with a server, within the stream's deadline. Its certificate may be any.
    pub fn connect_tls(stream: Stream) -> Result<Channel> {
        Ok(shaken(CONNECTOR.connect("penncloud", Clocked(stream)))?)
    }

    /// Shakes hands with a server that must be the named host by a certificate that somebody vouches for, within the
    /// stream's deadline.
    pub fn connect_tls_to(host: &str, stream: Stream) -> Result<Channel> {
        let connector = TlsConnector::new().map_err(|e| Error::retry(format!("TLS: {e}")))?;
        Ok(shaken(connector.connect(host, Clocked(stream)))?)
    }

    /// The connection below, with its clocks.
    pub fn stream(&self) -> &Stream {
        match self {
            Channel::Plain(stream) => stream,
            Channel::Tls(tls) => &tls.get_ref().0,
        }
    }

    /// Says that nothing more will be written.
    pub fn close_write(&mut self) {
        if let Channel::Tls(tls) = self {
            let _ = tls.shutdown();
        }
        self.stream().close_write();
    }
}

fn shaken(
    result: std::result::Result<TlsStream<Clocked>, HandshakeError<Clocked>>,
) -> io::Result<Channel> {
    match result {
        Ok(tls) => Ok(Channel::Tls(Box::new(tls))),
        Err(HandshakeError::WouldBlock(_)) => Err(late(io::ErrorKind::WouldBlock.into())),
        Err(HandshakeError::Failure(e)) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    }
}

/// A stream below TLS. What TLS is to survive must look like a socket that does not block: after another error a
/// connection may not even be told why it ends.
#[derive(Debug)]
pub struct Clocked(Stream);

/// A time-out, as TLS wants it.
fn unblocked(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::TimedOut { io::ErrorKind::WouldBlock.into() } else { e }
}

/// A time-out, as TLS gives it back.
fn late(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "the time for this is over")
        }
        _ => e,
    }
}

impl Read for Clocked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(unblocked)
    }
}

impl Write for Clocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(unblocked)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Channel {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(stream) => stream.read(out),
            Channel::Tls(tls) => tls.read(out).map_err(late),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Plain(stream) => stream.write(bytes),
            Channel::Tls(tls) => tls.write(bytes).map_err(late),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
