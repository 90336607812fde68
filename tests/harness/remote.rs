//! Another mail host: polite unless it is told otherwise, verb by verb.

use penncloud::net::{Channel, Stream, Tls};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

/// What it says at which verb; `RCPT1` is the first recipient, `DOT` the end of a message, `SHAKE` the handshake.
///
/// A text is a reply, with CR LF added; several lines are several replies or one, as written. `@close` hangs up,
/// `@hang` says nothing more, `@flood` replies without end, `@drip` sends an octet now and then, `@raw ` sends octets
/// as they are.
pub type Manners = &'static [(&'static str, &'static str)];

/// A transaction that came to its end with 250.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The line of MAIL.
    pub mail: String,
    /// The lines of RCPT that were taken.
    pub recipients: Vec<String>,
    /// The message, without stuffed dots.
    pub message: String,
    /// Whether it came under TLS.
    pub secure: bool,
}

/// A host that lives as long as the test process.
pub struct Remote {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    manners: Mutex<Manners>,
    received: Mutex<Vec<Received>>,
    connections: Mutex<usize>,
}

static TLS: LazyLock<Tls> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let made = penncloud::tools::cert::run(dir.path(), &["localhost".into()]).unwrap();
    Tls::load(&made.certificate, &made.key).unwrap()
});

impl Remote {
    /// Starts one.
    pub fn start(manners: Manners) -> Remote {
        Remote::start_at("127.0.0.1:0", manners)
    }

    /// Starts one at an address.
    pub fn start_at(address: &str, manners: Manners) -> Remote {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            manners: Mutex::new(manners),
            received: Mutex::default(),
            connections: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || Talk::new(stream, state).and_then(|mut t| t.run().ok()));
            }
        });
        Remote { address, state }
    }

    /// From now on it behaves so.
    pub fn behave(&self, manners: Manners) {
        *self.state.manners.lock().unwrap() = manners;
    }

    /// What it has taken.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }
}

/// One session.
struct Talk {
    stream: BufReader<Channel>,
    manners: Manners,
    state: Arc<State>,
    secure: bool,
}

/// The session is over.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Over {
        Over
    }
}

impl Talk {
    fn new(stream: TcpStream, state: Arc<State>) -> Option<Talk> {
        *state.connections.lock().unwrap() += 1;
        let stream = BufReader::new(Channel::Plain(Stream::new(stream).ok()?));
        let manners = *state.manners.lock().unwrap();
        Some(Talk { stream, manners, state, secure: false })
    }

    fn run(&mut self) -> Result<(), Over> {
        self.say("GREETING", "220 remote")?;
        let mut open = Received::default();
        let mut named = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_string();
            match line.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => drop(self.say("EHLO", "250 remote")?),
                "STARTTLS" => {
                    if self.say("STARTTLS", "220 go")? {
                        self.shake()?;
                    }
                }
                "MAIL" => {
                    open = Received { mail: line, secure: self.secure, ..Received::default() };
                    named = 0;
                    self.say("MAIL", "250 ok")?;
                }
                "RCPT" => {
                    named += 1;
                    if self.say(&format!("RCPT{named}"), "250 ok")? {
                        open.recipients.push(line);
                    }
                }
                "DATA" => {
                    if self.say("DATA", "354 go")? {
                        open.message = self.message()?;
                        if self.say("DOT", "250 taken")? {
                            self.state.received.lock().unwrap().push(std::mem::take(&mut open));
                        }
                    }
                }
                verb => drop(self.say(verb, "250 ok")?),
            }
        }
    }

    /// Says what the manners want; whether it was no refusal.
    fn say(&mut self, verb: &str, polite: &'static str) -> Result<bool, Over> {
        let manner = self.manners.iter().find(|(at, _)| *at == verb).map_or(polite, |(_, m)| m);
        match manner {
            "@close" => return Err(Over),
            "@hang" => {
                let _ = self.stream.read_to_end(&mut Vec::new());
                return Err(Over);
            }
            "@flood" => loop {
                self.send(b"250-and on\r\n")?;
            },
            "@drip" => loop {
                self.send(b"2")?;
                std::thread::sleep(Duration::from_millis(20));
            },
            raw if raw.starts_with("@raw ") => self.send(&raw.as_bytes()[5..])?,
            reply => self.send(format!("{}\r\n", reply.replace('\n', "\r\n")).as_bytes())?,
        }
        Ok(matches!(manner.as_bytes()[0], b'2' | b'3'))
    }

    fn send(&mut self, octets: &[u8]) -> Result<(), Over> {
        Ok(self.stream.get_mut().write_all(octets)?)
    }

    fn message(&mut self) -> Result<String, Over> {
        let mut message = String::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(Over);
            }
            if line == b".\r\n" {
                return Ok(message);
            }
            assert!(line.ends_with(b"\r\n"), "only CR LF ends a line");
            message += &String::from_utf8_lossy(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    fn shake(&mut self) -> Result<(), Over> {
        if self.manners.iter().any(|(at, _)| *at == "SHAKE") {
            self.say("SHAKE", "")?;
            return Err(Over);
        }
        let stream = self.stream.get_ref().stream().clone();
        self.stream = BufReader::new(TLS.accept(stream)?);
        self.secure = true;
        Ok(())
    }
}
