//! The shell: listeners, and what their sessions share.

use super::drain::Drain;
use super::relay;
use super::reply::Reply;
use super::session::{Service, Settings};
use super::talk::Talk;
use crate::account::{Accounts, LogIn};
use crate::client::Client;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::mail::queue::Schedule;
use crate::mail::{Address, Mailboxes, Queue};
use crate::net::{self, Limits, Stream, Tls};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for the refusal of a session over the cap.
pub(super) const REFUSAL_TIME: Duration = Duration::from_millis(100);

/// Runs the SMTP server named `name` for as long as the process lives.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let own = config.smtps.iter().find(|smtp| smtp.name == name);
    let own = own.ok_or_else(|| Error::config(format!("no smtp {name:?} is configured")))?;
    let exchange = net::bind(&own.exchange)?;
    let bound = |address: &str| match address {
        "" => Ok(None),
        address => net::bind(address).map(Some),
    };
    let (submission, submissions) = (bound(&own.submission)?, bound(&own.submissions)?);
    let house = Arc::new(House::new(config, own)?);
    relay::start(config, own, &house.mailboxes, &house.drain)?;
    log::info!("smtp {name} takes mail for {} on {}", house.mailboxes.domain(), own.exchange);
    let desk = |service, handshake| Desk::new(&house, own, service, handshake);
    if let Some(listener) = submission {
        log::info!("smtp {name} takes mail from our users on {}", own.submission);
        desk(Service::Submission, Handshake::Asked).spawn(listener, own);
    }
    if let Some(listener) = submissions {
        log::info!("smtp {name} takes mail from our users under TLS on {}", own.submissions);
        desk(Service::Submission, Handshake::First).spawn(listener, own);
    }
    desk(Service::Exchange, Handshake::Asked).serve(exchange, own);
    Ok(())
}

/// What all sessions of the process share.
pub(super) struct House {
    pub mailboxes: Mailboxes,
    pub queue: Queue,
    /// How long a message in it is tried.
    pub schedule: Schedule,
    pub accounts: Accounts,
    pub tls: Option<Arc<Tls>>,
    pub idle: Duration,
    pub drain: Drain,
}

impl House {
    fn new(config: &Config, own: &config::Smtp) -> Result<House> {
        let client = Client::new(config)?;
        let mailboxes = Mailboxes::new(client.clone(), config);
        let tls = own.has_tls().then(|| Tls::load(&own.tls_cert, &own.tls_key).map(Arc::new));
        let tls = tls.transpose()?;
        tls.as_ref().map_or(Ok(()), Tls::reload_on_hangup)?;
        Ok(House {
            queue: Queue::new(mailboxes.clone()),
            schedule: Schedule { minute_ms: own.relay.minute_ms },
            mailboxes,
            accounts: Accounts::new(client, &config.cluster, &config.accounts),
            tls,
            idle: Duration::from_millis(own.idle_ms),
            drain: Drain::on_signal()?,
        })
    }

    /// Rule 6: the quota is judged here, not after the message.
    pub fn look_up(&self, address: &Address, size: u64) -> Result<Option<String>> {
        let Some(user) = self.mailboxes.resolve(address)? else { return Ok(None) };
        self.mailboxes.admit(&user, size).map(|()| Some(user))
    }

    /// Whether a user has all these addresses, and there is one.
    pub fn has_all(&self, user: &str, addresses: &[Address]) -> Result<bool> {
        for address in addresses {
            if self.mailboxes.resolve(address)?.as_deref() != Some(user) {
                return Ok(false);
            }
        }
        Ok(!addresses.is_empty())
    }

    /// Whose password this is, tried from this address.
    pub fn authenticate(&self, user: &str, password: &str, from: IpAddr) -> Result<LogIn<String>> {
        self.accounts.log_in_program(user, password, from)
    }
}

/// When hands are shaken for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// When the client asks for it by STARTTLS.
    Asked,
    /// Before anything is said (RFC 8314, 3.3).
    First,
}

/// What the sessions of one listener share.
pub(super) struct Desk {
    pub house: Arc<House>,
    pub settings: Settings,
    pub handshake: Handshake,
}

impl Desk {
    fn new(house: &Arc<House>, own: &config::Smtp, service: Service, handshake: Handshake) -> Desk {
        let settings = Settings {
            service,
            domain: house.mailboxes.domain().to_string(),
            has_tls: house.tls.is_some(),
            auth_in_clear: own.auth_in_clear,
            relays: own.relay.route() != Ok(config::Route::None),
            message_bytes_max: own.message_bytes_max,
            recipients_max: own.recipients_max,
        };
        Desk { house: house.clone(), settings, handshake }
    }

    fn serve(self, listener: TcpListener, own: &config::Smtp) {
        let (limits, refuse) = (limits(own), self.refusal());
        net::serve(listener, limits, move |stream, peer| self.talk(stream, peer), refuse);
    }

    fn spawn(self, listener: TcpListener, own: &config::Smtp) {
        let (limits, refuse) = (limits(own), self.refusal());
        net::spawn(listener, limits, move |stream, peer| self.talk(stream, peer), refuse);
    }

    fn talk(&self, stream: Stream, peer: SocketAddr) {
        match Talk::begin(self, stream, peer) {
            Ok(mut talk) => talk.run(),
            Err(error) => log::debug!("no TLS with {peer}: {error}"),
        }
    }

    /// RFC 5321, 3.8: a server that cannot serve says so before it closes. Under TLS that would take a handshake, and the
    /// acceptor's time.
    fn refusal(&self) -> impl Fn(Stream) + use<> {
        let in_clear = self.handshake == Handshake::Asked;
        move |mut stream| {
            stream.set_deadline(Some(Instant::now() + REFUSAL_TIME));
            let reply = Reply::new(421, "4.3.2", "Too many sessions; try again later");
            let text = if in_clear { reply.to_string() } else { String::new() };
            let _ = stream.write_all(text.as_bytes());
        }
    }
}

fn limits(own: &config::Smtp) -> Limits {
    Limits { connections: own.sessions_max, per_address: own.sessions_per_address_max }
}
