//! The command line, defined once: help, completions and man pages all come from here.

mod choices;
mod commands;
mod examples;
mod port;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::choices::{KernelLog, Listing, Output, Rung, Stream};
pub use self::commands::{
    Accept, Alert, AlertCommand, Baseline, BaselineCommand, Check, Clear, Completions, Explain,
    History, Ls, Man, Match, Policy, PolicyCommand, PolicyTest, Probing, Report, Run, Stats, Tail,
    Verify,
};
use self::examples::{
    ALERT_EXAMPLES, BASELINE_EXAMPLES, CHECK_EXAMPLES, COMPLETIONS_EXAMPLES, DOCTOR_EXAMPLES,
    EXIT_STATUS, EXPLAIN_EXAMPLES, FILTER_HELP, HISTORY_EXAMPLES, LS_EXAMPLES, MAN_EXAMPLES,
    MATCH_EXAMPLES, POLICY_EXAMPLES, RELOAD_EXAMPLES, RUN_EXAMPLES, SCHEMA_EXAMPLES,
    STATS_EXAMPLES, STATUS_EXAMPLES, STORMS_EXAMPLES, TAIL_EXAMPLES, VERIFY_EXAMPLES,
};
pub use self::port::PortOf;
use super::exit::Exit;
use super::failure::guard_lines;

/// The configuration that is read when none is named; it need not exist.
pub const DEFAULT_CONFIG: &str = "/etc/portwatch/portwatch.toml";
/// Where the daemon keeps its state.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/portwatch";
/// Where the daemon keeps its socket.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/portwatch";

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
    /// Asks the running daemon, which remembers the last 256. `portwatch history 'type:storm.*'` goes further back.
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

#[cfg(test)]
mod tests;
