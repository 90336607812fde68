//! The command line: a role and a configuration, and runs it.

use clap::{Parser, Subcommand};
use penncloud::config::Config;
use penncloud::error::{Error, Result};
use std::path::PathBuf;

/// PennCloud: webmail and file storage over its own distributed key-value store.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Knows the groups, the nodes and who is alive.
    Master(Process),
    /// Stores tablets.
    Backend(Process),
    /// Serves webmail and files over HTTP.
    Frontend(Process),
    /// Receives mail.
    Smtp(Process),
    /// Sends visitors to a frontend.
    Balancer(Process),
    /// The admin's web page.
    Console(Process),
}

/// Which process of which cluster.
#[derive(clap::Args)]
struct Process {
    /// The cluster's configuration.
    #[arg(long, default_value = "conf/local.toml")]
    config: PathBuf,
    /// Name of the process in the configuration.
    #[arg(long)]
    name: String,
}

fn main() {
    let arguments = Arguments::parse();
    if let Err(error) = run(arguments.role) {
        eprintln!("penncloud: {error}");
        std::process::exit(1);
    }
}

/// Runs one process for as long as it lives.
type Start = fn(&Config, &str) -> Result<()>;

fn run(role: Role) -> Result<()> {
    let (process, start): (Process, Start) = match role {
        Role::Master(p) => (p, penncloud::master::run),
        Role::Backend(p) => (p, penncloud::backend::run),
        Role::Frontend(p) => (p, penncloud::frontend::run),
        Role::Smtp(p) => (p, penncloud::smtp::run),
        Role::Balancer(p) => (p, penncloud::balancer::run),
        Role::Console(p) => (p, penncloud::console::run),
    };
    let config = Config::load(&process.config)?;
    start_log(&config)?;
    start(&config, &process.name)
}

fn start_log(config: &Config) -> Result<()> {
    let level =
        config.cluster.log.parse().map_err(|_| Error::config("cluster.log is not a level"))?;
    let format = simplelog::ConfigBuilder::new().set_time_format_rfc3339().build();
    simplelog::WriteLogger::init(level, format, std::io::stderr())
        .map_err(|e| Error::config(format!("cannot start the log: {e}")))
}
