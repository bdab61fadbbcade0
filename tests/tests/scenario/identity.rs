//! Who it was, against processes that change what identifies them: name, pid, program file, folder and
//! mount namespace.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::address::hex;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::trigger::Launch;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{
    Actor, Capability, Context, Event, Kind, Outcome, Sees, Watch, locate,
};
use serde_json::json;

use super::scenarios;

scenarios!("identity":
    renamed_without_pause, reused_pid, deleted_directory, replaced_executable, private_mounts,
);

/// Listeners of the process that renames itself.
const RENAMED: usize = 200;
/// Names that it has at least, a second.
const RENAMES: u64 = 10_000;
/// Processes with one pid.
const REUSED: usize = 60;
/// Most listeners until one comes with the hash of its program.
const LATER: usize = 50;
const PATIENCE: Duration = Duration::from_secs(10);

/// Ten thousand names a second and more: pid, program, arguments and start stay what they are.
fn renamed_without_pause(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("id-renamed")?;
    let before = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let before = watch.opened(&actor, &before, json!({}))?;
    let answer = actor.call(&format!("renaming {RENAMED} pwname"))?;
    let renames: usize = answer.number("renames")?;
    ensure!(
        renames > RENAMED,
        "the trigger went wrong: {renames} names for {RENAMED} listeners"
    );
    let millis: u64 = answer.number("millis")?;
    let rate = renames as u64 * 1000 / millis.max(1);
    ensure!(
        rate >= RENAMES / u64::from(scale()),
        "the trigger went wrong: {rate} names a second"
    );
    let inodes: Vec<u64> = answer
        .text("inodes")?
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let exactly = context.sees(Capability::TcpListen)? == Sees::Exactly;
    for &inode in &inodes {
        let opened = watch.expect(
            &format!("opening of socket {inode}"),
            context.sees(Capability::TcpListen)?,
            0,
            |event| event.has_inode(inode),
            |event| event.is_opening() && event.has_inode(inode),
        )?;
        demand_all(
            &opened,
            &json!({
                "process.pid": actor.pid,
                "process.ppid": actor.ppid,
                "process.exe": actor.exe,
                "process.args": actor.args,
                "process.start_time": before.text("process.start_time"),
                "process.unresolved": null,
            }),
        )?;
        ensure!(
            !exactly || opened.text("process.name").starts_with("pwname"),
            "a name that it never had: {}",
            opened.value()
        );
    }
    Ok(())
}

/// One pid, one process after the other, two programs by turns: each listener has its own.
fn reused_pid(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::ShortLived)? == Sees::No {
        return context.admits(Capability::ShortLived);
    }
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let copy = copy_actor(&folder.path().canonicalize()?.join("another"))?;
    let mut actor = Actor::start("id-reused")?;
    // Somebody else may get the pid in between: then again, with another.
    let tried = (0..10).find_map(|attempt| {
        let prefix = format!("id-reused-{attempt}");
        let path = hex(copy.as_os_str().as_encoded_bytes());
        let answer = actor.call(&format!("reuse {REUSED} {prefix} {path}"));
        match answer {
            Ok(answer) => Some(Ok((prefix, answer))),
            Err(error) if format!("{error:#}").starts_with("errno-17 ") => None,
            Err(error) => Some(Err(error)),
        }
    });
    let (prefix, answer) = match tried.context("the pid was never free")? {
        Ok(done) => done,
        Err(error)
            if ["EPERM", "ENOSYS"]
                .iter()
                .any(|no| error.to_string().starts_with(no)) =>
        {
            return Ok(Outcome::Skipped(format!("no pid can be chosen: {error}")));
        }
        Err(error) => return Err(error),
    };
    let pid: u64 = answer.number("pid")?;
    let copy = copy.to_str().context("a path that is no UTF-8")?;
    let mine = |event: &Event| token(event).is_some_and(|token| token.starts_with(&prefix));
    let opened = watch.gather(REUSED, PATIENCE, |event| event.is_opening() && mine(event));
    let closed = watch.gather(REUSED, PATIENCE, |event| {
        event.kind() == "listener.closed" && mine(event)
    });
    let closed: HashMap<Option<u64>, &Event> = closed
        .iter()
        .map(|event| (event.number("socket.inode"), event))
        .collect();
    ensure!(opened.len() == REUSED, "{} of {REUSED} told", opened.len());
    let mut last_start = String::new();
    for (at, event) in opened.iter().enumerate() {
        let exe = if at % 2 == 0 { &actor.exe } else { copy };
        let token = format!("{prefix}-{at}");
        let name = exe.rsplit('/').next();
        let wanted = json!({
            "process.pid": pid,
            "process.exe": exe,
            "process.name": name,
            "process.args": [exe, "blink", token],
            "process.ppid": actor.pid,
        });
        demand_all(event, &wanted)?;
        let parent = event.at("process.ancestors").get(0);
        let parent_exe = parent.and_then(|parent| parent.get("exe")?.as_str());
        ensure!(
            parent_exe == Some(&actor.exe),
            "another parent: {}",
            event.value()
        );
        let start = event.text("process.start_time");
        ensure!(
            start > last_start.as_str(),
            "started at {last_start}, then at {start}"
        );
        start.clone_into(&mut last_start);
        let end = closed
            .get(&event.number("socket.inode"))
            .with_context(|| format!("{token} was not told to be closed"))?;
        demand_all(end, &wanted)?;
    }
    Ok(Outcome::Done)
}

