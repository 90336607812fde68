//! What a node knows of the cluster: what the master said last, in an earlier run too, and before that what is configured.
//!
//! The routes are kept on disk, so that a node that starts while the master is away knows its tablets' primaries and
//! serves with the others. Routes that are old do no harm. They only say whom to ask: what a replica may do is decided
//! by the epoch that it has adopted itself, and who is asked in vain refuses. The first word of the master replaces them.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cluster::{Routes, Tables};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::Duration;

/// What a node knows of the cluster. Shared by all threads.
pub struct Directory {
    config: Config,
    routes: RwLock<Arc<Routes>>,
    /// The newest tables that the master ever told.
    knows: Mutex<Tables>,
    /// Rings when the routes have changed.
    bell: (Mutex<()>, Condvar),
}

impl Directory {
    /// What the master said in an earlier run, if that was kept, at the addresses that are configured now.
    pub fn new(config: &Config, kept: Option<Routes>) -> Directory {
        let mut routes = kept.unwrap_or_default();
        let knows = Mutex::new(routes.tables());
        routes.version = 0;
        for node in &mut routes.nodes {
            let configured = config.backends().find(|backend| backend.name == node.name);
            node.address =
                configured.map_or(std::mem::take(&mut node.address), |b| b.address.clone());
        }
        let routes = RwLock::new(Arc::new(routes));
        Directory { config: config.clone(), routes, knows, bell: Default::default() }
    }

    /// What the master said last. Version 0: nothing in this run.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.read().expect("routes are replaced whole").clone()
    }

    /// The newest tables that the master ever told, in an earlier run too.
    pub fn knows(&self) -> Tables {
        self.knows.lock().expect("tables are replaced whole").clone()
    }

    /// Takes what the master says now.
    ///
    /// # Errors
    /// [`Error::Denied`]: its tables are older than those that were told before, or of another cluster.
    pub fn replace(&self, routes: Routes) -> Result<()> {
        let tables = routes.tables();
        if let Some(why) = self.knows().forgotten_by(&tables) {
            return Err(Error::Denied(why));
        }
        *self.knows.lock().expect("tables are replaced whole") = tables;
        *self.routes.write().expect("routes are replaced whole") = Arc::new(routes);
        drop(self.quiet());
        self.bell.1.notify_all();
        Ok(())
    }

    /// Waits until the master says something else than was seen, or so long; answers what it said last.
    pub fn wait_change(&self, seen: &Arc<Routes>, most: Duration) -> Arc<Routes> {
        let same = |_: &mut ()| Arc::ptr_eq(&self.routes(), seen);
        let waited = self.bell.1.wait_timeout_while(self.quiet(), most, same);
        drop(waited.expect("nobody panics while the bell is held"));
        self.routes()
    }

    /// Nobody rings while this is held.
    fn quiet(&self) -> MutexGuard<'_, ()> {
        self.bell.0.lock().expect("nobody panics while the bell is held")
    }

    /// `host:port` of a node: as the master says, or as configured while it has said nothing.
    pub fn address(&self, node: &str) -> Result<String> {
        if let Some(known) = self.routes().node(node) {
            return Ok(self.config.via(node, &known.address).into());
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
