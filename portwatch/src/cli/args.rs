//! The command line, defined once: help, completions and man pages all come from here.

use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::exit::Exit;
use super::failure::guard_lines;
use crate::config::duration;
use crate::event::words::Word as _;
use crate::event::{Mechanism, Protocol};
use crate::filter::{Filter, FilterError};
use crate::render::Format;
use crate::sink::chain::Head;

/// The configuration that is read when none is named; it need not exist.
pub const DEFAULT_CONFIG: &str = "/etc/portwatch/portwatch.toml";
/// Where the daemon keeps its state.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/portwatch";
/// Where the daemon keeps its socket.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/portwatch";

const EXIT_STATUS: &str = "\
Exit status:
  0 done, 1 a difference (baseline check), 64 usage, 69 no daemon or sensor to be had, 70 bug, 74 I/O,
  77 not permitted, 78 configuration (these as in sysexits.h), 130 interrupted

Examples:
  portwatch tail                      watch listeners open and close, as root with no set-up
  portwatch ls all-interfaces         what can everybody reach?
  portwatch tail -o json | jq .       the same events for programs";

const FILTER_HELP: &str = "\
Filters:
  tcp port:8080 user:www-data         terms side by side must all hold
  udp or port:80,443                  also: and, not, &&, ||, !, ( )
  'port in 1..1023 and not exe == \"/usr/sbin/sshd\"'
  'address in 10.0.0.0/8' 'exe =~ \"/tmp/*\"' 'command contains nc'
  A word alone is a protocol, family, event type, state or exposure. Fields are named as in
  the JSON (socket.port) or for short (port); `*` in =~ stands for any run of characters.
  A field that an event does not have never matches, nor does its negation.";

const RUN_EXAMPLES: &str = "\
Examples:
  portwatch run
  portwatch run -c ./portwatch.toml --state-dir /tmp/state --runtime-dir /tmp/run";

const TAIL_EXAMPLES: &str = "\
Examples:
  portwatch tail
  portwatch tail tcp not user:root
  portwatch tail --states port:5432
  portwatch tail --since 10m -o json listener.opened
  portwatch tail -o ecs 'severity >= notice'
  portwatch tail --count 1 'port == 8080'";

const LS_EXAMPLES: &str = "\
Examples:
  portwatch ls
  portwatch ls tcp all-interfaces
  portwatch ls -o json 'port in 1..1023 and not user == root'";

const STATUS_EXAMPLES: &str = "\
Examples:
  portwatch status
  portwatch status -o json";

const STATS_EXAMPLES: &str = "\
Examples:
  portwatch stats                              TCP sockets of this moment, by state, listener, process and peer
  portwatch stats -o json | jq .states         as `ss -tan` counts them
  portwatch stats -o json | jq '.listeners[] | select(.half_open > 100)'";
const STORMS_EXAMPLES: &str = "\
Examples:
  portwatch storms
  portwatch storms -o json | jq 'select(.type != \"storm.ended\") | .storm'";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo portwatch doctor
  portwatch doctor -o json";

const CHECK_EXAMPLES: &str = "\
Examples:
  portwatch check
  portwatch check ./portwatch.toml";

const BASELINE_EXAMPLES: &str = "\
Examples:
  portwatch baseline check            what differs from what was approved? 1 when something does
  portwatch baseline generate         all of it is right
  portwatch baseline accept 019aab3c-... --expires 7d --reason 'load test'
  portwatch baseline accept 'tcp port:8000..8010 exe:/opt/build/*'
  portwatch baseline clear";

const RELOAD_EXAMPLES: &str = "\
Example:
  portwatch reload";

const MATCH_EXAMPLES: &str = "\
Examples:
  portwatch match 'proto == tcp and port in 1..1023'
  portwatch match --rule web";

const POLICY_EXAMPLES: &str = "\
Example:
  portwatch policy test --since 30d";

const ALERT_EXAMPLES: &str = "\
Examples:
  portwatch alert test
  portwatch alert test email";

const HISTORY_EXAMPLES: &str = "\
Examples:
  portwatch history --since 2d
  portwatch history --last 20 type:listener.* port:4444
  portwatch history -o json --since 1h severity >= warning";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portwatch explain 4444
  portwatch explain 53/udp";

const VERIFY_EXAMPLES: &str = "\
Examples:
  portwatch verify /var/log/portwatch/events.jsonl*
  portwatch verify --from 1042 /var/log/portwatch/events.jsonl";

const SCHEMA_EXAMPLES: &str = "\
Example:
  portwatch schema > portwatch.event-1.json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  portwatch completions bash > /usr/share/bash-completion/completions/portwatch
  portwatch completions zsh > /usr/share/zsh/site-functions/_portwatch";

const MAN_EXAMPLES: &str = "\
Examples:
  portwatch man | man -l -
  portwatch man tail | man -l -
  portwatch man --dir /usr/share/man/man1";

