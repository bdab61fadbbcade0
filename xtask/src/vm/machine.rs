//! One boot under QEMU: from the command line to how it ended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::arch::Arch;
use super::kernel::Kernel;
use crate::host;

/// Leads the init's own lines on the second serial port (`tests/src/bin/vm_init.rs`).
const MARK: &str = "@vm ";

/// The hardware, and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The board.
    pub(crate) arch: Arch,
    /// Virtual processors.
    pub(crate) cpus: u16,
    /// Memory in MiB.
    pub(crate) memory: u32,
    /// Wall-clock time until the guest is given up.
    pub(crate) timeout: Duration,
    /// More words for the kernel's command line.
    pub(crate) append: String,
}

/// How a boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The program ended with this status.
    Exit(i32),
    /// The guest could not run the program, or a signal killed it.
    Error(String),
    /// The machine stopped and init had said nothing: a kernel panic, most likely.
    Died,
    /// Still running when the time was up.
    TimedOut,
}

/// What a boot left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) end: End,
    /// The program's output.
    pub(crate) lines: Vec<String>,
    /// The guest's uptime when init was ready, in seconds.
    pub(crate) ready: Option<f32>,
    /// Wall-clock time of it all.
    pub(crate) took: Duration,
}

/// Installs QEMU where that is possible.
pub(crate) fn require(arch: Arch) -> Result<()> {
    let (qemu, package) = arch.qemu();
    if host::find(qemu).is_none() {
        host::install(&[package], "booting kernels")?;
    }
    Ok(())
}

impl Machine {
    /// Boots and waits. The guest's output goes to standard output as it comes; the kernel's to `log`.
    pub(crate) fn boot(&self, kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<Run> {
        let started = Instant::now();
        let mut child = self
            .command(kernel, initramfs, log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.arch.qemu().0))?;
        let output = child.stdout.take().context("QEMU has no output")?;
        let reader = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !line.starts_with(MARK) {
                    println!("{line}");
                }
                lines.push(line);
            }
            lines
        });
        let in_time = wait(&mut child, started + self.timeout)?;
        // Both ends are closed by now, so this cannot block; a reader that panicked read nothing.
        let lines = reader.join().unwrap_or_default();
        Ok(assess(lines, in_time, started.elapsed()))
    }

    fn command(&self, kernel: &Kernel, initramfs: &Path, log: &Path) -> Command {
        // `quiet` leaves warnings and worse on the console; every byte there costs emulated time.
        let append = format!(
            "console={} quiet panic=-1 rdinit=/init {}",
            self.arch.console(),
            self.append
        );
        let mut qemu = Command::new(self.arch.qemu().0);
        qemu.args(["-accel", "tcg", "-cpu", "max", "-nic", "none", "-no-reboot"])
            .args([
                "-smp",
                &self.cpus.to_string(),
                "-m",
                &self.memory.to_string(),
            ])
            .args(["-display", "none", "-monitor", "none"])
            .args(self.arch.board(log))
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", append.trim_end()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        qemu
    }
}

/// The last lines of the kernel's console.
pub(crate) fn tail(log: &Path, count: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether the machine stopped by itself before the deadline; afterwards it has stopped either way.
fn wait(child: &mut Child, deadline: Instant) -> Result<bool> {
    loop {
        if child.try_wait().context("cannot wait for QEMU")?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            child.kill().context("cannot stop QEMU")?;
            child.wait().context("cannot wait for QEMU")?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Takes init's lines out of the output and reads from them how it went.
fn assess(output: Vec<String>, in_time: bool, took: Duration) -> Run {
    let mut run = Run {
        end: End::Died,
        lines: Vec::new(),
        ready: None,
        took,
    };
    for line in output {
        let Some(mark) = line.strip_prefix(MARK) else {
            run.lines.push(line);
            continue;
        };
        match mark.split_once(' ').unwrap_or((mark, "")) {
            ("ready", rest) => run.ready = rest.split(' ').next().and_then(|s| s.parse().ok()),
            ("exit", code) => {
                run.end = code
                    .parse()
                    .map_or_else(|_| End::Error(line.clone()), End::Exit);
            }
            ("signal", number) => run.end = End::Error(format!("killed by signal {number}")),
            (_, rest) => run.end = End::Error(rest.to_owned()),
        }
    }
    if !in_time {
        run.end = End::TimedOut;
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assessed(text: &str, in_time: bool) -> Run {
        assess(
            text.lines().map(str::to_owned).collect(),
            in_time,
            Duration::from_secs(9),
        )
    }

    #[test]
    fn only_the_exit_mark_is_success() {
        let run = assessed("@vm ready 2.31 6.1.0-50\ntest a ... ok\n@vm exit 0", true);
        assert_eq!((run.end, run.ready), (End::Exit(0), Some(2.31)));
        assert_eq!(run.lines, ["test a ... ok"]);
        assert_eq!(assessed("@vm exit 101", true).end, End::Exit(101));
        assert_eq!(assessed("test a ... ok\n", true).end, End::Died);
        assert_eq!(assessed("", true).end, End::Died);
        assert_eq!(
            assessed("@vm signal 11", true).end,
            End::Error("killed by signal 11".into())
        );
        assert_eq!(
            assessed("@vm error no such file", true).end,
            End::Error("no such file".into())
        );
    }

    #[test]
    fn a_machine_that_was_stopped_has_timed_out() {
        assert_eq!(
            assessed("@vm ready 2.31 6.1.0-50", false).end,
            End::TimedOut
        );
    }
}
