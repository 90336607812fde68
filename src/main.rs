//! The command line: a role and a configuration, and runs it.

use clap::{Parser, Subcommand};
use penncloud::config::{Config, Secrets};
use penncloud::error::{Error, Result};
use penncloud::tools;
use penncloud::tools::bench::{Comparison, bare, failover, http, replicated, volume};
use penncloud::tools::logfile::{LOG_BYTES_MAX, LogFile};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Takes mail in, from other hosts and from our users' programs.
    Smtp(Process),
    /// Sends visitors to a frontend.
    Balancer(Process),
    /// The admin's web page.
    Console(Process),
    /// The store's command line client: reads, writes and lists cells.
    Kv(tools::kv::arguments::Arguments),
    /// Makes the data directory with its secrets and certificates, once.
    Format(ConfigFile),
    /// Makes codes with which people sign up at frontends whose `signup` is "invite"; prints one a line.
    Invite {
        #[command(flatten)]
        cluster: ConfigFile,
        /// How many; each is good for one account.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// How many days they are good.
        #[arg(long, default_value_t = 14)]
        days: u64,
    },
    /// Lists the processes of the cluster, for scripts.
    Processes(ConfigFile),
    /// Measures a running cluster, beside what its machine allows; or the store alone.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(flatten)]
        cluster: ConfigFile,
        #[command(flatten)]
        time: CaseTime,
        #[command(subcommand)]
        alone: Option<BenchAlone>,
    },
    /// Makes a certificate that its own key signs, to try TLS with.
    Cert {
        /// Names and addresses of the hosts that will show it.
        #[arg(default_values = ["localhost", "127.0.0.1", "::1"])]
        hosts: Vec<String>,
        /// Directory in which `cert.pem` and `key.pem` are made; neither may be there.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Checks the data of a stopped node, or of all nodes of a stopped cluster.
    Fsck {
        /// Data directory of a node or a cluster.
        dir: PathBuf,
    },
}

