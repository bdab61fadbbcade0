//! Cells of the matrix, one after the other: changes the machine, runs the suite, puts it back.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use portwatch_tests::harness::condition::{self, Change, Condition};
use rustix::fs::{FileType, Mode};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};

use super::output::Output;

/// What to run, a line each: `cwd DIR`, `env NAME=VALUE`, `exec FILE`, `arg WORD` for all cells; then
/// each cell begins with `cell NAME`, and may have lines `env` and `condition NAME` of its own.
const RUN: &str = "/etc/portwatch-vm.run";
/// Where the suite writes its report; a FIFO.
const REPORT: &str = "/run/portwatch-report";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

#[derive(Default)]
struct Cell {
    name: String,
    condition: Option<&'static Condition>,
    env: Vec<(String, String)>,
}

/// What all cells have in common.
#[derive(Default)]
struct Common {
    exec: PathBuf,
    directory: PathBuf,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

/// Runs every cell; one that cannot be run does not keep the others from running.
///
/// # Errors
/// What is to be run cannot be read.
pub(crate) fn run_all(output: &Output) -> Result<()> {
    let text = fs::read_to_string(RUN).with_context(|| format!("cannot read {RUN}"))?;
    let (common, cells) = parse(&text)?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        REPORT,
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .with_context(|| format!("cannot make {REPORT}"))?;
    for cell in cells {
        output.mark(&format!("cell {}", cell.name));
        fault()?;
        match cell.run(&common, output) {
            Ok(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => output.mark(&format!("exit {code}")),
                (_, signal) => output.mark(&format!("signal {}", signal.unwrap_or_default())),
            },
            Err(error) => output.mark(&format!("refused {error:#}")),
        }
    }
    Ok(())
}

/// `pw.fault=panic` and `pw.fault=hang` on the kernel's command line: to see what the host makes of it.
fn fault() -> Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    match cmdline
        .split_whitespace()
        .find_map(|word| word.strip_prefix("pw.fault="))
    {
        Some("panic") => fs::write("/proc/sysrq-trigger", "c").context("cannot panic"),
        Some("hang") => loop {
            std::thread::park();
        },
        _ => Ok(()),
    }
}

impl Cell {
    fn run(&self, common: &Common, output: &Output) -> Result<WaitStatus> {
        let change = self.condition.map_or(Change::Nothing, |one| one.change);
        apply(change)?;
        let status = self.suite(common, output);
        // What the suite left behind must not be in the next cell's way.
        end_all();
        revert(change)?;
        status
    }

    fn suite(&self, common: &Common, output: &Output) -> Result<WaitStatus> {
        let mut command = Command::new(&common.exec);
        command
            .env_clear()
            .envs(common.env.iter().chain(&self.env).cloned())
            .env("PORTWATCH_TEST_REPORT", REPORT)
            .args(&common.arguments)
            .current_dir(&common.directory);
        if let Some(condition) = self.condition {
            command.env("PORTWATCH_TEST_CONDITION", condition.name);
            command.envs(deprivation(condition)?);
        }
        // Open for both, so that it has an end only when it is told one.
        let mut fifo = OpenOptions::new().read(true).write(true).open(REPORT)?;
        let reader = fifo.try_clone()?;
        let (from, to) = std::io::pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to);
        std::thread::scope(|scope| {
            scope.spawn(|| output.report(reader));
            scope.spawn(|| output.pass(from));
            let ended = spawn_and_reap(&mut command);
            // The command holds ends of the pipe, and so does what the suite left running.
            drop(command);
            end_all();
            writeln!(fifo, "{}", Output::END).context("cannot end the report")?;
            ended
        })
    }
}

/// As init it also reaps whatever the program's children leave.
fn spawn_and_reap(command: &mut Command) -> Result<WaitStatus> {
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    loop {
        let ended = rustix::process::wait(WaitOptions::empty()).context("cannot wait")?;
        if let Some((pid, status)) = ended
            && pid.as_raw_nonzero().get().unsigned_abs() == child.id()
        {
            return Ok(status);
        }
    }
}

