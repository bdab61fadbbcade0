//! One boot under QEMU: from the command line to how it ended. A guest that hangs is stopped.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::arch::Arch;
use super::kernel::Kernel;
use super::transcript::{End, Transcript};
use crate::host;

/// The hardware, and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The board.
    pub(crate) arch: Arch,
    /// Virtual processors.
    pub(crate) cpus: u16,
    /// Memory in MiB.
    pub(crate) memory: u32,
    /// Wall-clock time that the kernel has to reach init.
    pub(crate) boot_limit: Duration,
    /// Wall-clock time that a cell has.
    pub(crate) cell_limit: Duration,
    /// Wall-clock time for which a guest that runs a cell may be silent: a scenario that hangs does not take all of the cell's.
    pub(crate) quiet_limit: Duration,
    /// More words for the kernel's command line.
    pub(crate) append: String,
    /// Show the guest's output as it comes.
    pub(crate) live: bool,
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
    /// Boots and waits until the machine stops, or has to be stopped. The kernel's messages go to `log`.
    pub(crate) fn boot(&self, kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<Transcript> {
        let program = self.arch.qemu().0;
        // A guest does not outlive whoever waits for it, however that ends.
        let mut qemu = match host::find("setpriv") {
            Some(setpriv) => {
                let mut tied = Command::new(setpriv);
                tied.args(["--pdeathsig", "KILL", program]);
                tied
            }
            None => Command::new(program),
        };
        qemu.args(self.arguments(kernel, initramfs, log));
        self.watch(qemu)
    }

    /// Reads what the guest says, and ends it when a phase takes too long.
    fn watch(&self, mut qemu: Command) -> Result<Transcript> {
        let mut child = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", qemu.get_program().display()))?;
        let output = child.stdout.take().context("QEMU has no output")?;
        let transcript = Mutex::new(Transcript::new(Instant::now()));
        let lock = || transcript.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = thread::scope(|scope| {
            scope.spawn(|| {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    let shown = self.live.then(|| line.clone());
                    if lock().take(line, Instant::now())
                        && let Some(line) = shown
                    {
                        println!("{line}");
                    }
                }
            });
            wait(&mut child, || {
                let transcript = lock();
                let limit = match transcript.ready {
                    Some(_) => self.cell_limit,
                    None => self.boot_limit,
                };
                let is_silent =
                    transcript.ready.is_some() && transcript.heard.elapsed() > self.quiet_limit;
                is_silent || transcript.phase.elapsed() > limit
            })
        })?;
        let mut transcript = transcript
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let end = if in_time { End::Died } else { End::TimedOut };
        transcript.close(end, Instant::now());
        Ok(transcript)
    }

    fn arguments(&self, kernel: &Kernel, initramfs: &Path, log: &Path) -> Vec<OsString> {
        // `quiet` leaves warnings and worse on the console; every byte there costs emulated time.
        let append = format!(
            "console={} quiet panic=-1 rdinit=/init {}",
            self.arch.console(),
            self.append
        );
        let (cpus, memory) = (self.cpus.to_string(), self.memory.to_string());
        let mut words: Vec<OsString> = [
            "-accel",
            "tcg",
            "-cpu",
            self.arch.processor(),
            "-nic",
            "none",
            "-no-reboot",
            "-smp",
            &cpus,
            "-m",
            &memory,
            "-display",
            "none",
            "-monitor",
            "none",
            "-append",
            append.trim_end(),
        ]
        .map(OsString::from)
        .to_vec();
        words.extend(self.arch.board(log).into_iter().map(OsString::from));
        words.extend([
            "-kernel".into(),
            kernel.image.clone().into(),
            "-initrd".into(),
            initramfs.into(),
        ]);
        words
    }
}

/// The last lines of the kernel's console.
pub(crate) fn tail(log: &Path, count: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether the machine stopped by itself before it was `late`; afterwards it has stopped either way.
fn wait(child: &mut Child, late: impl Fn() -> bool) -> Result<bool> {
    loop {
        if child.try_wait().context("cannot wait for QEMU")?.is_some() {
            return Ok(true);
        }
        if late() {
            child.kill().context("cannot stop QEMU")?;
            child.wait().context("cannot wait for QEMU")?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that is a shell script.
    fn watched(script: &str, limit: Duration) -> Transcript {
        let machine = Machine {
            arch: Arch::Amd64,
            cpus: 1,
            memory: 1,
            boot_limit: limit,
            cell_limit: limit,
            quiet_limit: QUIET,
            append: String::new(),
            live: false,
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        machine.watch(shell).expect("sh runs")
    }

    const LONG: Duration = Duration::from_secs(60);
    const QUIET: Duration = Duration::from_secs(2);
    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn a_guest_that_hangs_is_stopped_and_says_where() {
        let script = "echo '@vm ready 1.0 x'; echo '@vm cell a'; echo '@vm exit 0'; \
            echo '@vm cell b'; echo out; exec sleep 50";
        let transcript = watched(script, SHORT);
        let ends: Vec<_> = transcript.cells.iter().map(|c| c.end.clone()).collect();
        assert_eq!(ends, [Some(End::Exit(0)), Some(End::TimedOut)]);
        assert_eq!(transcript.cells[1].lines, ["out"]);
        assert!(transcript.cells[1].took >= SHORT);
    }

    #[test]
    fn a_guest_that_never_speaks_is_stopped() {
        let transcript = watched("exec sleep 50", SHORT);
        assert!(transcript.ready.is_none() && transcript.cells.is_empty());
    }

    #[test]
    fn a_scenario_that_hangs_does_not_take_all_of_the_cells_time() {
        let script = "echo '@vm ready 1.0 x'; echo '@vm cell a'; for n in 1 2 3; do echo $n; \
            sleep 1; done; exec sleep 50";
        let transcript = watched(script, LONG);
        assert_eq!(transcript.cells[0].end, Some(End::TimedOut));
        assert_eq!(transcript.cells[0].lines, ["1", "2", "3"]);
        assert!(transcript.cells[0].took < LONG / 4);
    }

    #[test]
    fn a_guest_that_panics_has_died_in_its_cell() {
        let script = "echo '@vm ready 1.0 x'; echo '@vm cell a'; exit 1";
        let transcript = watched(script, LONG);
        assert_eq!(transcript.cells[0].end, Some(End::Died));
    }

    #[test]
    fn a_cell_has_its_own_time() {
        let script = "echo '@vm ready 1.0 x'; for cell in a b c; do echo \"@vm cell $cell\"; \
            sleep 0.5; echo '@vm exit 0'; done";
        let transcript = watched(script, Duration::from_millis(1200));
        let good = |cell: &super::super::transcript::CellRun| cell.end == Some(End::Exit(0));
        assert_eq!(transcript.cells.iter().filter(|cell| good(cell)).count(), 3);
    }
}
