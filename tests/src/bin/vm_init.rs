//! The first process of a test VM: makes a small Linux, runs one program there, powers off.
//!
//! `cargo xtask vm` puts it into an initramfs as `/init`, beside the file [`RUN`] that says what to
//! run. The kernel's messages go to the first serial port, the program's output to the second, so
//! neither can cut a line of the other. `pw.without=tracefs,cgroup2` on the kernel's command line
//! withholds file systems, for trying how portwatch does without them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{WaitOptions, WaitStatus};
use rustix::system::RebootCommand;

/// What to run, a line each: `cwd DIR`, `env NAME=VALUE`, `exec FILE`, `arg WORD`.
const RUN: &str = "/etc/portwatch-vm.run";
/// Kernel modules, to be loaded in the order of their names.
const MODULES: &str = "/modules";
/// The second serial port. The Arm board's first one has a name of its own.
const OUTPUT: &str = if cfg!(target_arch = "aarch64") {
    "/dev/ttyS0"
} else {
    "/dev/ttyS1"
};
/// Leads the lines that are for `cargo xtask vm` and not from the program.
const MARK: &str = "@vm";

fn main() -> ExitCode {
    // Before anything else: on a real machine what follows would end in a power-off.
    if std::process::id() != 1 {
        eprintln!("vm_init: this is the first process of a test VM; `cargo xtask vm` boots it");
        return ExitCode::FAILURE;
    }
    if let Err(error) = boot() {
        eprintln!("vm_init: {error:#}");
    }
    // Returning would be a kernel panic, which the host would take for one of the kernel's own.
    if let Err(error) = rustix::system::reboot(RebootCommand::PowerOff) {
        eprintln!("vm_init: cannot power off: {error}");
    }
    ExitCode::FAILURE
}

fn boot() -> Result<()> {
    // Needed to read the command line and to speak, so these come first and cannot be withheld.
    attach("proc", "/proc", "proc")?;
    attach("devtmpfs", "/dev", "devtmpfs")?;
    let mut output = OpenOptions::new()
        .write(true)
        .open(OUTPUT)
        .with_context(|| format!("cannot open {OUTPUT}"))?;
    let result = prepare().and_then(|()| {
        let uptime = fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let uptime = uptime.split(' ').next().unwrap_or_default();
        writeln!(output, "{MARK} ready {uptime} {}", release.trim())?;
        run(&output)
    });
    match result {
        Ok(status) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => writeln!(output, "{MARK} exit {code}")?,
            (_, signal) => writeln!(output, "{MARK} signal {}", signal.unwrap_or_default())?,
        },
        Err(error) => writeln!(output, "{MARK} error {error:#}")?,
    }
    rustix::termios::tcdrain(&output).context("cannot flush the serial port")
}

/// Everything that a Debian system has by the time services start, as far as portwatch looks.
fn prepare() -> Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    let without: Vec<&str> = cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("pw.without="))
        .flat_map(|list| list.split(','))
        .collect();
    for (name, target, kind) in [
        ("sysfs", "/sys", "sysfs"),
        ("securityfs", "/sys/kernel/security", "securityfs"),
        ("tracefs", "/sys/kernel/tracing", "tracefs"),
        ("bpffs", "/sys/fs/bpf", "bpf"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
        ("devpts", "/dev/pts", "devpts"),
        ("shm", "/dev/shm", "tmpfs"),
        ("run", "/run", "tmpfs"),
        ("tmp", "/tmp", "tmpfs"),
    ] {
        // The programs lie where they were built, which may be below /tmp: they must stay in sight.
        let is_used = kind == "tmpfs" && holds_something(target);
        if !without.contains(&name) && !is_used {
            attach(name, target, kind)?;
        }
    }
    rustix::system::sethostname(b"portwatch-vm").context("cannot set the host name")?;
    load_modules()?;
    raise_loopback().context("cannot bring lo up")
}

fn holds_something(folder: &str) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn attach(name: &str, target: &str, kind: &str) -> Result<()> {
    // In a pseudo file system the directory exists or cannot be made; mount tells which.
    let _ = fs::create_dir_all(target);
    mount(name, target, kind, MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {kind} on {target}"))
}

fn load_modules() -> Result<()> {
    let Ok(entries) = fs::read_dir(MODULES) else {
        return Ok(());
    };
    let mut modules: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    modules.sort();
    for module in modules {
        let loaded = File::open(&module)
            .map_err(anyhow::Error::from)
            .and_then(|file| {
                rustix::system::finit_module(&file, c"", 0).map_err(anyhow::Error::from)
            });
        // Not fatal: a scenario that needs it says so, and better than an init could.
        if let Err(error) = loaded {
            eprintln!("vm_init: {}: {error}", module.display());
        }
    }
    Ok(())
}

/// Sets IFF_UP on interface 1, which is `lo` in every network namespace.
fn raise_loopback() -> Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut request = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence, port.
    request.extend(32_u32.to_ne_bytes());
    request.extend(RTM_NEWLINK.to_ne_bytes());
    request.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    request.extend([0; 8]);
    // struct ifinfomsg: family and device type, index, flags, mask of flags to change.
    request.extend([0; 4]);
    request.extend(1_u32.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes());

    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    // struct nlmsgerr follows the header and starts with the errno, negated; 0 acknowledges.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(-error).into()),
    }
}

/// Runs the program to its end. As init it also reaps whatever the program's children leave.
fn run(output: &File) -> Result<WaitStatus> {
    let text = fs::read_to_string(RUN).with_context(|| format!("cannot read {RUN}"))?;
    let mut command = parse(&text)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
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

fn parse(text: &str) -> Result<Command> {
    let mut lines = text
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")));
    let Some(program) = lines
        .clone()
        .find(|(key, _)| *key == "exec")
        .map(|(_, value)| value)
    else {
        bail!("{RUN} names no program");
    };
    let mut command = Command::new(OsStr::new(program));
    command.env_clear();
    lines.try_for_each(|(key, value)| {
        match (key, value.split_once('=')) {
            ("cwd", _) => drop(command.current_dir(Path::new(value))),
            ("env", Some((name, value))) => drop(command.env(name, value)),
            ("arg", _) => drop(command.arg(value)),
            ("exec", _) => {}
            _ => bail!("{RUN}: not understood: {key} {value}"),
        }
        Ok(())
    })?;
    Ok(command)
}