/// Says at once which process opened which listening socket, and how exposed it is.
#[derive(Debug, Parser)]
#[command(name = "portwatch", version, about, after_long_help = EXIT_STATUS)]
#[command(
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Args {
    /// Where things are.
    #[command(flatten)]
    pub paths: Paths,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where things are; the same for every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Paths")]
pub struct Paths {
    /// Configuration file
    ///
    /// Without this option, /etc/portwatch/portwatch.toml and /etc/portwatch/conf.d/*.toml are read
    /// when they exist.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "PORTWATCH_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Directory of the daemon's state
    #[arg(long, global = true, value_name = "DIR", env = "PORTWATCH_STATE_DIR")]
    #[arg(default_value = DEFAULT_STATE_DIR, hide_env_values = true, hide_short_help = true)]
    pub state_dir: PathBuf,
    /// Directory of the daemon's socket
    #[arg(long, global = true, value_name = "DIR", env = "PORTWATCH_RUNTIME_DIR")]
    #[arg(default_value = DEFAULT_RUNTIME_DIR, hide_env_values = true, hide_short_help = true)]
    pub runtime_dir: PathBuf,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    ///
    /// Loads the probes, keeps the inventory of listeners, and serves `tail`, `ls` and `status` over
    /// its socket. Needs root. Works without any configuration; under systemd use Type=notify.
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Run),
    /// Show events as they happen
    ///
    /// Attaches to the running daemon; when none runs and the caller is root, loads the probes itself.
    #[command(after_long_help = format!("{FILTER_HELP}\n\n{TAIL_EXAMPLES}"))]
    Tail(Tail),
    /// Show events of the past
    ///
    /// The daemon keeps every event but connection states, within bounds of size and age ([history] in the
    /// configuration). Oldest first.
    #[command(after_long_help = format!("{FILTER_HELP}\n\n{HISTORY_EXAMPLES}"))]
    History(History),
    /// List the listeners of this moment
    ///
    /// Widest exposure first. Asks the running daemon; when none runs and the caller is root, looks
    /// for itself.
    #[command(after_long_help = format!("{FILTER_HELP}\n\n{LS_EXAMPLES}"))]
    Ls(Ls),
    /// Say whether the daemon is watching, how, and what it lost
    #[command(after_long_help = STATUS_EXAMPLES)]
    Status(Report),
    /// Count TCP sockets by state, listener, process and peer
    ///
    /// Asks the running daemon; when none runs, looks for itself, and says nothing of what only the probes count.
    /// States are counted as `ss -tan` counts them: half-open connections are in SYN_RECV. SYNs, completed
    /// connections, SYN-ACKs that nobody answered and resets are counted since a listener is watched.
    #[command(after_long_help = STATS_EXAMPLES)]
    Stats(Stats),
    /// Show storms, floods and scans: those that go on, then those of the past
    ///
    /// Asks the running daemon, which remembers the last 256. `portwatch history type:storm.*` goes further back.
    #[command(after_long_help = STORMS_EXAMPLES)]
    Storms(Report),
    /// Say what this kernel permits and what to do about what is missing
    ///
    /// Tells which mechanism each sensor gets and why. Says more as root.
    #[command(after_long_help = DOCTOR_EXAMPLES)]
    Doctor(Report),
    /// Check the configuration, and tell every mistake at once
    ///
    /// Reads the file and the `conf.d/*.toml` beside it as the daemon would. Says `configuration OK`, or each
    /// mistake with its place, and ends with 78 then.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Show which listeners of this moment an expression or a configured rule matches
    ///
    /// Changes nothing. Of a rule, its own conditions count, and not that another one stands before it.
    #[command(name = "match", after_long_help = format!("{FILTER_HELP}\n\n{MATCH_EXAMPLES}"))]
    Match(Match),
    /// Try the rules of the configuration
    #[command(after_long_help = POLICY_EXAMPLES)]
    Policy(Policy),
    /// Alerts: try the channels
    #[command(after_long_help = ALERT_EXAMPLES)]
    Alert(Alert),
    /// Have the running daemon read its configuration anew
    ///
    /// All of it is applied, or, when there is a mistake, nothing. Rules take effect at once; what the daemon
    /// cannot change while it runs is named. SIGHUP does the same. For root.
    #[command(after_long_help = RELOAD_EXAMPLES)]
    Reload,
    /// The approved set of listeners: make it, compare with it, forget it
    ///
    /// A listener that is approved is known again by where it listens and by its executable, never by a pid;
    /// ports that the kernel chose and random parts of names do not count. The daemon approves what
    /// listens when it starts for the first time.
    #[command(after_long_help = BASELINE_EXAMPLES)]
    Baseline(Baseline),
    /// Say what a port is for, what it is known to be misused for, and who holds it now
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Check the hash chain over files of events
    ///
    /// Names the first record that was altered, is missing, or is out of order, and ends with 1 then. Files may be
    /// packed with gzip, and come in any order. That the last records are there, and that all of it was not written
    /// anew, only a head can tell that was kept elsewhere (--head).
    #[command(after_long_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Print the JSON Schema of the events
    #[command(after_long_help = SCHEMA_EXAMPLES)]
    Schema,
    /// Print a completion script for a shell
    #[command(after_long_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Print a man page, or write them all
    #[command(after_long_help = MAN_EXAMPLES)]
    Man(Man),
}

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