/// A directory that is no more has the name that it had, on every rung without the kernel's remark.
fn deleted_directory(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let within = folder.path().canonicalize()?.join("gone (deleted)");
    fs::create_dir(&within)?;
    let mut actor = Actor::start("id-cwd")?;
    actor.chdir(&within)?;
    fs::remove_dir(&within)?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    demand_all(&opened, &json!({"process.cwd": within.to_str()}))?;
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

/// Another file at the path of the program that runs: told is the one that runs, and never the other's hash.
fn replaced_executable(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let program = copy_actor(&folder.join("replaced"))?;
    let launch = Launch {
        program: Some(program.clone()),
        ..Launch::default()
    };
    let mut plain = Actor::start("id-plain")?;
    let sock = plain.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let original = hashed(&watch.opened(&plain, &sock, json!({}))?, &mut plain, watch)?;
    let mut actor = Actor::launch("id-replaced", &launch)?;
    let other = folder.join("other");
    fs::write(&other, "#!/bin/false\n")?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    fs::rename(&other, &program)?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    demand_all(
        &opened,
        &json!({"process.exe_deleted": true, "process.package": null}),
    )?;
    let hash = hashed(&opened, &mut actor, watch)?;
    ensure!(
        hash == original,
        "hash {hash} is not that of the program that runs, {original}"
    );
    Ok(())
}

/// A file system that only the process sees, and that goes with it.
fn private_mounts(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let mut actor = Actor::start("id-mounts")?;
    actor.call(&format!(
        "unshare-mounts {}",
        hex(folder.as_os_str().as_encoded_bytes())
    ))?;
    let program = folder.join("actor");
    ensure!(
        !program.exists(),
        "the trigger went wrong: the mount is no secret"
    );
    actor.exec_as(&program, "id-mounts-inside")?;
    actor.chdir(&folder)?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    demand_all(&opened, &json!({"process.cwd": folder.to_str()}))?;
    // Namespace, mount and program end with it.
    actor.kill()?;
    let closed = watch.closed(&sock, &opened)?;
    demand_all(
        &closed,
        &json!({"process.exe": actor.exe, "process.args": actor.args}),
    )
}

/// The hash of the program, from this event or one of a later listener: the first may come without.
fn hashed(first: &Event, actor: &mut Actor, watch: &Watch) -> Result<String> {
    let mut event = first.clone();
    for _ in 0..LATER {
        let hash = event.text("process.sha256");
        if !hash.is_empty() {
            return Ok(hash.to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
        event = watch.opened(actor, &sock, json!({}))?;
    }
    bail!("no hash: {}", event.value())
}

fn copy_actor(to: &Path) -> Result<PathBuf> {
    fs::copy(locate::actor()?, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(to.to_path_buf())
}

/// The argument that names one of many short-lived processes.
fn token(event: &Event) -> Option<&str> {
    event.at("process.args").as_array()?.get(2)?.as_str()
}
