//! A group of the bench's own: a master and three backends, each with its own disk directory, as in `conf/local.toml`.

use super::children::{Children, free_addresses};
use crate::client::Client;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::protocol::cluster::{Routes, TabletRoute};
use crate::protocol::command::{Command, Peer};
use crate::protocol::reply::Reply;
use std::path::{Path, PathBuf};
use std::process;

/// A running group.
pub struct Group {
    children: Children,
    config: Config,
    program: PathBuf,
    client: Client,
}

impl Group {
    /// Starts a group with its data below a directory, and waits until every tablet has all its copies. `program` is
    /// `penncloud`.
    pub fn start(program: &Path, below: &Path) -> Result<Group> {
        Group::start_with(program, below, "")
    }

    /// The same with more configuration.
    pub fn start_with(program: &Path, below: &Path, more: &str) -> Result<Group> {
        let children = Children::new(below)?;
        let text = configuration(children.dir(), &free_addresses()?) + more;
        std::fs::write(children.dir().join("cluster.toml"), &text)?;
        let config = Config::parse(&text)?;
        crate::tools::format::run(&config)?;
        let client = Client::new(&config)?;
        let group = Group { children, config, program: program.into(), client };
        for (name, role, _) in group.config.processes() {
            group.launch(name, role)?;
        }
        group.await_whole()?;
        Ok(group)
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its processes.
    pub fn children(&self) -> &Children {
        &self.children
    }

    /// Addresses of its backends.
    pub fn addresses(&self) -> Vec<String> {
        self.config.backends().map(|backend| backend.address.clone()).collect()
    }

    /// Asks the master something.
    pub fn ask_master(&self, command: Command) -> Result<Reply> {
        self.client.call_at(self.config.master_address(), command)
    }

    /// The nodes of an owner's group, name and address, the primary of its tablet first.
    pub fn nodes_of(&self, owner: &str) -> Result<Vec<(String, String)>> {
        match self.ask_master(Command::Where { owner: owner.into() })? {
            Reply::Group { nodes, .. } => Ok(nodes),
            other => Err(Error::corrupt(format_args!("a strange answer to WHERE: {other:?}"))),
        }
    }

    /// Kills a backend with SIGKILL.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.children.kill(name)
    }

    /// Starts a backend that was killed.
    pub fn launch_backend(&self, name: &str) -> Result<()> {
        self.launch(name, "backend")
    }

    /// Waits until a node answers.
    pub fn await_answer(&self, address: &str) -> Result<()> {
        let ping = || self.client.call_at(address, Command::Ping).map(drop);
        self.children.await_work("wait until a node answers", ping)
    }

    /// The most bytes that a node had resident since it was started, as the system says.
    pub fn most_resident(&self, name: &str) -> Result<u64> {
        self.children.most_resident(name)
    }

    fn launch(&self, name: &str, role: &str) -> Result<()> {
        let config = self.children.dir().join("cluster.toml");
        let mut command = process::Command::new(&self.program);
        command.arg(role).arg("--config").arg(config).args(["--name", name]);
        self.children.start(name, &mut command)
    }

    /// Waits until every replica of every tablet is in sync.
    pub fn await_whole(&self) -> Result<()> {
        self.children.await_work("wait until all replicas are in sync", || {
            let peer = Peer::new("@GETROUTES", Vec::new());
            let Reply::Peer { payload, .. } = self.ask_master(Command::Peer(peer))? else {
                return Err(Error::corrupt("a strange answer to @GETROUTES"));
            };
            let routes: Routes = serde_json::from_slice(&payload).map_err(Error::corrupt)?;
            whole(&routes)
        })
    }
}

fn whole(routes: &Routes) -> Result<()> {
    let in_sync =
        |tablet: &TabletRoute| tablet.epoch > 0 && tablet.isr.len() == tablet.members.len();
    if !routes.tablets.is_empty() && routes.tablets.iter().all(in_sync) {
        return Ok(());
    }
    Err(Error::retry("not all replicas are in sync"))
}

fn configuration(dir: &Path, addresses: &[String; 4]) -> String {
    let [master, a1, a2, a3] = addresses;
    format!(
        r#"
[cluster]
data_dir = {data:?}
mail_domain = "penn.test"
log = "warn"
[master]
name = "m1"
address = "{master}"
[[group]]
name = "a"
backend = [
    {{ name = "a1", address = "{a1}" }},
    {{ name = "a2", address = "{a2}" }},
    {{ name = "a3", address = "{a3}" }},
]
"#,
        data = dir.join("data")
    )
}
