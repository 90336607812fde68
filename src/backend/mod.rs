//! A storage node.

mod node;
mod peer;
mod reads;
mod serve;
mod status;
mod sweep;
mod tablet;
mod writes;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::net::{self, Limits};
use crate::protocol::reply::Reply;
use node::Node;
use std::io::Write;
use std::sync::Arc;

/// Runs the backend named `name` until the process is told to end.
pub fn run(config: &Config, name: &str) -> Result<()> {
    let backend = config.backends().find(|b| b.name == name);
    let backend = backend
        .ok_or_else(|| Error::config(format!("the configuration has no backend {name:?}")))?;
    let secret: Arc<str> = config.secrets()?.cluster.into();
    let listener = net::bind(&backend.address)?;
    let node = Node::open(config, name)?;
    for (task, run) in [("disk", Node::watch_disk as fn(&Node)), ("sweep", Node::sweep)] {
        let node = node.clone();
        std::thread::Builder::new().name(task.into()).spawn(move || run(&node))?;
    }
    log::info!("backend {name} listens on {}", backend.address);
    let limits = Limits {
        connections: config.store.connections_max,
        per_address: config.store.connections_max,
    };
    net::serve(
        listener,
        limits,
        move |stream, peer| serve::serve(&node, &secret, stream, peer),
        |mut stream| {
            let mut out = Vec::new();
            Reply::Error(Error::retry("too many connections")).write(&mut out);
            let _ = stream.write_all(&out);
        },
    );
    Ok(())
}
