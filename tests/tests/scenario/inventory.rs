//! What was there before portwatch, and what came while it started: each told once, none missed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use portwatch_tests::address::Address;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::program::free_udp_port;
use portwatch_tests::harness::{Actor, Context, Kind, Sees, Sock};
use serde_json::json;

use super::scenarios;

scenarios!("inventory": present_at_start, relative_path_at_start, start_up_race);

/// Most listeners that the race opens: enough for a start that takes seconds, and no flood.
const RACERS: u32 = 3000;

/// One socket of each kind, held by two processes, before portwatch starts.
fn present_at_start(context: &Context) -> Result<()> {
    let mut actor = Actor::start("inv-present")?;
    let mut held: Vec<Sock> = Vec::new();
    held.push(actor.listener(Kind::TCP4, "127.0.0.1:0", 17)?);
    held.push(actor.listener(Kind::TCP6, "[::1]:0", 18)?);
    let udp = actor.socket(Kind::UDP4)?;
    actor.call(&format!("bind {} 127.0.0.1:{}", udp.slot, free_udp_port()?))?;
    held.push(udp);
    let unix = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&unix, &Address::Unix(Vec::new()))?;
    actor.listen(&unix, 1)?;
    held.push(unix);
    held.push(actor.socket(Kind::PACKET_ALL)?);
    held.push(actor.socket(Kind::RAW_ICMP4)?);
    let silent = actor.socket(Kind::UDP4)?;
    actor.call(&format!("connect {} 127.0.0.1:9", silent.slot))?;
    let child: u64 = actor.call("fork")?.number("pid")?;

    let watch = context.fresh(&[])?;
    for sock in &held {
        let present = watch.opening_of(0, &actor, sock, Sees::ByReconcile)?;
        demand_all(
            &present,
            &json!({
                "type": "listener.present",
                "socket.netns": sock.netns,
                "socket.family": sock.kind.family,
                "socket.type": sock.kind.kind,
                "socket.protocol": sock.kind.protocol,
                "process.exe": actor.exe,
                "process.args": actor.args,
            }),
        )?;
        let owners = present.owner_pids();
        ensure!(
            owners.contains(&u64::from(actor.pid)) && owners.contains(&child),
            "owners should be {} and {child}: {}",
            actor.pid,
            present.value()
        );
    }
    let tcp = held.first().context("no socket")?;
    let port = actor.port(tcp)?;
    let present = watch.opening_of(0, &actor, tcp, Sees::ByReconcile)?;
    demand_all(
        &present,
        &json!({"socket.port": port, "socket.backlog": 17}),
    )?;
    watch.absent("listener for a client", Kind::UDP4.opening, 0, |event| {
        event.has_inode(silent.inode)
    })?;
    watch.interrupt()?;
    watch.check_stream()
}

/// Nothing but the name as bound is kept in a socket: its process tells the directory.
fn relative_path_at_start(context: &Context) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let mut actor = Actor::start("inv-relative")?;
    actor.chdir(&folder)?;
    let sock = actor.socket(Kind::UNIX_STREAM)?;
    actor.bind(&sock, &Address::path(Path::new("./app.sock")))?;
    actor.listen(&sock, 1)?;

    let watch = context.fresh(&[])?;
    let present = watch.opening_of(0, &actor, &sock, Sees::ByReconcile)?;
    let path = folder.join("app.sock");
    demand_all(
        &present,
        &json!({
            "type": "listener.present",
            "socket.path": path.to_str().context("a temporary path that is no UTF-8")?,
            "socket.path_as_bound": "./app.sock",
        }),
    )?;
    // What was told stays, wherever the process goes.
    actor.chdir(Path::new("/"))?;
    actor.close(&sock)?;
    watch.closed(&sock, &present)?;
    watch.interrupt()?;
    watch.check_stream()
}

/// Listeners open without pause while a fresh portwatch attaches, looks and merges.
fn start_up_race(context: &Context) -> Result<()> {
    let mut actor = Actor::start("inv-race")?;
    let stop = AtomicBool::new(false);
    let (watch, inodes) = std::thread::scope(|scope| {
        let opener = scope.spawn(|| -> Result<Vec<u64>> {
            let mut inodes = Vec::new();
            for round in 0..RACERS {
                let answer = actor.call(&format!("open 1 r{round}-"))?;
                inodes.push(answer.number("inodes")?);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(inodes)
        });
        let watch = context.fresh(&[]);
        stop.store(true, Ordering::Relaxed);
        let inodes = opener
            .join()
            .map_err(|_| anyhow!("the opening thread panicked"));
        (watch, inodes)
    });
    let (watch, inodes) = (watch?, inodes??);
    // One more, opened when portwatch watches: whatever came before it has been told by then.
    watch.fence(Kind::TCP4.opening)?;
    let mut told: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let ours = |event: &portwatch_tests::harness::Event| {
        event.is_opening() && event.has_argument("inv-race")
    };
    for event in watch.gather(inodes.len(), Duration::from_secs(5), ours) {
        let inode = event.number("socket.inode").unwrap_or(0);
        told.entry(inode)
            .or_default()
            .push(event.number("seq").unwrap_or(0));
    }
    let missing = inodes
        .iter()
        .filter(|inode| !told.contains_key(inode))
        .count();
    let twice = told.iter().filter(|(_, seqs)| seqs.len() > 1).count();
    if missing + twice > 0 || told.len() != inodes.len() {
        bail!(
            "of {} listeners {missing} were not told, {twice} more than once",
            inodes.len()
        );
    }
    watch.interrupt()?;
    watch.check_stream()
}
