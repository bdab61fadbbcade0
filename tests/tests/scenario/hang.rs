//! Files that never give an answer, of processes in /proc or of a sink: nobody waits for them but themselves.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome, Sees};
use rustix::fs::{CWD, FileType};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::json;

use super::scenarios;
use super::sinks::{status, wait_for};

scenarios!(userland "hang": arguments_that_never_come, a_certificate_that_never_comes);

/// More than there are threads for what may be slow.
const HANGING: usize = 4;

/// A pipe without a writer stands where the arguments of some processes are: whoever opens it hangs, as
/// with a process whose memory map is held.
fn arguments_that_never_come(context: &Context) -> Result<Outcome> {
    let mut hanging = Vec::new();
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, 0o600.into(), 0)?;
    for n in 0..HANGING {
        let mut actor = Actor::start(&format!("hang-{n}"))?;
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
        let hidden = PathBuf::from(format!("/proc/{}/cmdline", actor.pid));
        if let Err(error) = mount_bind(&pipe, &hidden) {
            return Ok(Outcome::Skipped(format!(
                "nothing can be mounted over a file of a process: {error}"
            )));
        }
        hanging.push((Mounted(hidden), actor, sock));
    }

    let watch = context.fresh(&[])?;
    let mut told = Vec::new();
    for (_, actor, sock) in &hanging {
        let present = watch.opening_of(0, actor, sock, Sees::ByReconcile)?;
        demand_all(
            &present,
            &json!({"process.exe": actor.exe, "process.args": null}),
        )?;
        told.push(present);
    }
    let mut beside = Actor::start("hang-beside")?;
    let sock = beside.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    watch.whole_life(&mut beside, &sock, json!({}))?;
    for ((_, actor, sock), present) in hanging.iter_mut().zip(&told) {
        actor.close(sock)?;
        watch.closed(sock, present)?;
    }
    watch.interrupt()?;
    watch.check_stream()?;
    Ok(Outcome::Done)
}

/// A certificate on a disk that does not answer: the daemon watches, tells the other sink, and says what is wrong.
fn a_certificate_that_never_comes(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let (pipe, path) = (home.path("ca"), home.path("events.jsonl"));
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, 0o600.into(), 0)?;
    let text = format!(
        "[[sink]]\ntype = \"file\"\npath = \"{}\"\n\
         [[sink]]\ntype = \"syslog\"\nname = \"siem\"\naddress = \"tls://127.0.0.1:1\"\nca_file = \"{}\"\n",
        path.display(),
        pipe.display()
    );
    fs::write(home.path("portwatch.toml"), text)?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("hang-sink")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    wait_for(&[&path], |event| event.has_inode(sock.inode))?;
    let status = status(&home)?;
    let told = [&status["sinks"][0], &status["sinks"][1]];
    ensure!(told[0]["error"].is_null(), "{}", told[0]);
    ensure!(
        told[1]["name"] == "siem" && told[1]["error"].is_string() && told[1]["queued"] != 0,
        "{}",
        told[1]
    );
    Ok(())
}

/// Uncovered when dropped, before its process ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // It vanishes with its process at the latest.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
