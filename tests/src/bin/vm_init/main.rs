//! The first process of a test VM: makes a small Linux, runs cells of the matrix there, powers off.
//!
//! `cargo xtask vm` puts it into an initramfs as `/init`, beside the file `cell::RUN` that says what to
//! run. The kernel's messages go to the first serial port, everything else to the second, so neither
//! can cut a line of the other.

mod cell;
mod output;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::system::RebootCommand;

use output::Output;

/// Kernel modules, to be loaded in the order of their names.
const MODULES: &str = "/modules";

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
    // Needed to speak.
    attach("proc", "/proc", "proc")?;
    attach("devtmpfs", "/dev", "devtmpfs")?;
    let output = Output::open()?;
    let done = prepare().and_then(|()| {
        let uptime = fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let uptime = uptime.split(' ').next().unwrap_or_default();
        output.mark(&format!("ready {uptime} {}", release.trim()));
        cell::run_all(&output)
    });
    if let Err(error) = done {
        output.mark(&format!("error {error:#}"));
    }
    output.flush()
}

/// Everything that a Debian system has by the time services start, as far as portwatch looks.
fn prepare() -> Result<()> {
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
        if !is_used {
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
