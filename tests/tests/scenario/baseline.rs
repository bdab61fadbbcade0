//! The approved set: learned at the first start, compared in sentences, whole whatever happens.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Event, Kind, Outcome};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::scenarios;

scenarios!(userland "baseline": learned_at_first_start, accepted_by_event_and_expression, check_tells_the_difference, killed_at_any_time, full_disk);

const PATIENCE: Duration = Duration::from_secs(15);
/// How often a command is killed in the middle.
const KILLS: u32 = 20;

/// What listens when the daemon starts for the first time is approved; what comes later is new, also after a
/// restart, and no pid matters.
fn learned_at_first_start(context: &Context) -> Result<()> {
    let mut old = Actor::start("base-old")?;
    let sock = old.listener(Kind::TCP4, "127.81.0.1:0", 1)?;
    let home = Home::new()?;
    let mut daemon = home.start(context.rung())?;
    let mut new = Actor::start("base-new")?;
    let other = new.listener(Kind::TCP4, "127.81.0.2:0", 1)?;
    let states = [(sock.inode, "baseline"), (other.inode, "new")];
    judged(&home, &states)?;
    // The same program at the same place, with another pid and another port of the kernel's choice.
    old.close(&sock)?;
    let mut again = Actor::start("base-again")?;
    let sock = again.listener(Kind::TCP4, "127.81.0.1:0", 1)?;
    let states = [(sock.inode, "baseline"), (other.inode, "new")];
    judged(&home, &states)?;
    daemon.crash()?;
    let _daemon = home.start(context.rung())?;
    judged(&home, &states)?;
    let cleared = home.command()?.args(["baseline", "clear"]).output()?;
    ensure!(cleared.status.success(), "clear failed: {cleared:?}");
    judged(&home, &[(sock.inode, "new"), (other.inode, "new")])
}

/// One sentence for what is there and was not, one for what was and is not; 1 when there is any.
fn check_tells_the_difference(_: &Context) -> Result<()> {
    let home = Home::new()?;
    let mut gone = Actor::start("base-gone")?;
    let sock = gone.listener(Kind::TCP4, "127.82.0.1:0", 1)?;
    let never = home.command()?.args(["baseline", "check"]).output()?;
    ensure!(
        never.status.code() == Some(78),
        "without a baseline: {never:?}"
    );
    let made = home.command()?.args(["baseline", "generate"]).output()?;
    ensure!(made.status.success(), "generate failed: {made:?}");
    ensure!(
        !check(&home)?.1.contains("127.82.0."),
        "a difference at once"
    );
    gone.close(&sock)?;
    let mut new = Actor::start("base-open")?;
    let other = new.listener(Kind::TCP4, "127.82.0.2:0", 1)?;
    let port = new.port(&other)?;
    let (code, told) = check(&home)?;
    let exe = &gone.exe;
    for sentence in [
        format!(
            "127.82.0.2:{port}/tcp now open: actor (pid {}, root), was closed",
            new.pid
        ),
        format!("127.82.0.1:ephemeral/tcp now closed, was open: {exe}"),
    ] {
        ensure!(
            told.lines().any(|line| line == sentence),
            "not told: {sentence}\n{told}"
        );
    }
    ensure!(code == Some(1), "ended with {code:?}");
    Ok(())
}

/// Accepted by the id of an event or by an expression, a new listener is allowed while the daemon runs, until that is
/// taken back or over.
fn accepted_by_event_and_expression(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("base-accept")?;
    let sock = actor.listener(Kind::TCP4, "127.89.0.1:0", 1)?;
    let other = actor.listener(Kind::TCP4, "127.89.0.2:0", 1)?;
    judged(&home, &[(sock.inode, "new"), (other.inode, "new")])?;
    let id = id_of(&home, "127.89.0.1")?;
    accept(&home, &[&id, "--reason", "reviewed"])?;
    accept(&home, &["address:127.89.0.2", "--expires", "1h"])?;
    judged(&home, &[(sock.inode, "allowed"), (other.inode, "allowed")])?;
    let list = home.command()?.args(["baseline", "list"]).output()?;
    let list = String::from_utf8(list.stdout)?;
    ensure!(
        list.contains("accepted 1: 127.89.0.1:") && list.contains(": reviewed\n"),
        "listed: {list}"
    );
    ensure!(
        !check(&home)?.1.contains("127.89.0."),
        "what is accepted is a difference"
    );
    let back = home.command()?.args(["baseline", "clear", "1"]).output()?;
    ensure!(back.status.success(), "not taken back: {back:?}");
    accept(&home, &["address:127.89.0.1", "--expires", "2s"])?;
    judged(&home, &[(sock.inode, "allowed"), (other.inode, "allowed")])?;
    judged(&home, &[(sock.inode, "new"), (other.inode, "allowed")])?;
    let unknown = "00000000-0000-7000-8000-000000000000";
    let refused = home
        .command()?
        .args(["baseline", "accept", unknown])
        .output()?;
    ensure!(
        refused.status.code() == Some(69),
        "an unknown event: {refused:?}"
    );
    Ok(())
}

