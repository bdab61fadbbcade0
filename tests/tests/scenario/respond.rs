//! What follows a storm: sources put into a set of nftables and taken out again, a program that is run, mails. The daemon runs
//! in a network namespace of the test's own, where senders may be invented and nft rules nobody else's packets.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::mail_server::MAILBOX;
use portwatch_tests::harness::program::find;
use portwatch_tests::harness::smtp_peer::{Deed, SmtpPeer};
use portwatch_tests::harness::stage::{Named, PATIENCE, Place, Stage, within};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Context, Event, Outcome};
use rustix::process::Signal;
use serde_json::Value;

use super::scenarios;

scenarios!(userland alone "respond": sources_are_blocked, program_is_run, one_mail_each_way, settings_are_reloaded);

/// Senders of a flood that is answered, dry and in earnest: so many that each sends more than a tenth. They are others each
/// time: a SYN of a connection that is half-open already makes no other.
const DRY: &str = "203.1.0.0";
const NETWORK: &str = "203.0.0.0";
const SENDERS: u32 = 5;
/// Of them, those that are configured to be left alone, and how many an hour may be blocked.
const NEVER: [&str; 2] = ["203.1.0.1/32", "203.0.0.1/32"];
const PER_HOUR: usize = 3;
/// Half-open connections a second, and for how long.
const RATE: u32 = 160;
const SECONDS: u32 = 6;
/// How long a new configuration takes at most.
const RELOAD: Duration = Duration::from_secs(2);
/// Calm after which an episode is over.
const STORM: &str = "[storm]\ncalm = \"2s\"\n";

/// The tables in which sources are put, as docs/storms.md has them.
const TABLE: &str = "table inet filter {
    set portwatch4 { type ipv4_addr; flags timeout; }
    set portwatch6 { type ipv6_addr; flags interval, timeout; }
}
";

/// Dry first, and nothing is done. Then the top senders go into the set, each with a timeout, and no more than configured; none
/// that is private or named; what was put in for the episode is taken out when it ends. A scan has its source put in as well.
fn sources_are_blocked(context: &Context) -> Result<Outcome> {
    let Some(nft) = find("nft") else {
        return Ok(Outcome::Skipped("there is no nft".to_owned()));
    };
    let mut place = Place::new("respond-nft", 4096)?;
    for network in [DRY, NETWORK] {
        place.actor.call(&format!("senders {network}"))?;
    }
    let holder = place.actor.pid;
    let made = within(holder, || run(&nft, &["-f", "-"], TABLE))?;
    if let Err(told) = made {
        return Ok(Outcome::Skipped(format!(
            "this kernel has no nftables: {told}"
        )));
    }
    let config = |dry_run: bool| {
        format!(
            "{STORM}scan_ports = 10\n[response]\non = [\"syn-flood\", \"port-scan\"]\ndry_run = {dry_run}\n\
             ipv4_set = \"inet filter portwatch4\"\ntimeout = \"10m\"\nshare = 10\nper_hour = {PER_HOUR}\nnever = {NEVER:?}\n"
        )
    };
    let stage = within(holder, || Stage::new(context, &config(true)))?;
    if !sees_floods(&stage)? {
        return stage.admits("tcp.syn");
    }
    stage.knows(&place)?;
    let set = || {
        elements(&within(holder, || {
            run(
                &nft,
                &["-j", "list", "set", "inet", "filter", "portwatch4"],
                "",
            )
        })?)
    };

    // Dry.
    let (after, named) = flood(&stage, &mut place, DRY)?;
    let (would, told) = all_blocked(&stage, after)?;
    ensure!(told.at("response.dry_run") == true, "{}", told.brief());
    ensure!(
        would.len() == PER_HOUR && NEVER.iter().all(|never| !would.contains(*never)),
        "{would:?}"
    );
    ensure!(set()?.is_empty(), "a dry run did something: {:?}", set()?);
    stage.end_of(&named.event)?;
    response(&stage, after, "unblock")?;

    // Private senders, with leave to do something.
    fs::write(stage.home.path("portwatch.toml"), config(false))?;
    stage.daemon.signal(Signal::HUP)?;
    std::thread::sleep(RELOAD * scale());
    let (after, named) = flood(&stage, &mut place, "10.9.0.0")?;
    stage.end_of_one(&named.event)?;
    let done = stage
        .watch
        .all(|event| event.index >= after && event.kind() == "storm.response");
    ensure!(
        done.is_empty(),
        "private senders: {:?}",
        done.first().map(Event::brief)
    );

    // In earnest. The hour's number is used up by the dry run, as it would have been: start again.
    drop(stage);
    let stage = within(holder, || Stage::new(context, &config(false)))?;
    stage.knows(&place)?;
    let (after, named) = flood(&stage, &mut place, NETWORK)?;
    let (blocked, told) = all_blocked(&stage, after)?;
    ensure!(
        told.at("response.error").is_null() && told.at("response.dry_run") == false,
        "{}",
        told.brief()
    );
    ensure!(told.at("response.cause") == "syn-flood", "{}", told.brief());
    ensure!(
        blocked.len() == PER_HOUR && NEVER.iter().all(|never| !blocked.contains(*never)),
        "{blocked:?}"
    );
    let ended = stage.end_of(&named.event)?;
    let undone = response(&stage, after, "unblock")?;
    ensure!(
        undone.index > told.index && undone.index >= ended.index,
        "undone before the end"
    );
    ensure!(prefixes(&undone) == blocked, "{}", undone.brief());
    ensure!(undone.at("response.error").is_null(), "{}", undone.brief());
    ensure!(set()?.is_empty(), "left behind: {:?}", set()?);
    let status = stage.ask("status")?;
    ensure!(
        status["storms"]["capped"].as_u64() >= Some(1),
        "{}",
        status["storms"]
    );
    drop(stage);

    // A scan; and what is in the set, seen by nft itself while it is in there.
    let stage = within(holder, || Stage::new(context, &config(false)))?;
    let after = stage.watch.position();
    place.actor.call("probe 100 30 500 203.0.7.7")?;
    let told = response(&stage, after, "block")?;
    ensure!(told.at("response.cause") == "port-scan", "{}", told.brief());
    ensure!(told.at("response.error").is_null(), "{}", told.brief());
    let inside = set()?;
    ensure!(
        inside == [("203.0.7.7".to_owned(), 600)].into(),
        "{inside:?}"
    );
    Ok(Outcome::Done)
}

