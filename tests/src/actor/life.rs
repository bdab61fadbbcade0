//! The actor's commands on itself: forks, new images, identities and namespaces.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};

use super::socket::namespace_inode;
use super::{Outcome, Slots, number};
use crate::address::unhex;
use crate::sys::{self, Forked};

pub(super) fn obey(verb: &str, words: &[&str], slots: &Slots) -> Result<Outcome> {
    match verb {
        "whoami" => Ok(Outcome::facts([
            ("pid", std::process::id().to_string()),
            ("ppid", std::os::unix::process::parent_id().to_string()),
            ("uid", rustix::process::getuid().as_raw().to_string()),
        ])),
        "fork" => fork_holder(),
        "exec" => exec(&std::env::current_exe()?, words, slots),
        "exec-as" => {
            let (program, words) = words.split_first().context("exec-as HEX TOKEN")?;
            exec(&path(program)?, words, slots)
        }
        "unshare-mounts" => {
            unshare_mounts(&path(words.first().context("unshare-mounts HEX")?)?)?;
            Ok(Outcome::default())
        }
        "blink" => blink(words),
        "unshare-net" => {
            sys::unshare_network()?;
            sys::loopback_up()?;
            Ok(Outcome::facts([(
                "netns",
                namespace_inode("/proc/self/ns/net")?.to_string(),
            )]))
        }
        "user" => {
            sys::become_user(number(words, 0)?)?;
            Ok(Outcome::default())
        }
        "comm" => {
            let name = CString::new(unhex(words.first().context("comm HEX")?)?)?;
            rustix::thread::set_name(&name).map_err(io::Error::from)?;
            Ok(Outcome::default())
        }
        "chdir" => {
            std::env::set_current_dir(path(words.first().context("chdir HEX")?)?)?;
            Ok(Outcome::default())
        }
        "exit" => Ok(Outcome {
            last: true,
            ..Outcome::default()
        }),
        other => bail!("no command {other:?}"),
    }
}

/// `fork`: a child that holds every slot and does nothing, until it is killed or the harness is gone.
fn fork_holder() -> Result<Outcome> {
    match sys::fork()? {
        Forked::Parent(pid) => Ok(Outcome::facts([("pid", pid.to_string())])),
        Forked::Child => {
            let channel = io::stdin();
            loop {
                // No event asked for: poll still reports the hang-up.
                let mut wait = [PollFd::new(&channel, PollFlags::empty())];
                match poll(&mut wait, None) {
                    Ok(_) => std::process::exit(0),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => std::process::exit(1),
                }
            }
        }
    }
}

/// A path in hexadecimal digits, which may hold any byte.
pub(super) fn path(hex: &str) -> Result<PathBuf> {
    Ok(OsString::from_vec(unhex(hex)?).into())
}

/// `unshare-mounts HEX`: a mount namespace of its own, in which this folder is a file system of its own.
fn unshare_mounts(folder: &Path) -> Result<()> {
    sys::process::unshare_mounts()?;
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("portwatch-test", folder, "tmpfs", flags, None)
        .map_err(io::Error::from)?;
    let copy = folder.join("actor");
    fs::copy(std::env::current_exe()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `exec TOKEN`: replaces this image by itself with other arguments, `exec-as HEX TOKEN` by another
/// program that is an actor too; slots and channel survive.
/// The answer `ok` comes from the new image: a command sent before that would die with the old one.
fn exec(program: &Path, words: &[&str], slots: &Slots) -> Result<Outcome> {
    let token = words.first().context("exec TOKEN")?;
    let mut command = Command::new(program);
    command.args(["resume", token]);
    for (name, fd) in slots {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).map_err(io::Error::from)?;
        command.arg(format!("{name}={}", fd.as_raw_fd()));
    }
    Err(command.exec().into())
}

/// `blink COUNT PREFIX PARALLEL`: starts COUNT processes `blink PREFIX-i`, each of which opens a
/// listener and is gone; answers with their pids in order.
fn blink(words: &[&str]) -> Result<Outcome> {
    let (count, parallel): (usize, usize) = (number(words, 0)?, number(words, 2)?);
    let prefix = words.get(1).context("blink COUNT PREFIX PARALLEL")?;
    let program = std::env::current_exe()?;
    let mut pids = Vec::with_capacity(count);
    let mut running = std::collections::VecDeque::with_capacity(parallel);
    for at in 0..count {
        if running.len() >= parallel.max(1) {
            reap(running.pop_front())?;
        }
        let child = Command::new(&program)
            .args(["blink", &format!("{prefix}-{at}")])
            .stdin(Stdio::null())
            .spawn()?;
        pids.push(child.id().to_string());
        running.push_back(child);
    }
    for child in running {
        reap(Some(child))?;
    }
    Ok(Outcome::facts([("pids", pids.join(","))]))
}

fn reap(child: Option<std::process::Child>) -> Result<()> {
    let Some(mut child) = child else {
        return Ok(());
    };
    let status = child.wait()?;
    if !status.success() {
        bail!("a short-lived process failed: {status}");
    }
    Ok(())
}

/// Starts `chain DEPTH-1` below this process, the last link serves; ends as that one ended.
pub(super) fn chain(depth: u32, token: &str) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    match depth.checked_sub(1) {
        Some(left) if left > 0 => command.args(["chain", &left.to_string(), token]),
        _ => command.args(["serve", token]),
    };
    let status = command.status().context("cannot start the next link")?;
    if !status.success() {
        bail!("the link below failed: {status}");
    }
    Ok(())
}

/// A TCP server with several accepting threads: prints its port, answers each client with one line,
/// and ends when descriptor 0 does.
pub(super) fn threaded_server(threads: usize) -> Result<()> {
    // The listener comes from a thread that is not the leader, as in any program with a pool.
    let listener = std::thread::spawn(|| TcpListener::bind("127.0.0.1:0"))
        .join()
        .map_err(|_| anyhow::anyhow!("the listening thread panicked"))??;
    println!("{}", listener.local_addr()?.port());
    for _ in 0..threads {
        let listener = listener.try_clone()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that has gone away is no concern of the server.
                let _ = (&stream).write_all(b"hello\n");
            }
        });
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