fn accept(home: &Home, args: &[&str]) -> Result<()> {
    let output = home
        .command()?
        .args(["baseline", "accept"])
        .args(args)
        .output()?;
    ensure!(output.status.success(), "not accepted: {output:?}");
    Ok(())
}

/// The id of the event of a listener, as soon as it is in the history.
fn id_of(home: &Home, address: &str) -> Result<String> {
    let filter = format!("address:{address}");
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let output = home
            .command()?
            .args(["history", "-o", "json", &filter])
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        if let Some(line) = text.lines().next() {
            let event: serde_json::Value = serde_json::from_str(line)?;
            return Ok(event["id"].as_str().context("no id")?.to_owned());
        }
        ensure!(Instant::now() < deadline, "{address} is not in the history");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Killed at any moment, what was approved is there whole: as before, or as after.
fn killed_at_any_time(_: &Context) -> Result<()> {
    let home = Home::new()?;
    let mut actor = Actor::start("base-kill")?;
    let _kept = actor.listener(Kind::TCP4, "127.83.0.1:0", 1)?;
    let took = Instant::now();
    let made = home.command()?.args(["baseline", "generate"]).output()?;
    let took = took.elapsed();
    ensure!(made.status.success(), "generate failed: {made:?}");
    for kill in 0..KILLS {
        let mut command = home.command()?;
        command
            .args(["baseline", "generate"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        // Spread over its whole life; what is written is written at the end of it.
        std::thread::sleep(took.mul_f64(0.5 + f64::from(kill) / f64::from(KILLS)));
        // It may have ended.
        let _ = child.kill();
        child.wait()?;
        let (code, told) = check(&home)?;
        ensure!(
            matches!(code, Some(0 | 1)) && !told.contains("127.83.0.1"),
            "after kill {kill}: {code:?}, {told}"
        );
    }
    Ok(())
}

/// A full disk is said in one sentence, and what was approved stays.
fn full_disk(_: &Context) -> Result<Outcome> {
    let home = Home::new()?;
    let state = home.path("state");
    let size = Some(c"size=128k,mode=700");
    if let Err(error) = mount("portwatch-test", &state, "tmpfs", MountFlags::empty(), size) {
        return Ok(Outcome::Skipped(format!("nothing can be mounted: {error}")));
    }
    let _mounted = Mounted(&state);
    let mut actor = Actor::start("base-full")?;
    let _kept = actor.listener(Kind::TCP4, "127.84.0.1:0", 1)?;
    let made = home.command()?.args(["baseline", "generate"]).output()?;
    ensure!(made.status.success(), "generate failed: {made:?}");
    // As much as there is room for.
    let _ = fs::write(state.join("filler"), vec![0; 128 * 1024]);
    let refused = home.command()?.args(["baseline", "generate"]).output()?;
    let told = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(74) && told.contains("the disk is full"),
        "on a full disk: {refused:?}"
    );
    let (code, told) = check(&home)?;
    ensure!(
        matches!(code, Some(0 | 1)) && !told.contains("127.84.0.1"),
        "afterwards: {code:?}, {told}"
    );
    Ok(Outcome::Done)
}

pub(super) struct Mounted<'a>(pub(super) &'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // The folder is removed next, which shows when it was not possible.
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// The exit code of `baseline check`, and what it says.
fn check(home: &Home) -> Result<(Option<i32>, String)> {
    let output = home.command()?.args(["baseline", "check"]).output()?;
    let told = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&told).into_owned(),
    ))
}

/// `ls` shows each of these sockets, judged so.
fn judged(home: &Home, sockets: &[(u64, &str)]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let output = home.command()?.args(["ls", "-o", "json"]).output()?;
        let lines = output.stdout.split(|&byte| byte == b'\n');
        let listed: Vec<Event> = lines
            .filter(|line| !line.is_empty())
            .enumerate()
            .map(|(at, line)| Event::parse(line, at, Instant::now()))
            .collect::<Result<_>>()?;
        let missing = sockets.iter().find(|(inode, state)| {
            let mut those = listed.iter().filter(|event| event.has_inode(*inode));
            !those.any(|event| event.text("policy.state") == *state)
        });
        let Some((inode, state)) = missing else {
            return Ok(());
        };
        let found = listed.iter().find(|event| event.has_inode(*inode));
        ensure!(
            Instant::now() < deadline,
            "socket {inode} should be {state}, is {}",
            found.map(Event::brief).context("not listed")?
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
