//! Floods that any user can make: of new images, of processes, of listeners. What listens meanwhile is
//! told, and rightly; what is lost is told to be lost.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use portwatch_tests::address::hex;
use portwatch_tests::harness::cgroup::Group;
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{
    Actor, Capability, Context, Event, Kind, Outcome, Sees, Watch, locate, tiny,
};
use serde_json::{Value, json};

use super::scenarios;

scenarios!(alone "storm": new_images, fork_bomb, listeners, preempted_probe);

/// How long a storm blows, in milliseconds.
const MILLIS: u32 = 2_500;
const PATIENCE: Duration = Duration::from_secs(20);
/// Listeners that one task opens, a millisecond between them, and another one at a time beside it.
const PREEMPTING: usize = 300;
const PREEMPTED: usize = 100;
/// Most processes of the fork bomb at once.
const BOMB_PIDS: u32 = 200;
/// How much the daemon may grow by a storm, in KiB: the table of processes is bounded by 8 MiB, and what
/// was freed in between need not go back to the system at once.
const GROWTH_KIB: u64 = 24 * 1024;

/// Programs start as fast as the machine can start them; processes that open listeners replace their
/// own image in the middle of it.
fn new_images(context: &Context) -> Result<Outcome> {
    let watch = context.fresh(&[])?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let program = folder.join("tiny");
    tiny::write(&program)?;
    let copy = folder.join("another");
    fs::copy(locate::actor()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let mut storm = Actor::start("storm-exec")?;
    let command = format!(
        "exec-storm {MILLIS} {}",
        hex(program.as_os_str().as_encoded_bytes())
    );
    let mut names = Vec::new();
    let started: u64 = while_blowing(&mut storm, &command, |round| {
        // The parent has another image than the one it was started with: its record may be lost.
        let mut actor = Actor::start(&format!("storm-before-{round}"))?;
        actor.exec_as(&copy, &format!("storm-after-{round}"))?;
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
        let prefix = format!("storm-blink-{round}");
        actor.call(&format!("blink 5 {prefix} 2"))?;
        names.push((actor, sock, prefix));
        Ok(())
    })?
    .number("count")?;
    ensure!(
        started > 100,
        "the trigger went wrong: {started} programs started"
    );
    let short_lived = watch.rung().sees(Capability::ShortLived) == Sees::Exactly;
    for (actor, sock, prefix) in &names {
        watch.opened(actor, sock, json!({}))?;
        for at in (0..5).filter(|_| short_lived) {
            let token = format!("{prefix}-{at}");
            let told = watch.next_after(0, PATIENCE, |event| {
                event.is_opening() && event.has_argument(&token)
            });
            let opened = told.with_context(|| format!("{token} was not told"))?;
            demand_all(
                &opened,
                &json!({"process.exe": actor.exe, "process.ppid": actor.pid}),
            )?;
            let parent = opened.at("process.ancestors").get(0).cloned();
            let parent = parent.unwrap_or_default();
            // What is not certain may be left out; what is said must be so.
            let exe = parent.get("exe").and_then(|exe| exe.as_str());
            ensure!(
                exe.is_none_or(|exe| exe == actor.exe),
                "the parent runs {}: {}",
                actor.exe,
                opened.value()
            );
            ensure!(
                parent.get("name") == Some(&json!("another")),
                "the parent is `another`: {}",
                opened.value()
            );
        }
    }
    let is_theirs = |event: &Event| {
        let probe = event.text("gap.probe");
        event.text("gap.ring") == "process"
            || ["exec_", "fork_", "exit_"]
                .iter()
                .any(|start| probe.starts_with(start))
    };
    let elsewhere = watch.all(|event| event.kind() == "gap" && !is_theirs(event));
    ensure!(
        elsewhere.is_empty(),
        "a storm of programs cost more than their own records: {:?}",
        elsewhere.first().map(Event::brief)
    );
    watch.interrupt()?;
    watch.check_stream()?;
    Ok(Outcome::Done)
}

/// Processes that fork without end, as many as a limit lets: listeners are told, memory is bounded.
fn fork_bomb(context: &Context) -> Result<Outcome> {
    let Some(group) = Group::with_pids("portwatch-test-bomb", BOMB_PIDS)? else {
        return Ok(Outcome::Skipped("nothing limits processes here".to_owned()));
    };
    let watch = context.fresh(&[])?;
    let before = memory(&watch)?;
    let mut bomb = Actor::start("storm-bomb")?;
    group.take(bomb.pid)?;
    let mut opened = Vec::new();
    let mut most = 0;
    while_blowing(&mut bomb, &format!("bomb {MILLIS}"), |round| {
        most = most.max(group.processes()?);
        let mut actor = Actor::start(&format!("storm-beside-{round}"))?;
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
        opened.push((actor, sock));
        Ok(())
    })?;
    // A slow machine may look while few live; what was refused is counted by the kernel.
    let refused = group.forks_refused()?;
    ensure!(
        refused > 0 && most <= BOMB_PIDS as usize,
        "the trigger went wrong: {most} processes at once, {refused} refused"
    );
    for (actor, sock) in &mut opened {
        watch.whole_life(actor, sock, json!({}))?;
    }
    let grown = memory(&watch)?.saturating_sub(before);
    ensure!(grown < GROWTH_KIB, "grown by {grown} KiB");
    watch.interrupt()?;
    watch.check_stream()?;
    Ok(Outcome::Done)
}

/// Listeners open and close on every processor, in one group; those of another group stay in sight, and
/// what was told and what was lost together are all.
fn listeners(context: &Context) -> Result<Outcome> {
    let (Some(noisy), Some(quiet)) = (
        Group::new("portwatch-test-noisy")?,
        Group::new("portwatch-test-quiet")?,
    ) else {
        return Ok(Outcome::Skipped("cgroup2 is not mounted".to_owned()));
    };
    let short_lived = context.fresh(&[])?.rung().sees(Capability::ShortLived);
    let home = Home::new()?;
    let _daemon = home.start(context.rung())?;
    let watch = home.tail(&[])?;
    let mut flood = Actor::start("storm-flood")?;
    noisy.take(flood.pid)?;
    let mut opened = Vec::new();
    let truth: u64 = while_blowing(&mut flood, &format!("flood {MILLIS}"), |round| {
        let mut actor = Actor::start(&format!("storm-quiet-{round}"))?;
        quiet.take(actor.pid)?;
        let sock = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
        opened.push((actor, sock));
        Ok(())
    })?
    .number("count")?;
    ensure!(truth > 50, "the trigger went wrong: {truth} listeners");
    // In sight: at once, or by the look that follows a loss.
    wait_until("the listeners of others are not in sight", || {
        let listed = list(&home)?;
        Ok(opened.iter().all(|(actor, sock)| {
            listed.iter().any(|event| {
                event.has_inode(sock.inode)
                    && event.has_pid(actor.pid)
                    && event.text("process.exe") == actor.exe
            })
        }))
    })?;
    if short_lived == Sees::No {
        return Ok(Outcome::Done);
    }
    // Once one that was opened later has arrived, so has everything that was told before.
    home.heard_by(&watch)?;
    let mine = |event: &Event| event.kind() == "listener.opened" && event.has_pid(flood.pid);
    let told = watch.all(mine);
    let gaps = || watch.all(|event| event.kind() == "gap");
    let mut lost = 0;
    let deadline = Instant::now() + PATIENCE * scale();
    while told.len() as u64 + lost < truth {
        ensure!(
            Instant::now() < deadline,
            "{} told and {lost} lost are not {truth}",
            told.len()
        );
        std::thread::sleep(Duration::from_millis(200));
        lost = gaps().iter().filter_map(|gap| gap.number("gap.lost")).sum();
    }
    judge_flood(&told, &flood)?;
    // What this reader itself was too slow for is nobody's fault.
    if gaps().iter().all(|gap| gap.text("gap.ring") != "client") {
        for (actor, sock) in &mut opened {
            let first = watch.opening_of(0, actor, sock, Sees::ByReconcile)?;
            actor.close(sock)?;
            watch.closed(sock, &first)?;
        }
    }
    Ok(Outcome::Done)
}

/// Trap `preempted_probe`: a task that runs before others opens listeners where another one opens some as
/// fast as it can, so that it often takes the processor away in the middle of a probe, which the kernel
/// then skips for whoever comes.
fn preempted_probe(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::ShortLived)? == Sees::No {
        return context.admits(Capability::ShortLived);
    }
    let watch = context.fresh(&[])?;
    let mut first = Actor::start("storm-first")?;
    let mut slow = Actor::start("storm-slow")?;
    let mut count = 0;
    let command = format!("listeners {PREEMPTING} 1000 realtime");
    while_blowing(&mut first, &command, |_| {
        slow.call(&format!("listeners {PREEMPTED} 0"))?;
        count += PREEMPTED;
        Ok(())
    })?;
    for (actor, count) in [(&first, PREEMPTING), (&slow, count)] {
        for kind in ["listener.opened", "listener.closed"] {
            let told = watch.gather(count, PATIENCE, |event| {
                event.kind() == kind && event.has_pid(actor.pid)
            });
            ensure!(
                told.len() == count,
                "{} of {count} {kind} of pid {} were told: {:?}",
                told.len(),
                actor.pid,
                gaps(&watch)
            );
        }
    }
    watch.interrupt()?;
    watch.check_stream()?;
    let complaints = watch.complaints();
    ensure!(!complaints.contains("spare probe"), "{complaints}");
    Ok(Outcome::Done)
}

