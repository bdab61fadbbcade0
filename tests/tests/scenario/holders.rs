//! Who holds a listener: the opener is not always the owner, and it is closed when the last one lets go.

use std::os::fd::AsFd as _;

use anyhow::{Result, ensure};
use portwatch_tests::harness::{Actor, Capability, Context, Event, Kind, Sees, Sock, Watch};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::scenarios;

scenarios!("holders":
    fork_outlives_the_opener, passed_to_another_process, duplicate_keeps_it_open, inherited_through_exec,
    killed_process_closes,
);

fn fork_outlives_the_opener(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("hold-fork")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    let child: u32 = actor.call("fork")?.number("pid")?;
    actor.exit()?;
    still_open(watch, &sock, &opened)?;
    held_by(watch, &sock, &opened, child)?;
    let child = i32::try_from(child).ok().and_then(Pid::from_raw);
    kill_process(
        child.ok_or_else(|| anyhow::anyhow!("no pid"))?,
        Signal::KILL,
    )?;
    watch.closed(&sock, &opened).map(drop)
}

/// `SCM_RIGHTS`: no bind and no listen happens in the process that serves in the end.
fn passed_to_another_process(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut sender = Actor::start("hold-sender")?;
    let mut receiver = Actor::start("hold-receiver")?;
    let sock = sender.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&sender, &sock, json!({}))?;
    let in_transit = sender.pass(&sock)?;
    receiver.take(&sock, in_transit.as_fd())?;
    drop(in_transit);
    sender.exit()?;
    still_open(watch, &sock, &opened)?;
    held_by(watch, &sock, &opened, receiver.pid)?;
    receiver.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn duplicate_keeps_it_open(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("hold-dup")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    actor.call(&format!("dup {} second", sock.slot))?;
    actor.close(&sock)?;
    still_open(watch, &sock, &opened)?;
    actor.call("close second")?;
    watch.closed(&sock, &opened).map(drop)
}

/// The new image holds what the old one opened; nothing is opened or closed by the change.
fn inherited_through_exec(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("hold-exec-before")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    actor.exec("hold-exec-after", &[&sock])?;
    still_open(watch, &sock, &opened)?;
    // What the new image opens is told with the new image's arguments.
    let second = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    watch.whole_life(&mut actor, &second, json!({}))?;
    actor.close(&sock)?;
    watch.closed(&sock, &opened).map(drop)
}

fn killed_process_closes(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("hold-killed")?;
    let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &sock, json!({}))?;
    actor.kill()?;
    watch.closed(&sock, &opened).map(drop)
}

fn still_open(watch: &Watch, sock: &Sock, opened: &Event) -> Result<()> {
    watch.absent(
        "closing while it is held",
        Capability::TcpListen,
        opened.index + 1,
        |event| {
            event.has_inode(sock.inode) && (event.kind() == "listener.closed" || event.is_opening())
        },
    )
}

/// The listener's holders are told as this one alone, at the latest on looking again.
fn held_by(watch: &Watch, sock: &Sock, opened: &Event, pid: u32) -> Result<()> {
    let changed = watch.expect(
        &format!("listener.changed with pid {pid} as the only owner"),
        Sees::ByReconcile,
        opened.index + 1,
        |event| event.has_inode(sock.inode),
        |event| {
            event.kind() == "listener.changed"
                && event.has_inode(sock.inode)
                && event.owner_pids() == [u64::from(pid)]
        },
    )?;
    ensure!(
        !changed.at("previous.owners").is_null(),
        "a change of owners without the owners before: {}",
        changed.value()
    );
    Ok(())
}