/// Measurements that start nodes of their own.
#[derive(Subcommand)]
enum BenchAlone {
    /// PUT and GET of three replicas that sync every write, beside etcd and Redis where they are installed.
    Kv {
        #[command(flatten)]
        cases: Cases,
        /// Only cases that hold this text: "GET", "PUT 100 B", "PUT 100 B, 64".
        #[arg(long, default_value = "")]
        only: String,
    },
    /// How much data with how little memory: a million cells, a value of a gigabyte, and a start with all that.
    Store {
        #[command(flatten)]
        cases: Cases,
        /// Small cells that are written.
        #[arg(long, default_value_t = 1_000_000)]
        cells: u64,
        /// How often as many are overwritten afterwards, by chance.
        #[arg(long, default_value_t = 2)]
        overwrites: u64,
        /// Bytes of the large value.
        #[arg(long, default_value_t = 1_000_000_000)]
        large: u64,
        /// Memory of each node, in MiB.
        #[arg(long, default_value_t = 128)]
        memory: u64,
    },
    /// Pages of 1 to 1,000 connections, beside nginx where it is installed and the least server of our shape.
    Http {
        #[command(flatten)]
        cases: Cases,
        /// Only cases that hold this text: "a redirect", "kept, 16", "one each".
        #[arg(long, default_value = "")]
        only: String,
    },
    /// The least server of our shape, which `bench http` measures.
    #[command(hide = true)]
    Bare {
        /// Where it listens.
        address: String,
        /// The bytes of its answer.
        answer: PathBuf,
    },
    /// How long clients wait when a primary is killed, and when it is shut down in order.
    Failover {
        /// How often each is done; a run takes about 10 seconds.
        #[arg(long, default_value_t = 30)]
        runs: usize,
        /// A new directory in this one holds all data, and is removed.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
}

/// How long a case is measured.
#[derive(clap::Args)]
struct CaseTime {
    /// How long each case runs, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Cases that are measured on a disk.
#[derive(clap::Args)]
struct Cases {
    #[command(flatten)]
    time: CaseTime,
    /// A directory on the disk to be measured; a new one in it holds all data, and is removed.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Which cluster.
#[derive(clap::Args)]
struct ConfigFile {
    /// The cluster's configuration.
    #[arg(long, default_value = "conf/local.toml")]
    config: PathBuf,
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
    /// Where it logs, within bounds; standard error unless told.
    #[arg(long)]
    log_file: Option<PathBuf>,
}

fn main() {
    let arguments = Arguments::parse();
    if let Err(error) = run(arguments.role) {
        eprintln!("penncloud: {error}");
        std::process::exit(1);
    }
}

/// How the C library's allocator is to be: it has few heaps, and what is large goes back to the system when it is freed,
/// however often as much was needed before.
const FRUGAL: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "4"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

/// Has the allocator give memory back: else a backend takes twice what it holds. The allocator is told by the environment
/// alone, when a process begins: so this one begins again. Who has set these variables knows better.
fn be_frugal() -> Result<()> {
    use std::os::unix::process::CommandExt;
    if FRUGAL.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    Err(again.args(std::env::args_os().skip(1)).envs(FRUGAL).exec().into())
}

/// Runs a role for as long as the process lives.
type Start = fn(&Config, &str) -> Result<()>;

fn run(role: Role) -> Result<()> {
    match role {
        Role::Master(p) => start(p, penncloud::master::run),
        Role::Backend(p) => {
            be_frugal()?;
            start(p, penncloud::backend::run)
        }
        Role::Frontend(p) => start(p, penncloud::frontend::run),
        Role::Smtp(p) => start(p, penncloud::smtp::run),
        Role::Balancer(p) => start(p, penncloud::balancer::run),
        Role::Console(p) => start(p, penncloud::console::run),
        Role::Kv(command) => std::process::exit(tools::kv::run(&command)),
        Role::Format(file) => format(&file),
        Role::Invite { cluster, count, days } => {
            let config = Config::load(&cluster.config)?;
            tools::invite::run(&config, count, days, &mut std::io::stdout())
        }
        Role::Bench { alone: Some(alone), .. } => bench_alone(alone),
        Role::Bench { cluster, time, alone: None } => bench(&cluster.config, &time),
        Role::Cert { hosts, dir } => cert(&dir, &hosts),
        Role::Fsck { dir } => tools::fsck::run(&dir, &mut std::io::stdout()),
        Role::Processes(file) => {
            print!("{}", tools::processes::list(&Config::load(&file.config)?));
            Ok(())
        }
    }
}

/// Runs one process until it is told to end.
fn start(process: Process, run: Start) -> Result<()> {
    let config = Config::load(&process.config)?;
    start_log(&config, process.log_file.as_deref())?;
    outlive_hangup()?;
    run(&config, &process.name)
}

/// SIGHUP has those who serve TLS read their certificates again, and ends nobody: an operator sends it to all.
fn outlive_hangup() -> Result<()> {
    let unheard = std::sync::Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGHUP, unheard)?;
    Ok(())
}

fn start_log(config: &Config, file: Option<&Path>) -> Result<()> {
    let level =
        config.cluster.log.parse().map_err(|_| Error::config("cluster.log is not a level"))?;
    let format = simplelog::ConfigBuilder::new().set_time_format_rfc3339().build();
    let to: Box<dyn std::io::Write + Send> = match file {
        Some(path) => Box::new(LogFile::open(path, LOG_BYTES_MAX)?),
        None => Box::new(std::io::stderr()),
    };
    simplelog::WriteLogger::init(level, format, to)
        .map_err(|e| Error::config(format!("cannot start the log: {e}")))?;
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

fn format(file: &ConfigFile) -> Result<()> {
    let config = Config::load(&file.config)?;
    if let Some(secrets) = tools::format::run(&config)? {
        let path = Secrets::path(&config.cluster.data_dir);
        println!("Made the cluster's secrets: {} (keep it to yourself)", path.display());
        println!("Console: user admin, password {} (shown this once)", secrets.admin_password);
    }
    Ok(())
}

fn cert(dir: &Path, hosts: &[String]) -> Result<()> {
    let made = tools::cert::run(dir, hosts)?;
    let (days, hosts) = (tools::cert::DAYS, hosts.join(", "));
    println!("Good for {days} days, for {hosts}. In the configuration, below [http] or [[smtp]]:");
    println!("tls_cert = {:?}\ntls_key = {:?}", made.certificate, made.key);
    Ok(())
}

fn bench(config: &Path, time: &CaseTime) -> Result<()> {
    let settings = tools::bench::Settings::full(time.duration()?);
    tools::bench::run(&Config::load(config)?, &settings, &mut std::io::stdout())
}

fn bench_alone(what: BenchAlone) -> Result<()> {
    let (program, out) = (std::env::current_exe()?, &mut std::io::stdout());
    match what {
        BenchAlone::Kv { cases: Cases { time, dir }, only } => {
            let time = time.duration()?;
            replicated::run(&Comparison { program, dir, time, only }, out)
        }
        BenchAlone::Store { cases: Cases { time, dir }, cells, overwrites, large, memory } => {
            let (time, large_bytes, memory_limit_bytes) = (time.duration()?, large, memory << 20);
            let settings = volume::Settings {
                program,
                dir,
                cells,
                overwrites,
                large_bytes,
                memory_limit_bytes,
                time,
            };
            volume::run(&settings, out)
        }
        BenchAlone::Http { cases: Cases { time, dir }, only } => {
            let time = time.duration()?;
            http::run(&Comparison { program, dir, time, only }, out)
        }
        BenchAlone::Bare { address, answer } => bare::run(&address, &answer),
        BenchAlone::Failover { runs, dir } => {
            failover::run(&failover::Settings { program, dir, runs }, out)
        }
    }
}

impl CaseTime {
    fn duration(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.seconds)
            .map_err(|e| Error::config(format!("--seconds {}: {e}", self.seconds)))
    }
}
