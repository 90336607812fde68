//! `status`: what processes say of themselves; and which process a name means.

use super::end::End;
use crate::client::Client;
use crate::config::Config;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long one process may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks one process, or the master and all nodes.
pub(super) fn run(
    store: &Client,
    config: &Config,
    node: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), End> {
    if let Some(node) = node {
        let address = address(config, node, &["master", "backend"])?;
        let text = store.status_of(&address, Instant::now() + PATIENCE).map_err(End::read)?;
        return write!(out, "{text}").map_err(End::output);
    }
    let asked = config.processes().into_iter().filter(|(_, role, _)| is_of_store(role));
    let mut silent = Vec::new();
    for (name, _, own) in asked {
        let address = config.via(name, own);
        writeln!(out, "{name} at {address}:").map_err(End::output)?;
        let said = match store.status_of(address, Instant::now() + PATIENCE) {
            Ok(text) => writeln!(out, "{text}"),
            Err(error) => {
                silent.push(name);
                writeln!(out, "no answer: {error}\n")
            }
        };
        said.and_then(|()| out.flush()).map_err(End::output)?;
    }
    match silent.is_empty() {
        true => Ok(()),
        false => Err(End::Failed(format!("no answer from {}", silent.join(", ")))),
    }
}

fn is_of_store(role: &str) -> bool {
    matches!(role, "master" | "backend")
}

/// The address of the node that `--node` means.
pub(super) fn backend(config: &Config, node: &str) -> Result<String, End> {
    address(config, node, &["backend"])
}

/// The address of a process of certain roles, by its name; an address is taken as it is.
fn address(config: &Config, node: &str, roles: &[&str]) -> Result<String, End> {
    if node.contains(':') {
        return Ok(node.into());
    }
    let fitting = config.processes().into_iter().filter(|(_, role, _)| roles.contains(role));
    let fitting: Vec<_> = fitting.collect();
    match fitting.iter().find(|(name, ..)| *name == node) {
        Some((name, _, address)) => Ok(config.via(name, address).into()),
        None => {
            let names: Vec<&str> = fitting.iter().map(|(name, ..)| *name).collect();
            Err(End::usage(format!("no node {node} here; there are {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_or_given_by_its_address() {
        let config = Config::parse(include_str!("../../../conf/local.toml")).unwrap();
        assert_eq!(backend(&config, "b2"), Ok("127.0.0.1:5202".into()));
        assert_eq!(backend(&config, "other:99"), Ok("other:99".into()));
        assert_eq!(address(&config, "m1", &["master"]), Ok("127.0.0.1:5000".into()));
        let wrong = backend(&config, "m1").unwrap_err();
        assert_eq!(wrong, End::Usage("no node m1 here; there are a1, a2, a3, b1, b2, b3".into()));
    }
}
