//! The actor: a process with an identity of its own that does what it is told, one line at a time.
//!
//! It has named slots for sockets. A command is a line of words; the answer is `ok key=value …` or
//! `err ERRNO command`. The channel is descriptor 0, so that an image that replaces this one (`exec`)
//! goes on with the same conversation.

mod life;
mod packets;
mod pour;
mod race;
mod socket;
mod storm;
mod traffic;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::channel::Channel;
use crate::sys;

/// Sockets by name.
type Slots = BTreeMap<String, OwnedFd>;

/// What a command produced: facts for the `ok` line, a descriptor to send along, or the end.
#[derive(Debug, Default)]
struct Outcome {
    facts: Vec<(&'static str, String)>,
    passenger: Option<String>,
    last: bool,
}

impl Outcome {
    fn facts<const N: usize>(facts: [(&'static str, String); N]) -> Self {
        Self {
            facts: facts.into(),
            ..Self::default()
        }
    }
}

/// Runs the actor with its command line (without the program's own name).
///
/// - `serve TOKEN …`: obeys the channel on descriptor 0. The token only marks the arguments, as does
///   whatever follows it.
/// - `resume TOKEN SLOT=FD…`: what `exec` becomes; says `ok`, then serves with these slots.
/// - `chain DEPTH TOKEN`: starts itself DEPTH times below itself, the last one serves.
/// - `blink TOKEN`: opens a TCP listener, closes it and ends.
/// - `threads COUNT TOKEN`: a TCP server with that many accepting threads, until descriptor 0 closes.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("actor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<()> {
    let word = |at: usize| {
        args.get(at)
            .and_then(|arg| arg.to_str())
            .unwrap_or_default()
    };
    match word(0) {
        "serve" => serve(channel()?, Slots::new()),
        "resume" => {
            let slots = inherit(args.get(2..).unwrap_or_default())?;
            let channel = channel()?;
            channel.send("ok", None)?;
            serve(channel, slots)
        }
        "chain" => life::chain(word(1).parse().context("chain DEPTH TOKEN")?, word(2)),
        "blink" => blink(),
        "threads" => life::threaded_server(word(1).parse().context("threads COUNT TOKEN")?),
        other => bail!("{other:?} is not one of serve, resume, chain, blink, threads"),
    }
}

/// As short a life as a listener can have.
fn blink() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    drop(listener);
    Ok(())
}

/// The conversation on descriptor 0.
fn channel() -> Result<Channel> {
    let stream = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("no channel on descriptor 0")?;
    Ok(Channel::new(UnixStream::from(stream)))
}

fn serve(mut channel: Channel, mut slots: Slots) -> Result<()> {
    sys::raise_descriptor_limit().context("cannot raise the limit of descriptors")?;
    while let Some(line) = channel.receive()? {
        let words: Vec<&str> = line.split(' ').collect();
        if words.first() == Some(&"take") {
            let name = words.get(1).context("take SLOT")?;
            let fd = channel
                .take_descriptor()
                .context("no descriptor came with `take`")?;
            slots.insert((*name).to_owned(), fd);
            channel.send("ok", None)?;
            continue;
        }
        match obey(&words, &mut slots) {
            Ok(outcome) => {
                let facts: String = outcome
                    .facts
                    .iter()
                    .map(|(key, value)| format!(" {key}={value}"))
                    .collect();
                let passenger = outcome.passenger.and_then(|name| slots.get(&name));
                channel.send(&format!("ok{facts}"), passenger.map(OwnedFd::as_fd))?;
                if outcome.last {
                    return Ok(());
                }
            }
            Err(error) => {
                let name = error
                    .downcast_ref::<io::Error>()
                    .map_or_else(|| "fault".to_owned(), sys::errno_name);
                let told = format!("err {name} {line}: {error:#}").replace('\n', " ");
                channel.send(&told, None)?;
            }
        }
    }
    Ok(())
}

fn obey(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (verb, rest) = words.split_first().context("an empty line")?;
    match *verb {
        "thread" => in_thread(rest, slots),
        "socket" | "set" | "bind" | "listen" | "name" | "cookie" | "connect" | "accept"
        | "send" | "drain" | "shutdown" | "dup" | "close" | "open" | "open-path"
        | "connect-deaf" | "hear" | "uring-bind" | "uring-listen" => {
            socket::obey(verb, rest, slots)
        }
        "pour" => pour::pour(rest),
        "race-address" | "race-descriptor" => race::obey(verb, rest, slots),
        "pass" => Ok(Outcome {
            passenger: Some((*rest.first().context("pass SLOT")?).to_owned()),
            ..Outcome::default()
        }),
        "renaming" | "exec-storm" | "flood" | "reuse" | "bomb" | "listeners" => {
            storm::obey(verb, rest, slots)
        }
        "senders" | "address" | "syns" | "blast" | "probe" | "knocks" | "crowd" | "leave"
        | "sysctl" => packets::obey(verb, rest, slots),
        "churn" | "refuse" | "reset" | "fill" | "half-send" | "mib" => {
            traffic::obey(verb, rest, slots)
        }
        _ => life::obey(verb, rest, slots),
    }
}

/// Obeys on a thread that is not the leader, and says which.
fn in_thread(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut outcome = obey(words, slots)?;
            let tid = rustix::thread::gettid().as_raw_nonzero().to_string();
            outcome.facts.push(("tid", tid));
            Ok(outcome)
        });
        thread
            .join()
            .unwrap_or_else(|_| bail!("the thread panicked"))
    })
}

/// Slots that an image before this one left open: `NAME=FD`.
fn inherit(words: &[OsString]) -> Result<Slots> {
    let mut slots = Slots::new();
    for word in words {
        let text = word.to_str().context("SLOT=FD")?;
        let (name, fd) = text.split_once('=').context("SLOT=FD")?;
        let fd: i32 = fd.parse().context("SLOT=FD")?;
        slots.insert(name.to_owned(), sys::inherited(fd)?);
    }
    Ok(slots)
}

/// The socket in a slot.
fn slot<'a>(slots: &'a Slots, words: &[&str]) -> Result<BorrowedFd<'a>> {
    let name = words.first().context("a slot's name is missing")?;
    Ok(slots
        .get(*name)
        .with_context(|| format!("slot {name} is empty"))?
        .as_fd())
}

/// The word at this place, parsed.
fn number<T: std::str::FromStr>(words: &[&str], at: usize) -> Result<T> {
    let word = words
        .get(at)
        .with_context(|| format!("word {at} is missing"))?;
    word.parse()
        .ok()
        .with_context(|| format!("{word:?} is no number"))
}
