//! What a node knows of the cluster: what the master said last, and before that what is configured.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cluster::Routes;
use std::sync::{Arc, RwLock};

/// What a node knows of the cluster. Shared by all threads.
pub struct Directory {
    config: Config,
    routes: RwLock<Arc<Routes>>,
}

impl Directory {
    /// What is configured.
    pub fn new(config: &Config) -> Directory {
        Directory { config: config.clone(), routes: RwLock::default() }
    }

    /// What the master said last.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.read().expect("routes are replaced whole").clone()
    }

    /// Takes what the master says now.
    pub fn replace(&self, mut routes: Routes) {
        for node in &mut routes.nodes {
            node.address = self.config.via(&node.name, &node.address).into();
        }
        *self.routes.write().expect("routes are replaced whole") = Arc::new(routes);
    }

    /// `host:port` of a node: as the master says, or as configured while it has said nothing.
    pub fn address(&self, node: &str) -> Result<String> {
        if let Some(known) = self.routes().node(node) {
            return Ok(known.address.clone());
        }
        let configured = self.config.backends().find(|backend| backend.name == node);
        configured
            .map(|backend| self.config.via(node, &backend.address).into())
            .ok_or_else(|| Error::retry(format!("no node {node} is known")))
    }

    /// Whether a disk is the one that the master knows under a node's name, as far as this node was told.
    pub fn is_disk_of(&self, node: &str, store_uuid: &str) -> bool {
        let routes = self.routes();
        let known = routes.node(node).and_then(|known| known.store_uuid.as_deref());
        known.is_none_or(|known| known == store_uuid)
    }
}
