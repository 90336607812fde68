//! The handshake with which a connection between PennCloud's own processes begins, as frames: what is
//! proved, and how, is [`crate::net::auth`].

use super::command::{Command, Request};
use super::reply::Reply;
use super::wire::read_reply;
use crate::error::{Error, Result};
use crate::net::auth::{Side, check, nonce, proof};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

/// Longest time that a connection which must prove the secret takes for it.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections over a listener's cap that it takes from PennCloud's own processes alone. Those of two other nodes that
/// pass requests on, their links and the master's are fewer.
pub const RESERVED: usize = 256;
/// Shortest and longest nonce that is taken from the other side.
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 32..=256;

/// The connecting side: proves the secret, and checks that the other side knows it too.
pub fn prove(from: &mut impl BufRead, to: &mut impl Write, secret: &str) -> Result<()> {
    let mine = nonce().into_bytes();
    send(to, vec![mine.clone()])?;
    let Reply::Auth(words) = expect(from)? else {
        return Err(Error::Denied("the other side does not speak AUTH".into()));
    };
    let [theirs, given] = words.as_slice() else {
        return Err(Error::Denied("the other side's AUTH has not two words".into()));
    };
    if !check(&proof(secret, Side::Server, &mine, theirs), given) {
        return Err(Error::Denied("the other side does not know the cluster's secret".into()));
    }
    send(to, vec![proof(secret, Side::Client, &mine, theirs).into_bytes()])?;
    match expect(from)? {
        Reply::Ok(_) => Ok(()),
        other => Err(Error::Denied(format!("AUTH was answered by {other:?}"))),
    }
}

fn send(to: &mut impl Write, words: Vec<Vec<u8>>) -> Result<()> {
    to.write_all(&Request::new(Command::Auth(words)).to_bytes())?;
    Ok(to.flush()?)
}

fn expect(from: &mut impl BufRead) -> Result<Reply> {
    match read_reply(from, false)? {
        Reply::Error(error) => Err(error),
        reply => Ok(reply),
    }
}

/// The accepting side of one connection: what it lets through, and how far its handshake is.
pub struct Gate {
    secret: Option<Arc<str>>,
    state: State,
    required: bool,
    /// Whether nothing is answered but what PennCloud's own processes say to one another.
    reserved: bool,
}

enum State {
    Fresh,
    Challenged { theirs: Vec<u8>, mine: String },
    Proved,
    Failed,
}

impl Gate {
    /// The gate of a new connection. `required`: nothing is answered before the handshake. Without a
    /// secret no handshake can succeed.
    pub fn new(secret: Option<Arc<str>>, required: bool) -> Gate {
        Gate { secret, state: State::Fresh, required, reserved: false }
    }

    /// The gate of a connection over the cap of its listener: it admits PennCloud's own processes alone.
    pub fn reserved(secret: Arc<str>) -> Gate {
        Gate { reserved: true, ..Gate::new(Some(secret), true) }
    }

    /// Whether the other side has proved the secret.
    pub fn is_proved(&self) -> bool {
        matches!(self.state, State::Proved)
    }

    /// Whether the other side may ask anything: it has proved the secret, or need not.
    pub fn is_open(&self) -> bool {
        self.is_proved() || !self.required
    }

    /// Whether a command may be executed now, and its bytes be read at all: the handshake always, the verbs
    /// between PennCloud's own processes only after it.
    pub fn check(&self, command: &Command) -> Result<()> {
        match command {
            Command::Auth(_) | Command::Quit => Ok(()),
            _ if self.reserved && !(self.is_proved() && is_own(command)) => {
                Err(Error::retry("too many connections"))
            }
            _ if !self.is_open() => Err(Error::Denied("begin with AUTH".into())),
            Command::Peer(_) if !self.is_proved() => {
                Err(Error::Denied("@ verbs begin with AUTH".into()))
            }
            _ => Ok(()),
        }
    }

    /// Answers an AUTH. A connection has one try: after a `DENIED` it should be closed.
    pub fn answer(&mut self, words: &[Vec<u8>]) -> Reply {
        let Some(secret) = self.secret.clone() else {
            return Reply::Error(Error::Denied("this process has no secret".into()));
        };
        let (state, reply) = match (&self.state, words) {
            (State::Fresh, [theirs]) if NONCE_BYTES.contains(&theirs.len()) => {
                challenge(&secret, theirs)
            }
            (State::Challenged { theirs, mine }, [given])
                if check(&proof(&secret, Side::Client, theirs, mine.as_bytes()), given) =>
            {
                (State::Proved, Reply::Ok(Vec::new()))
            }
            _ => {
                let why = "this is no proof of the cluster's secret";
                (State::Failed, Reply::Error(Error::Denied(why.into())))
            }
        };
        self.state = state;
        reply
    }
}

