//! What each command takes.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use clap_complete::Shell;

use super::choices::{KernelLog, Listing, Output, Rung, Stream};
use super::port::PortOf;
use crate::config::duration;
use crate::filter::{Filter, FilterError};
use crate::sink::chain::Head;

/// `portwatch check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration file [default: the one that the daemon reads]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `portwatch verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The files, with one chain over all of them
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// A head that was kept elsewhere: the number of a record, a colon, and its hash
    #[arg(long, value_name = "NUMBER:HASH")]
    pub head: Option<Head>,
    /// The first record that must be there; earlier ones were removed for their age
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub from: NonZeroU64,
}

/// `portwatch explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The port, and its protocol if it matters
    #[arg(value_name = "PORT[/PROTO]")]
    pub port: PortOf,
}

/// `portwatch baseline`.
#[derive(Debug, clap::Args)]
pub struct Baseline {
    /// What to do with it.
    #[command(subcommand)]
    pub command: BaselineCommand,
}

/// The commands of `portwatch baseline`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum BaselineCommand {
    /// Approve what listens now, and nothing else
    Generate,
    /// Say in a sentence each what listens and is not approved, and what is approved and does not listen
    ///
    /// Ends with 0 when there is no difference, with 1 when there is one.
    Check,
    /// Accept one listener that somebody has reviewed, by the id of its event or by an expression
    ///
    /// By an event's id, the listener of that event is accepted, and what is the same: place and executable, never a
    /// pid. By an expression, whatever matches it. Rules of the configuration decide before that.
    Accept(Accept),
    /// Show what is approved, and what was accepted until when and why
    List,
    /// Forget what was approved and accepted
    Clear(Clear),
}

/// `portwatch baseline accept`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Accept {
    /// The id of an event of the history, or an expression
    #[arg(value_name = "EVENT-ID|EXPR", required = true)]
    pub what: Vec<String>,
    /// Until it must be reviewed again, for example 7d; without, for ever
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub expires: Option<Duration>,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `portwatch baseline clear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Clear {
    /// Only what was accepted under this number
    #[arg(value_name = "NUMBER")]
    pub number: Option<u32>,
}

/// `portwatch run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// How to probe.
    #[command(flatten)]
    pub probing: Probing,
}

/// `portwatch tail`.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// Show only events that match
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Stream::Human, value_name = "FORMAT")]
    pub output: Stream,
    /// Begin with the events of this span, for example 10m, 90s or 1h30m
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Show every TCP state change too
    #[arg(long)]
    pub states: bool,
    /// Load the probes here even when a daemon runs
    #[arg(long)]
    pub no_daemon: bool,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,
    /// How to probe.
    #[command(flatten)]
    pub probing: Probing,
}

/// `portwatch match`.
#[derive(Debug, clap::Args)]
pub struct Match {
    /// The expression
    #[arg(value_name = "EXPR", required_unless_present = "rule")]
    pub filter: Vec<String>,
    /// A rule of the configuration, by its name
    #[arg(long, value_name = "NAME", conflicts_with = "filter")]
    pub rule: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Listing::Table, value_name = "FORMAT")]
    pub output: Listing,
}

/// `portwatch policy`.
#[derive(Debug, clap::Args)]
pub struct Policy {
    /// What to do with it.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands of `portwatch policy`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum PolicyCommand {
    /// Show what the rules of the configuration would have said of the listeners of the past
    ///
    /// Judges every listener of the history anew, and tells each judgement that would have been another, and how
    /// many listeners each rule decides on. Changes nothing.
    Test(PolicyTest),
}

/// `portwatch policy test`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct PolicyTest {
    /// Only the events of this span, for example 30d
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Only this rule, as if there were no other
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
}

/// `portwatch alert`.
#[derive(Debug, clap::Args)]
pub struct Alert {
    /// What to do.
    #[command(subcommand)]
    pub command: AlertCommand,
}

/// The commands of `portwatch alert`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AlertCommand {
    /// Send a real message through a channel, or through all, and print the answer of the other side
    Test {
        /// The channel's name
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
}

/// `portwatch history`.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Show only events that match
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Stream::Human, value_name = "FORMAT")]
    pub output: Stream,
    /// Only the events of this span, for example 2d, 90m or 1h30m
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Only the last of them, so many
    #[arg(long, value_name = "N")]
    pub last: Option<NonZeroU64>,
    /// Show no events, but every listener: when it was seen first and last, and how often it was opened
    #[arg(long, conflicts_with = "filter")]
    pub listeners: bool,
}

/// `portwatch ls`.
#[derive(Debug, clap::Args)]
pub struct Ls {
    /// List only listeners that match
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Listing::Table, value_name = "FORMAT")]
    pub output: Listing,
    /// Look here even when a daemon runs
    #[arg(long)]
    pub no_daemon: bool,
}

/// `portwatch status`, `portwatch storms` and `portwatch doctor`.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
}

/// `portwatch stats`.
#[derive(Debug, clap::Args)]
pub struct Stats {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Human, value_name = "FORMAT")]
    pub output: Output,
    /// Look without the daemon
    #[arg(long)]
    pub no_daemon: bool,
}

/// `portwatch completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `portwatch man`.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The command whose page to print; without it, the page of portwatch itself
    #[arg(value_name = "SUBCOMMAND")]
    pub subcommand: Option<String>,
    /// Write every page into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "subcommand")]
    pub dir: Option<PathBuf>,
}

/// How to probe; for finding faults.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Probing")]
pub struct Probing {
    /// How much the probes say, instead of the configured level
    #[arg(long, value_enum, value_name = "LEVEL", hide_short_help = true)]
    pub kernel_log: Option<KernelLog>,
    /// Use this mechanism where a sensor has it, instead of the best one
    #[arg(long, value_enum, value_name = "MECHANISM", hide_short_help = true)]
    pub rung: Option<Rung>,
}

impl Tail {
    /// The filter, parsed.
    ///
    /// # Errors
    /// When it is none; to end with [`Exit::Usage`].
    pub fn filter(&self) -> Result<Filter, FilterError> {
        Filter::parse_args(&self.filter)
    }
}

impl Ls {
    /// The filter, parsed.
    ///
    /// # Errors
    /// When it is none; to end with [`Exit::Usage`].
    pub fn filter(&self) -> Result<Filter, FilterError> {
        Filter::parse_args(&self.filter)
    }
}

impl Probing {
    /// Was anything said about it?
    #[must_use]
    pub const fn is_given(self) -> bool {
        self.kernel_log.is_some() || self.rung.is_some()
    }
}
