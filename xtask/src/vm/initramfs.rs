//! What the guest's file system holds: init, the suite, its programs, their libraries, modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::cell::Cell;
use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules;
use super::peers;
use super::suite::Suite;
use crate::host;

/// Read by the guest's init (`tests/src/bin/vm_init/cell.rs`), a line each: `cwd`, `env`, `exec`, `arg`,
/// then `cell` with `env` and `condition` of its own.
const RUN: &str = "/etc/portwatch-vm.run";
/// Tells the suite which mechanism to hold portwatch to.
const RUNG: &str = "PORTWATCH_TEST_RUNG";
/// Tells the suite to leave out what the kernel has no part in: it takes as long as all the rest.
const KERNEL_ALONE: &str = "PORTWATCH_TEST_PART=kernel";
/// Tells the suite how many times longer than on hardware it may have to wait.
const SLOWNESS: &str = "PORTWATCH_TEST_SLOWNESS=4";
/// Scenarios at once. With four, the emulated processor was so busy with starts that an interrupted program
/// was not gone in time.
const THREADS: &str = "PORTWATCH_TEST_THREADS=1";

/// A program without its debug information, on its way into the archive.
pub(crate) const STRIPPED: &str = "stripped";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nnogroup:x:65534:\n";
const SERVICES: &str = "ssh 22/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n";

/// The parts that all runs on one kernel share; a run adds its own arguments.
pub(crate) struct Contents<'a> {
    /// What to run.
    pub(crate) suite: &'a Suite,
    /// Host programs to take along.
    pub(crate) extra: &'a [PathBuf],
    /// Arguments of the suite.
    pub(crate) arguments: &'a [String],
    /// The guest is of the host's architecture.
    pub(crate) is_native: bool,
    /// Where stripped copies may be written.
    pub(crate) scratch: &'a Path,
}

impl Contents<'_> {
    /// What every guest of a run gets. It is made once, when the run begins: programs that are built meanwhile are not those that
    /// its results are of.
    pub(crate) fn base(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        // Before devtmpfs is mounted, init has the console and nothing else to speak to.
        archive.device("/dev/console", 5, 1)?;
        archive.device("/dev/null", 1, 3)?;
        for dir in [
            "/proc", "/sys", "/run", "/tmp", "/root", "/var/lib", "/var/log", "/var/tmp",
        ] {
            archive.directory(dir)?;
        }
        for (path, content) in [
            ("/etc/passwd", PASSWD),
            ("/etc/group", GROUP),
            ("/etc/services", SERVICES),
            (
                "/etc/nsswitch.conf",
                "passwd: files\ngroup: files\nservices: files\nhosts: files\n",
            ),
            (
                "/etc/hosts",
                "127.0.0.1 localhost portwatch-vm\n::1 localhost\n",
            ),
            ("/etc/machine-id", "706f72747761746368766d0000000001\n"),
        ] {
            archive.file(path, 0o644, content.as_bytes())?;
        }
        archive.symlink("/bin/portwatch", &self.portwatch())?;
        archive.directory(&self.suite.directory.to_string_lossy())?;
        let own = self
            .suite
            .programs
            .iter()
            .chain([&self.suite.executable, &self.suite.init]);
        for program in own {
            self.program(&mut archive, program, true)?;
        }
        for program in self.extra {
            self.program(&mut archive, program, false)?;
        }
        // Those of this host run in guests of its own architecture alone.
        if self.is_native {
            for program in peers::programs() {
                self.program(&mut archive, &program, false)?;
            }
            peers::furnish(&mut archive)?;
        }
        archive.symlink("/init", &self.suite.init.to_string_lossy())?;
        archive.finish()
    }

    /// What comes behind it for one boot: the kernel unpacks archives one after another.
    pub(crate) fn boot(&self, kernel: &Kernel, cells: &[Cell]) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file(RUN, 0o644, self.run(cells).as_bytes())?;
        if let Some(dir) = &kernel.modules {
            for (at, module) in modules::pick(dir)?.into_iter().enumerate() {
                let path = format!("/modules/{at:02}-{}.ko", module.name);
                archive.file(&path, 0o644, &module.content)?;
            }
        }
        archive.finish()
    }

    fn portwatch(&self) -> String {
        let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name == "portwatch");
        let program = self.suite.programs.iter().find(named);
        program.map_or_else(String::new, |path| path.to_string_lossy().into_owned())
    }

    fn run(&self, cells: &[Cell]) -> String {
        let directory = self.suite.directory.display();
        let mut lines = vec![
            format!("exec {}", self.suite.executable.display()),
            format!("cwd {directory}"),
            format!("env CARGO_MANIFEST_DIR={directory}"),
            "env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "env HOME=/root".to_owned(),
            // The serial port is a terminal, but nobody sits at it.
            "env TERM=dumb".to_owned(),
            "env NO_COLOR=1".to_owned(),
            "env RUST_BACKTRACE=1".to_owned(),
            format!("env {SLOWNESS}"),
            format!("env {THREADS}"),
        ];
        lines.extend(
            self.arguments
                .iter()
                .map(|argument| format!("arg {argument}")),
        );
        for cell in cells {
            lines.push(format!("cell {}", cell.name));
            lines.extend(cell.rung.iter().map(|rung| format!("env {RUNG}={rung}")));
            // Whoever asks for a scenario by name wants it wherever it is asked for.
            let is_named = self.arguments.iter().any(|word| !word.starts_with('-'));
            if !is_named && !cell.is_whole() {
                lines.push(format!("env {KERNEL_ALONE}"));
            }
            lines.extend(cell.condition.map(|name| format!("condition {name}")));
        }
        lines.join("\n")
    }

    /// Adds a program under its own path, with its libraries.
    fn program(&self, archive: &mut Archive, program: &Path, strip: bool) -> Result<()> {
        let path = program.to_string_lossy();
        if archive.holds(&path) {
            return Ok(());
        }
        let content = if strip { self.stripped(program) } else { None };
        let content = match content {
            Some(content) => content,
            None => fs::read(program).with_context(|| format!("cannot read {path}"))?,
        };
        archive.file(&path, 0o755, &content)?;
        for library in libraries(program)? {
            if !archive.holds(&library) {
                let content =
                    fs::read(&library).with_context(|| format!("cannot read {library}"))?;
                archive.file(&library, 0o755, &content)?;
            }
        }
        Ok(())
    }

    /// Debug information is most of a debug build, and the guest's memory is small. Without
    /// binutils the program goes in whole.
    fn stripped(&self, program: &Path) -> Option<Vec<u8>> {
        let copy = self.scratch.join(STRIPPED);
        let mut strip = Command::new(host::find("strip")?);
        strip.arg("--strip-debug").arg("-o").arg(&copy).arg(program);
        // A foreign program, which its own compiler has stripped, is refused.
        strip.stderr(Stdio::null());
        host::run(&mut strip).ok()?;
        fs::read(copy).ok()
    }
}

/// Dynamic loader and shared libraries, as the loader itself resolves them. A static program has none.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot start ldd, which finds the libraries for the guest")?;
    Ok(parse_ldd(&String::from_utf8_lossy(&output.stdout)))
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse_ldd(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.split_once("=>").map_or(line, |(_, path)| path).trim();
            let path = line.split(" (").next()?;
            path.starts_with('/').then(|| path.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_that_ldd_names() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1)\n\
            \tlibmissing.so => not found\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        assert_eq!(
            parse_ldd(text),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(
            parse_ldd("\tnot a dynamic executable\n"),
            Vec::<String>::new()
        );
    }
}