/// Whether nodes, and the master for an operator, say this to one another.
fn is_own(command: &Command) -> bool {
    matches!(command, Command::Peer(_) | Command::Shutdown { .. } | Command::Wakeup { .. })
}

fn challenge(secret: &str, theirs: &[u8]) -> (State, Reply) {
    let mine = nonce();
    let proof = proof(secret, Side::Server, theirs, mine.as_bytes());
    let reply = Reply::Auth(vec![mine.clone().into_bytes(), proof.into_bytes()]);
    (State::Challenged { theirs: theirs.to_vec(), mine }, reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::Peer;
    use crate::protocol::wire::{Incoming, read_request};
    use std::io::BufReader;
    use std::net::{TcpListener, TcpStream};

    /// Answers AUTH on one connection until it ends; tells whether the other side proved itself.
    fn accept(listener: TcpListener, secret: &str) -> std::thread::JoinHandle<bool> {
        let mut gate = Gate::new(Some(secret.into()), true);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut from = BufReader::new(stream.try_clone().unwrap());
            while let Ok(Incoming::Request(request)) = read_request(&mut from, 1024, |_| Ok(())) {
                let Command::Auth(words) = request.command else { panic!("AUTH is expected") };
                let mut out = Vec::new();
                gate.answer(&words).write(&mut out);
                stream.write_all(&out).unwrap();
            }
            gate.is_proved()
        })
    }

    fn handshake(ours: &str, theirs: &str) -> (Result<()>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepting = accept(listener, theirs);
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let proved = prove(&mut from, &mut stream, ours);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        (proved, accepting.join().unwrap())
    }

    #[test]
    fn both_sides_prove_the_secret() {
        assert_eq!(handshake("secret", "secret"), (Ok(()), true));
    }

    #[test]
    fn another_secret_proves_nothing() {
        let (proved, accepted) = handshake("secret", "other");
        assert!(matches!(proved, Err(Error::Denied(_))));
        assert!(!accepted);
    }

    #[test]
    fn a_gate_has_one_try() {
        let mut gate = Gate::new(Some("secret".into()), true);
        let mine = nonce().into_bytes();
        let Reply::Auth(words) = gate.answer(std::slice::from_ref(&mine)) else {
            panic!("a challenge is expected")
        };
        assert!(matches!(gate.answer(&[b"wrong".to_vec()]), Reply::Error(Error::Denied(_))));
        let right = proof("secret", Side::Client, &mine, &words[0]).into_bytes();
        assert!(matches!(gate.answer(&[right]), Reply::Error(Error::Denied(_))));
        assert!(!gate.is_open());
    }

    #[test]
    fn a_closed_gate_admits_the_handshake_alone() {
        let closed = Gate::new(None, true);
        assert!(matches!(closed.check(&Command::Ping), Err(Error::Denied(_))));
        assert_eq!(closed.check(&Command::Auth(vec![])), Ok(()));
        assert_eq!(closed.check(&Command::Quit), Ok(()));
    }

    #[test]
    fn a_reserved_gate_admits_own_processes_alone() {
        let mut gate = Gate::reserved("secret".into());
        let beat = Command::Peer(Peer { verb: "@BEAT".into(), words: vec![], payload: vec![] });
        assert!(matches!(gate.check(&Command::Ping), Err(Error::Retry(_))));
        assert!(matches!(gate.check(&beat), Err(Error::Retry(_))));
        assert_eq!(gate.check(&Command::Auth(vec![])), Ok(()));
        gate.state = State::Proved;
        assert!(matches!(gate.check(&Command::Ping), Err(Error::Retry(_))));
        assert_eq!(gate.check(&beat), Ok(()));
        assert_eq!(gate.check(&Command::Shutdown { node: "a1".into(), force: false }), Ok(()));
    }

    #[test]
    fn an_open_gate_keeps_strangers_from_the_verbs_between_processes() {
        let open = Gate::new(None, false);
        assert_eq!(open.check(&Command::Ping), Ok(()));
        let beat = Peer { verb: "@BEAT".into(), words: vec![], payload: vec![] };
        assert!(matches!(open.check(&Command::Peer(beat)), Err(Error::Denied(_))));
    }
}
