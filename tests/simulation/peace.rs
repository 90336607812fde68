//! 19: when faults have stopped, everything comes back.

use super::node::Node;
use super::world::*;

impl World {
    /// Ten seconds after the faults: all members are in sync, all clients were answered or have given up, and from now
    /// on everyone is answered at once.
    pub fn check_peace(&mut self) {
        let checked = self.is_whole().and_then(|()| self.is_answered());
        self.fail(checked);
        self.probe();
    }

    /// All members are in sync.
    fn is_whole(&self) -> Result<(), String> {
        for t in 0..self.plan.tablets {
            let route = self.route(t);
            if route.isr != route.members {
                let state: Vec<String> = self.nodes.iter().map(|n| describe(n, t)).collect();
                return Err(format!("19: not all is well in peace: {route:?}, {state:?}"));
            }
        }
        Ok(())
    }

    fn is_answered(&self) -> Result<(), String> {
        match self.clients.iter().find(|client| client.doing.is_some()) {
            Some(client) => Err(format!("19: client {} still waits", client.id)),
            None => Ok(()),
        }
    }

    /// At the end all logs are equal, and all clients are answered.
    pub fn is_finished(&self) -> Result<(), String> {
        self.is_whole()?;
        for t in 0..self.plan.tablets {
            for node in &self.nodes {
                let Some(replica) = node.replica(t) else {
                    return Err(format!("19: {} is still dead", node.name));
                };
                if replica.committed().version != self.observers[t].version() {
                    return Err(format!("19: not everything has come to {}", describe(node, t)));
                }
                self.observers[t].same_state(replica.committed())?;
            }
        }
        self.is_answered()
    }
}

fn describe(node: &Node, t: usize) -> String {
    match node.replica(t) {
        None => format!("{} dead", node.name),
        Some(r) => format!(
            "{} epoch {} sealed {} end {:?} committed {} leads {}",
            node.name,
            r.configuration().epoch,
            r.sealed_epoch(),
            r.end(),
            r.committed().version,
            r.leads()
        ),
    }
}