/// Kills and reaps every process but this one; kernel threads do not mind.
fn end_all() {
    let Ok(entries) = fs::read_dir("/proc") else {
        return;
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in numbers
        .filter(|&number: &i32| number > 1)
        .filter_map(Pid::from_raw)
    {
        // It may be gone by now.
        let _ = kill_process(pid, Signal::KILL);
    }
    while rustix::process::wait(WaitOptions::empty()).is_ok() {}
}

fn apply(change: Change) -> Result<()> {
    match change {
        Change::Nothing => Ok(()),
        Change::Hide(directory) => mount("none", directory, "tmpfs", MountFlags::RDONLY, None)
            .with_context(|| format!("cannot hide {directory}")),
        Change::Unmount(point) => {
            unmount(point, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {point}"))
        }
        Change::LockDown(level) => {
            fs::write(LOCKDOWN, level).with_context(|| format!("cannot write {LOCKDOWN}"))
        }
    }
}

fn revert(change: Change) -> Result<()> {
    match change {
        Change::Nothing | Change::LockDown(_) => Ok(()),
        Change::Hide(directory) => unmount(directory, UnmountFlags::DETACH)
            .with_context(|| format!("cannot show {directory} again")),
        Change::Unmount(point) => {
            let kind = if point.ends_with("cgroup") {
                "cgroup2"
            } else {
                "tracefs"
            };
            super::attach(kind, point, kind)
        }
    }
}

/// Has portwatch started through `without_caps`, which lies beside this program.
fn deprivation(condition: &Condition) -> Result<Vec<(&'static str, OsString)>> {
    if condition.drops.is_empty() {
        return Ok(Vec::new());
    }
    let me = fs::canonicalize("/init").context("cannot tell where this program lies")?;
    let folder = me.parent().unwrap_or(Path::new("/"));
    Ok(vec![
        ("PORTWATCH_BIN", folder.join("without_caps").into()),
        ("PORTWATCH_TEST_PROGRAM", folder.join("portwatch").into()),
        ("PORTWATCH_TEST_DROP_CAPS", condition.drops.join(",").into()),
    ])
}

fn parse(text: &str) -> Result<(Common, Vec<Cell>)> {
    let (mut common, mut cells) = (Common::default(), Vec::<Cell>::new());
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match (key, value.split_once('='), cells.last_mut()) {
            ("cell", ..) => cells.push(Cell {
                name: value.to_owned(),
                ..Cell::default()
            }),
            ("env", Some((name, value)), cell) => {
                let env = cell.map_or(&mut common.env, |cell| &mut cell.env);
                env.push((name.to_owned(), value.to_owned()));
            }
            ("condition", _, Some(cell)) => {
                let found = condition::named(value);
                cell.condition = Some(found.with_context(|| format!("no condition {value}"))?);
            }
            ("exec", _, None) => common.exec = PathBuf::from(value),
            ("cwd", _, None) => common.directory = PathBuf::from(value),
            ("arg", _, None) => common.arguments.push(value.to_owned()),
            _ => bail!("{RUN}: not understood: {line}"),
        }
    }
    if common.exec.as_os_str().is_empty() {
        bail!("{RUN} names no program");
    }
    Ok((common, cells))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn cells_have_variables_and_a_condition_of_their_own() {
        let text = "exec /t\ncwd /d\nenv A=1\narg --x\ncell fexit\nenv R=f=g\ncell no-btf\ncondition no-btf\n";
        let (common, cells) = parse(text).expect("understood");
        assert_eq!((common.env.len(), common.arguments.len()), (1, 1));
        assert_eq!(cells[0].env, [("R".to_owned(), "f=g".to_owned())]);
        assert!(cells[0].condition.is_none() && cells[1].env.is_empty());
        assert_eq!(cells[1].condition.map(|one| one.name), Some("no-btf"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "cwd /d\n",
            "exec /t\ncell a\ncondition none-such\n",
            "exec /t\ncell a\nexec /u\n",
            "exec /t\nwhat\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