/// What was told to be lost, and by what.
fn gaps(watch: &Watch) -> Vec<Value> {
    let all = watch.all(|event| event.kind() == "gap");
    all.iter().map(|gap| gap.at("gap").clone()).collect()
}

/// What `ls` shows.
fn list(home: &Home) -> Result<Vec<Event>> {
    let told = home.command()?.args(["ls", "-o", "json"]).output()?;
    ensure!(told.status.success(), "ls failed: {told:?}");
    let lines = told.stdout.split(|&byte| byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(at, line)| Event::parse(line, at, Instant::now()))
        .collect()
}

fn wait_until(otherwise: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE * scale();
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Each of them once, with the right owner.
fn judge_flood(told: &[Event], flood: &Actor) -> Result<()> {
    let mut seen = HashSet::new();
    for event in told {
        let inode = event.number("socket.inode");
        ensure!(seen.insert(inode), "told twice: {}", event.value());
        demand_all(
            event,
            &json!({"process.exe": flood.exe, "process.args": flood.args}),
        )?;
    }
    Ok(())
}

/// Does something again and again while an actor obeys a command; gives the actor's answer.
fn while_blowing(
    storm: &mut Actor,
    command: &str,
    mut beside: impl FnMut(u32) -> Result<()>,
) -> Result<portwatch_tests::harness::trigger::Answer> {
    std::thread::scope(|scope| {
        let blowing = scope.spawn(|| storm.call(command));
        let mut round = 0;
        while !blowing.is_finished() {
            beside(round)?;
            round += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        blowing.join().map_err(|_| anyhow!("the storm panicked"))?
    })
}

/// `RssAnon` of the watching portwatch, in KiB.
fn memory(watch: &Watch) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", watch.pid()))?;
    let facts: HashMap<&str, &str> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let rss = facts.get("RssAnon").context("no RssAnon")?;
    Ok(rss.trim().trim_end_matches(" kB").parse()?)
}
