//! Backends that follow a script, for tests of those who ask them.

use penncloud::config::Config;
use penncloud::error::Result;
use penncloud::net::listen::{self, Limits};
use penncloud::net::{Stream, bind};
use penncloud::protocol::auth::Gate;
use penncloud::protocol::command::{Command, Request};
use penncloud::protocol::reply::Reply;
use penncloud::protocol::wire::{Incoming, read_request};
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Bytes of a cell, in the configuration.
const CELL_BYTES: u64 = 1 << 20;

/// What a backend does with a request.
#[derive(Clone)]
pub enum Act {
    /// Answers.
    Answer(Reply),
    /// Says how long a value is, and sends these bytes; closes where they are fewer.
    Sends(Reply, Vec<u8>),
    /// Closes the connection.
    Close,
    /// Does nothing more.
    Hang,
}

/// What is done with the requests that come to any backend; the last one first. Then they close.
type Script = Arc<Mutex<Vec<Act>>>;

/// Two backends of a cluster without a master.
pub struct Scripted {
    /// The cluster's configuration.
    pub config: Config,
    /// The requests that the backends have seen.
    pub seen: Arc<Mutex<Vec<Request>>>,
    dir: tempfile::TempDir,
}

impl Scripted {
    /// Starts them.
    pub fn start(script: Vec<Act>) -> Scripted {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let script: Script = Arc::new(Mutex::new(script.into_iter().rev().collect()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut text = format!(
            "[cluster]\ndata_dir = {:?}\nmail_domain = 'x'\n[store]\nrequest_ms = 500\n\
             [master]\nname = 'm1'\naddress = '127.0.0.1:1'\n[[group]]\nname = 'a'\nbackend = [",
            dir.path()
        );
        let listeners = [(); 2].map(|()| bind("127.0.0.1:0").expect("a free port"));
        for (i, listener) in listeners.iter().enumerate() {
            let address = listener.local_addr().expect("it is bound");
            text += &format!("{{ name = 'a{i}', address = '{address}' }},");
        }
        text += "]\n";
        let config = Config::parse(&text).expect("a good configuration");
        std::fs::write(dir.path().join("cluster.toml"), text).expect("a file can be written");
        penncloud::tools::format::run(&config).expect("secrets can be made");
        let secret: Arc<str> = config.secrets().expect("secrets were made").cluster.into();
        for listener in listeners {
            let (script, seen, secret) = (script.clone(), seen.clone(), secret.clone());
            let follow = move |stream, _| drop(follow(stream, &secret, &script, &seen));
            let limits = Limits { connections: 64, per_address: 64 };
            listen::spawn(listener, limits, follow, |_| {});
        }
        Scripted { config, seen, dir }
    }

    /// Path of the configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }
}

fn follow(
    mut stream: Stream,
    secret: &Arc<str>,
    script: &Script,
    seen: &Mutex<Vec<Request>>,
) -> Result<()> {
    let mut gate = Gate::new(Some(secret.clone()), true);
    let mut from = BufReader::new(stream.clone());
    while let Incoming::Request(request) = read_request(&mut from, CELL_BYTES, |c| gate.check(c))? {
        let act = match &request.command {
            Command::Auth(words) => Act::Answer(gate.answer(words)),
            _ => {
                seen.lock().expect("nobody panics here").push(request);
                script.lock().expect("nobody panics here").pop().unwrap_or(Act::Close)
            }
        };
        match act {
            Act::Answer(reply) => stream.write_all(&written(&reply))?,
            Act::Sends(head, bytes) => {
                stream.write_all(&[written(&head), bytes.clone()].concat())?;
                if !matches!(head, Reply::Value { len, .. } if len == bytes.len() as u64) {
                    return Ok(());
                }
                stream.write_all(b"\n")?;
            }
            Act::Close => return Ok(()),
            Act::Hang => {
                std::thread::park();
                return Ok(());
            }
        }
    }
    Ok(())
}

fn written(reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    reply.write(&mut out);
    out
}
