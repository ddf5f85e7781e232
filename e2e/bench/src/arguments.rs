//! The command line. Decides nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures Lifeboat beside the stock tools: every ratio from one run, on one machine, in turn.
#[derive(Parser, Debug)]
#[command(name = "lifeboat-bench", subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to measure.
    #[command(flatten)]
    pub bench: Bench,
    /// What the bench runs of itself.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the bench runs of itself.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Reads a member's snapshot to nothing, on the member's node.
    #[command(hide = true)]
    ReadStream(ReadStream),
}

/// Where the snapshot is read.
#[derive(Args, Debug)]
pub struct ReadStream {
    /// Host and port of the member.
    #[arg(long)]
    pub address: String,
    /// CA of its certificate, PEM.
    #[arg(long)]
    pub ca: PathBuf,
    /// Client certificate, PEM.
    #[arg(long)]
    pub cert: PathBuf,
    /// Its key, PEM.
    #[arg(long)]
    pub key: PathBuf,
}

/// What to measure.
#[derive(Args, Debug, Clone)]
pub struct Bench {
    /// Only these parts, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    pub only: Vec<Part>,
    /// Measured runs of each kind, after one that does not count.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Leaves out the growth from the first database to one of 4 GiB.
    #[arg(long)]
    pub skip_4gib: bool,
    /// Size of the database, MiB at least.
    #[arg(long, default_value_t = 1024)]
    pub mib: u64,
    /// Size of the database that growth is seen by, MiB at least.
    #[arg(long, default_value_t = 4096)]
    pub grown_mib: u64,
    /// Seed of the databases.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Finished backups that the idle operator holds.
    #[arg(long, default_value_t = 1000)]
    pub backups: u32,
    /// Longest wait for a quiet machine before each run, seconds; then the run is marked.
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
    /// Writes the table into docs/performance.md.
    #[arg(long)]
    pub write_docs: bool,
    /// Where databases are kept between runs and the figures go; default `target/bench` of the workspace.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Backups beside `etcdctl snapshot save` and the bare stream.
    Backup,
    /// Writes to etcd meanwhile.
    Latency,
    /// Agent and operator at rest.
    Idle,
    /// The verifier alone.
    Verifier,
    /// A larger database.
    Growth,
}

impl Part {
    const ALL: [Self; 5] = [Self::Backup, Self::Latency, Self::Idle, Self::Verifier, Self::Growth];
}

impl Bench {
    /// Whether a part is asked for.
    pub fn does(&self, part: Part) -> bool {
        self.only.contains(&part) && !(part == Part::Growth && self.skip_4gib)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