/// A port, of one protocol or of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortOf {
    /// The port.
    pub port: u16,
    /// The protocol, where it is said.
    pub protocol: Option<Protocol>,
}

impl FromStr for PortOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (port, Some(protocol)),
            None => (text, None),
        };
        let number = port.parse().ok().filter(|&port| port > 0);
        let port = number.ok_or("a port is a number from 1 to 65535")?;
        let protocol = protocol.map(|name| {
            let known = WITH_PORTS.iter().find(|known| known.word() == name);
            known.copied().ok_or_else(|| {
                let known = WITH_PORTS.map(Protocol::word).join(", ");
                format!("the protocols with ports are {known}")
            })
        });
        Ok(Self {
            port,
            protocol: protocol.transpose()?,
        })
    }
}

const WITH_PORTS: [Protocol; 5] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Mptcp,
    Protocol::Udplite,
    Protocol::Sctp,
];

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

/// A stream of events, for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// For people
    Human,
    /// For programs: JSON, everything that is known
    Json,
    /// For Elasticsearch: JSON by Elastic Common Schema
    Ecs,
    /// For security lakes: JSON by Open Cybersecurity Schema Framework
    Ocsf,
    /// For older collectors: Common Event Format
    Cef,
    /// For older collectors: syslog with structured data
    Rfc5424,
}

/// A report for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Human,
    /// For programs: JSON
    Json,
}

/// A list for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For people
    Table,
    /// For programs: JSON, one listener a line
    Json,
    /// For Elasticsearch: JSON by Elastic Common Schema
    Ecs,
    /// For security lakes: JSON by Open Cybersecurity Schema Framework
    Ocsf,
    /// For older collectors: Common Event Format
    Cef,
    /// For older collectors: syslog with structured data
    Rfc5424,
}

/// How much the kernel side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum KernelLog {
    /// Nothing
    Off,
    /// Errors
    Error,
    /// Also what looks wrong
    Warn,
    /// Also what is done
    Info,
    /// Also why
    Debug,
    /// Everything
    Trace,
}

/// A rung of the ladder of mechanisms, to be forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Rung {
    /// BPF trampoline at function exit
    Fexit,
    /// Return probe
    Kretprobe,
    /// cgroup2 hook
    Cgroup,
    /// BTF-typed raw tracepoint
    TpBtf,
    /// Perf tracepoint
    Tracepoint,
    /// Only looking again from time to time
    Reconcile,
}

impl Args {
    /// Reads the command line; prints help, version or what is wrong.
    ///
    /// # Errors
    /// How to exit when there is nothing left to do.
    pub fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
            // A reader that closed its end of the pipe has what it wanted.
            let _ = if error.use_stderr() {
                // What is wrong is quoted, and may have come from anywhere.
                let text = guard_lines(&error.render().to_string());
                writeln!(std::io::stderr(), "{text}")
            } else {
                error.print()
            };
            Exit::from(&error)
        })
    }
}

impl Stream {
    /// How programs are told; `None` for people.
    #[must_use]
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Human => None,
            Self::Json => Some(Format::Json),
            Self::Ecs => Some(Format::Ecs),
            Self::Ocsf => Some(Format::Ocsf),
            Self::Cef => Some(Format::Cef),
            Self::Rfc5424 => Some(Format::Rfc5424),
        }
    }
}

impl Listing {
    /// How programs are told; `None` for people.
    #[must_use]
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Table => None,
            Self::Json => Some(Format::Json),
            Self::Ecs => Some(Format::Ecs),
            Self::Ocsf => Some(Format::Ocsf),
            Self::Cef => Some(Format::Cef),
            Self::Rfc5424 => Some(Format::Rfc5424),
        }
    }
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

impl KernelLog {
    /// The level as the probes know it: 0 off to 5 trace.
    #[must_use]
    pub const fn level(self) -> u8 {
        self as u8
    }
}

impl Rung {
    /// The mechanism that it is.
    #[must_use]
    pub const fn mechanism(self) -> Mechanism {
        match self {
            Self::Fexit => Mechanism::Fexit,
            Self::Kretprobe => Mechanism::Kretprobe,
            Self::Cgroup => Mechanism::Cgroup,
            Self::TpBtf => Mechanism::TpBtf,
            Self::Tracepoint => Mechanism::Tracepoint,
            Self::Reconcile => Mechanism::Reconcile,
        }
    }
}

#[cfg(test)]
mod tests;
