//! Who did it: identities that are short, hostile, gone, hidden behind a thread, or far down a chain.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::address::hex;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::trigger::Launch;
use portwatch_tests::harness::{Actor, Context, Kind, Sees, locate};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use serde_json::json;

use super::scenarios;

scenarios!("process":
    deleted_executable, executable_in_memory, hostile_name, hostile_arguments, chain_of_parents,
    changed_user, thread_that_is_not_the_leader,
);

/// The kernel's path ends in ` (deleted)`; the event says so in a key of its own.
fn deleted_executable(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().canonicalize()?.join("actor-copy");
    fs::copy(locate::actor()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let launch = Launch {
        program: Some(copy.clone()),
        ..Launch::default()
    };
    let mut actor = Actor::launch("proc-deleted", &launch)?;
    fs::remove_file(&copy)?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    demand_all(&opened, &json!({"process.exe_deleted": true}))?;
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

/// An image that never was a file: what a loader of malware does.
fn executable_in_memory(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let name = "pw-memory";
    let writable = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
    let path = |fd: i32| PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()));
    fs::copy(locate::actor()?, path(writable.as_raw_fd()))?;
    // A file that is open for writing cannot be run.
    let image = rustix::fs::open(path(writable.as_raw_fd()), OFlags::RDONLY, Mode::empty())?;
    drop(writable);
    let launch = Launch {
        program: Some(path(image.as_fd().as_raw_fd())),
        ..Launch::default()
    };
    let mut actor = Actor::launch("proc-memfd", &launch)?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opening_of(0, &actor, &sock, context.sees(sock.kind.opening)?)?;
    demand_all(
        &opened,
        &json!({"process.exe_memfd": true, "process.pid": actor.pid, "process.args": actor.args}),
    )?;
    let exe = opened.text("process.exe");
    ensure!(
        exe.contains(name) && !exe.ends_with(" (deleted)"),
        "exe is told as {exe:?}"
    );
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

/// Escape sequences and line ends in a name: escaped in every text of the event, the message too.
fn hostile_name(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("proc-name")?;
    actor.call(&format!("comm {}", hex(b"\x1b[2J\nx\xff\\y")))?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    let name = r"\x1b[2J\x0ax\xff\x5cy";
    demand_all(&opened, &json!({"process.name": name}))?;
    let message = opened.text("message");
    ensure!(
        message.contains(name) && !message.chars().any(char::is_control),
        "the message is {message:?}"
    );
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn hostile_arguments(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let name = OsString::from_vec(b"a\x1b]0;owned\x07\n\xff \\".to_vec());
    let launch = Launch {
        name: Some(name),
        ..Launch::default()
    };
    let mut actor = Actor::launch("proc-args", &launch)?;
    actor.args = vec![
        r"a\x1b]0;owned\x07\x0a\xff \x5c".to_owned(),
        "serve".to_owned(),
        "proc-args".to_owned(),
    ];
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    watch.whole_life(&mut actor, &sock, json!({}))
}

/// harness → actor → actor → actor: the parents, nearest first, with their programs.
fn chain_of_parents(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::launch(
        "proc-chain",
        &Launch {
            chain: 2,
            ..Launch::default()
        },
    )?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    let ancestors = opened
        .at("process.ancestors")
        .as_array()
        .context("no ancestors")?;
    let pids: Vec<u64> = ancestors
        .iter()
        .filter_map(|one| one.get("pid")?.as_u64())
        .collect();
    let exes: Vec<&str> = ancestors
        .iter()
        .filter_map(|one| one.get("exe")?.as_str())
        .take(2)
        .collect();
    let me = u64::from(std::process::id());
    if pids.first() != Some(&u64::from(actor.ppid)) || pids.get(2) != Some(&me) {
        bail!(
            "parents should be {}, another actor, {me}: {}",
            actor.ppid,
            opened.value()
        );
    }
    ensure!(
        exes == [&actor.exe, &actor.exe],
        "the links are actors: {}",
        opened.value()
    );
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

/// The user at the moment of the call, not the one that started the program.
fn changed_user(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("proc-user")?;
    actor.call("user 65534")?;
    actor.uid = 65534;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    demand_all(&opened, &json!({"process.gid": 65534}))?;
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn thread_that_is_not_the_leader(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("proc-thread")?;
    let sock = actor.socket(Kind::TCP4)?;
    actor.call(&format!("thread bind {} 127.0.0.1:0", sock.slot))?;
    let tid: u32 = actor
        .call(&format!("thread listen {} 1", sock.slot))?
        .number("tid")?;
    ensure!(
        tid != actor.pid,
        "the trigger went wrong: the leader listened"
    );
    let opened = watch.opened(&actor, &sock, json!({}))?;
    if context.sees(sock.kind.opening)? == Sees::Exactly {
        demand_all(&opened, &json!({"process.tid": tid}))?;
    }
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}
