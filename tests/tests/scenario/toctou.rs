//! What a system call was given changes while the call runs: told is what the kernel did, not what it was
//! asked for when somebody looked.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use portwatch_tests::harness::program::{free_tcp_port, free_udp_port};
use portwatch_tests::harness::trigger::Answer;
use portwatch_tests::harness::{Actor, Context, Kind, Watch};

use super::scenarios;

scenarios!("toctou":
    rewritten_address, swapped_descriptor_at_bind, swapped_descriptor_at_listen,
    swapped_descriptor_at_unix_listen,
);

/// Enough for the call to be hit dozens of times on two processors.
const ROUNDS: usize = 100;
/// For looking again: what a swap hid from the tracepoints is found then.
const PATIENCE: Duration = Duration::from_secs(15);

/// A thread writes two addresses in turn into the buffer that `bind` reads.
fn rewritten_address(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start("toctou-address")?;
    let (one, other) = (free_udp_port()?, free_udp_port()?);
    let answer = actor.call(&format!(
        "race-address {ROUNDS} a 127.0.0.1:{one} 127.0.0.1:{other}"
    ))?;
    let (inodes, ports) = (numbers(&answer, "inodes")?, numbers(&answer, "ports")?);
    let told = told(watch, &actor, inodes.len());
    for (inode, port) in inodes.iter().zip(&ports) {
        match told.iter().find(|(told, _)| told == inode) {
            Some((_, Some(told))) if told == port => {}
            other => bail!("socket {inode} has port {port}, told is {other:?}"),
        }
    }
    ensure!(told.len() == ROUNDS, "{} told of {ROUNDS}", told.len());
    Ok(())
}

fn swapped_descriptor_at_bind(context: &Context) -> Result<()> {
    let address = format!("127.0.0.1:{}", free_udp_port()?);
    swapped(context, "bind", Kind::UDP4, &address)
}

fn swapped_descriptor_at_listen(context: &Context) -> Result<()> {
    let address = format!("127.0.0.1:{}", free_tcp_port()?);
    swapped(context, "listen", Kind::TCP4, &address)
}

/// Bound to the family alone, so that every socket has a name of its own.
fn swapped_descriptor_at_unix_listen(context: &Context) -> Result<()> {
    swapped(context, "listen", Kind::UNIX_STREAM, "unix:")
}

/// Two sockets take turns at the descriptor: the one that the kernel took is told, the other never.
fn swapped(context: &Context, call: &str, kind: Kind, address: &str) -> Result<()> {
    let watch = context.watch()?;
    let mut actor = Actor::start(&format!("toctou-{call}-{}", kind.protocol))?;
    let (domain, number, _) = kind.numbers;
    let answer = actor.call(&format!(
        "race-descriptor {ROUNDS} d {call} {domain} {number} {address}"
    ))?;
    let (done, spared) = (numbers(&answer, "done")?, numbers(&answer, "spared")?);
    ensure!(
        done.len() == ROUNDS && spared.len() == ROUNDS,
        "the trigger went wrong: {} done, {} spared",
        done.len(),
        spared.len()
    );
    let told = told(watch, &actor, ROUNDS);
    watch.absent(
        "listener that the kernel did not make",
        kind.opening,
        0,
        |event| event.is_opening() && spared.iter().any(|&inode| event.has_inode(inode)),
    )?;
    let told: BTreeSet<u64> = told.into_iter().map(|(inode, _)| inode).collect();
    let missing = done.iter().filter(|inode| !told.contains(inode)).count();
    ensure!(
        missing == 0,
        "{missing} of {ROUNDS} listeners were not told"
    );
    Ok(())
}

/// Inodes and ports of the actor's listeners, once this many are told or looking again is over.
fn told(watch: &Watch, actor: &Actor, count: usize) -> Vec<(u64, Option<u64>)> {
    let events = watch.gather(count, PATIENCE, |event| {
        event.is_opening() && event.has_pid(actor.pid)
    });
    let pairs = events
        .iter()
        .filter_map(|event| Some((event.number("socket.inode")?, event.number("socket.port"))));
    pairs.collect()
}

fn numbers(answer: &Answer, key: &str) -> Result<Vec<u64>> {
    let words = answer.text(key)?.split(',').filter(|word| !word.is_empty());
    Ok(words.map(str::parse).collect::<Result<_, _>>()?)
}