/// `[exec]` with a filter: the program gets the event of the storm's beginning, once.
fn program_is_run(context: &Context) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let (program, out) = (folder.path().join("on-storm"), folder.path().join("out"));
    let script = format!("#!/bin/sh\ncat >>{}\necho >>{0}\n", out.display());
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let config = format!(
        "{STORM}[exec]\ncommand = [\"{}\"]\nuser = \"root\"\nmatch = \"type == storm.started\"\n",
        program.display()
    );
    let stage = Stage::new(context, &config)?;
    if !sees_floods(&stage)? {
        return stage.admits("tcp.syn");
    }
    let mut place = Place::new("respond-exec", 4096)?;
    stage.knows(&place)?;
    let (_, named) = flood(&stage, &mut place, "10.9.0.0")?;
    let deadline = Instant::now() + Duration::from_secs(30) * scale();
    let given = loop {
        let text = fs::read_to_string(&out).unwrap_or_default();
        if text.contains(named.event.text("id")) {
            break text;
        }
        ensure!(Instant::now() < deadline, "it is not run: {text:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(given.contains("syn-flood"), "{given}");
    stage.end_of(&named.event)?;
    std::thread::sleep(Duration::from_secs(2) * scale());
    let given = fs::read_to_string(&out)?;
    let of_ours = given.matches(named.event.text("id")).count();
    ensure!(of_ours >= 1 && !given.contains("storm.ended"), "{given}");
    Ok(Outcome::Done)
}

/// One mail says that it began, and one that it is over.
fn one_mail_each_way(context: &Context) -> Result<Outcome> {
    let peer = SmtpPeer::start(|_, _| Deed::Usual)?;
    let mut place = Place::new("respond-mail", 4096)?;
    let config = format!(
        "{STORM}[email]\nto = \"{MAILBOX}\"\nserver = \"127.0.0.1:{}\"\nmatch = \"port == {} and storm == syn-flood\"\n",
        peer.port, place.port
    );
    let stage = Stage::new(context, &config)?;
    if !sees_floods(&stage)? {
        return stage.admits("tcp.syn");
    }
    stage.knows(&place)?;
    let (_, named) = flood(&stage, &mut place, "10.9.0.0")?;
    let patience = Duration::from_secs(30);
    let record = peer.wait(patience, |record| !record.taken.is_empty())?;
    let port = place.port.to_string();
    let first = &record.taken[0].mail;
    ensure!(
        first.subject().contains("SYN flood") && first.subject().contains(&port),
        "{first:?}"
    );
    stage.end_of(&named.event)?;
    let record = peer.wait(patience, |record| record.taken.len() > 1)?;
    let second = &record.taken[1].mail;
    ensure!(
        second.subject() != first.subject() && second.text.contains(&port),
        "{second:?}"
    );
    std::thread::sleep(Duration::from_secs(12));
    let mails = peer.record().taken.len();
    ensure!(mails == 2, "{mails} mails");
    Ok(Outcome::Done)
}

/// What is no storm by the old configuration is one by the new: SIGHUP is enough.
fn settings_are_reloaded(context: &Context) -> Result<Outcome> {
    let off = format!("{STORM}off = [\"syn-flood\"]\n");
    let stage = Stage::new(context, &off)?;
    if !sees_floods(&stage)? {
        return stage.admits("tcp.syn");
    }
    let mut place = Place::new("respond-reload", 4096)?;
    stage.knows(&place)?;
    let port = place.port;
    place
        .actor
        .call(&format!("syns {} {RATE} {port}", RATE * SECONDS))?;
    std::thread::sleep(Duration::from_secs(2) * scale());
    let wrong = stage.wrong(place.netns, place.actor.pid, &[]);
    ensure!(wrong.is_empty(), "it is off: {wrong:?}");
    fs::write(stage.home.path("portwatch.toml"), STORM)?;
    stage.daemon.signal(Signal::HUP)?;
    std::thread::sleep(RELOAD * scale());
    let (_, named) = flood(&stage, &mut place, "10.9.0.0")?;
    // A threshold that a running episode is not over by.
    ensure!(
        named.event.number("storm.threshold") == Some(60),
        "{}",
        named.event.brief()
    );
    stage.end_of(&named.event)?;
    fs::write(
        stage.home.path("portwatch.toml"),
        format!("{STORM}syn_flood_rate = 2000\n"),
    )?;
    stage.daemon.signal(Signal::HUP)?;
    std::thread::sleep(RELOAD * scale());
    place
        .actor
        .call(&format!("syns {} {RATE} {port}", RATE * SECONDS))?;
    std::thread::sleep(Duration::from_secs(2) * scale());
    let begun = stage.wrong(place.netns, place.actor.pid, &[]);
    ensure!(begun == ["syn-flood"], "below the new threshold: {begun:?}");
    Ok(Outcome::Done)
}

/// A flood from these senders: where the stream stood before it, and how it was named.
fn flood(stage: &Stage, place: &mut Place, network: &str) -> Result<(usize, Named)> {
    let start = (stage.watch.position(), Instant::now());
    let count = RATE * SECONDS;
    let port = place.port;
    place
        .actor
        .call(&format!("syns {count} {RATE} {port} {network} {SENDERS}"))?;
    let netns = place.netns;
    let named = stage.storm(start, "syn-flood", |event| {
        event.number("storm.netns") == Some(netns)
            && event.number("socket.port") == Some(port.into())
    })?;
    Ok((start.0, named))
}

/// Are floods seen with whom they come from?
fn sees_floods(stage: &Stage) -> Result<bool> {
    Ok(stage.mechanism("tcp.syn")? != "reconcile")
}

/// Everybody whom the hour has room for: each is blocked when enough of his SYNs were sampled. And the last order.
fn all_blocked(stage: &Stage, after: usize) -> Result<(BTreeSet<String>, Event)> {
    let (mut blocked, mut after) = (BTreeSet::new(), after);
    loop {
        let told = response(stage, after, "block")?;
        after = told.index + 1;
        blocked.extend(prefixes(&told));
        if blocked.len() >= PER_HOUR {
            return Ok((blocked, told));
        }
    }
}

/// The next response of this action.
fn response(stage: &Stage, after: usize, action: &str) -> Result<Event> {
    let told = stage.watch.next_after(after, PATIENCE, |event| {
        event.kind() == "storm.response" && event.at("response.action") == action
    });
    told.with_context(|| {
        let all = stage.watch.all(|event| event.kind().starts_with("storm"));
        let all: Vec<String> = all.iter().map(Event::brief).collect();
        format!("no response {action}: {all:?}")
    })
}

fn prefixes(event: &Event) -> BTreeSet<String> {
    let all = event
        .at("response.prefixes")
        .as_array()
        .into_iter()
        .flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Runs nft in the namespace of this thread: what it says, or what it complains of.
fn run(nft: &Path, args: &[&str], input: &str) -> Result<Result<String, String>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("input");
    fs::write(&file, input)?;
    let output = Command::new(nft)
        .args(args)
        .stdin(fs::File::open(&file)?)
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(output.status.success().then_some(told).ok_or(complaint))
}

/// Addresses of a listed set, each with its timeout in seconds.
fn elements(told: &Result<String, String>) -> Result<BTreeSet<(String, u64)>> {
    let told = told
        .as_ref()
        .map_err(|told| anyhow::anyhow!("nft: {told}"))?;
    let listed: Value = serde_json::from_str(told)?;
    let sets = listed["nftables"].as_array().into_iter().flatten();
    let elements = sets
        .filter_map(|one| one["set"]["elem"].as_array())
        .flatten();
    elements
        .map(|element| {
            let element = &element["elem"];
            let address = element["val"].as_str().context("no address")?;
            let timeout = element["timeout"].as_u64().context("no timeout")?;
            Ok((address.to_owned(), timeout))
        })
        .collect()
}
