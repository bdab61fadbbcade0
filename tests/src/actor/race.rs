//! The actor's races: another thread changes what a system call was given while the call runs.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use anyhow::{Context as _, Result, bail};

use super::socket::inode_of;
use super::{Outcome, Slots, number};
use crate::address::Address;
use crate::sys;

pub(super) fn obey(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    match verb {
        "race-address" => address(words, slots),
        "race-descriptor" => descriptor(words, slots),
        other => bail!("no race {other:?}"),
    }
}

/// `race-address COUNT PREFIX ADDRESS ADDRESS`: that many UDP sockets, each bound to a buffer in which
/// another thread writes one address and the other in turn. Answers with their inodes and the ports
/// that they got.
fn address(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (count, prefix) = count_and_prefix(words)?;
    let addresses = [parsed(words, 2)?, parsed(words, 3)?];
    let buffer: Vec<AtomicU8> = addresses[0].iter().copied().map(AtomicU8::new).collect();
    let write = |address: &[u8]| {
        for (place, &byte) in buffer.iter().zip(address) {
            place.store(byte, Ordering::Relaxed);
        }
    };
    let mut told = Vec::with_capacity(count);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                addresses.iter().for_each(|address| write(address));
            }
        });
        let bound = (0..count).try_for_each(|at| -> Result<()> {
            let fd = shareable(libc::AF_INET, libc::SOCK_DGRAM)?;
            sys::bind_shared(fd.as_fd(), &buffer)?;
            told.push((inode_of(fd.as_fd())?, port(fd.as_fd())?));
            slots.insert(format!("{prefix}{at}"), fd);
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        bound
    })?;
    Ok(Outcome::facts([
        ("inodes", list(told.iter().map(|(inode, _)| *inode))),
        ("ports", list(told.iter().map(|(_, port)| u64::from(*port)))),
    ]))
}

/// `race-descriptor COUNT PREFIX CALL DOMAIN TYPE ADDRESS`: that many times, two sockets take turns at one
/// descriptor while CALL (`bind`, or `listen` after both were bound) is made on it. Answers with the
/// inodes of those on which the kernel did it (`done`), and of those on which it did not (`spared`).
fn descriptor(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (count, prefix) = count_and_prefix(words)?;
    let listens = words.get(2) == Some(&"listen");
    let (domain, kind): (i32, i32) = (number(words, 3)?, number(words, 4)?);
    let address = parsed(words, 5)?;
    let (mut done, mut spared) = (Vec::new(), Vec::new());
    for at in 0..count {
        let pair = [shareable(domain, kind)?, shareable(domain, kind)?];
        if listens {
            for fd in &pair {
                sys::bind(fd.as_fd(), &address)?;
            }
        }
        let place = pair[0].try_clone()?;
        while_swapped(&pair, &place, || {
            if listens {
                rustix::net::listen(&place, 1).map_err(io::Error::from)
            } else {
                sys::bind(place.as_fd(), &address)
            }
        })?;
        for (fd, name) in pair.into_iter().zip(["a", "b"]) {
            let hit = if listens {
                rustix::net::sockopt::socket_acceptconn(&fd).map_err(io::Error::from)?
            } else {
                port(fd.as_fd())? != 0
            };
            let inode = inode_of(fd.as_fd())?;
            if hit { &mut done } else { &mut spared }.push(inode);
            slots.insert(format!("{prefix}{at}{name}"), fd);
        }
    }
    Ok(Outcome::facts([
        ("done", list(done.into_iter())),
        ("spared", list(spared.into_iter())),
    ]))
}

/// Makes the call while another thread puts the two at the descriptor in turn.
fn while_swapped(
    pair: &[OwnedFd; 2],
    place: &OwnedFd,
    call: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    let (started, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| -> io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                for fd in pair {
                    sys::replace(fd.as_fd(), place.as_fd())?;
                }
                started.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
        while !started.load(Ordering::Relaxed) && !swapping.is_finished() {
            std::thread::yield_now();
        }
        let called = call();
        stop.store(true, Ordering::Relaxed);
        let swapped = swapping
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the swapping thread panicked")));
        swapped.and(called).context("the race itself failed")
    })
}

/// A socket that shares its address with others, where its family knows such a thing.
fn shareable(domain: i32, kind: i32) -> Result<OwnedFd> {
    let fd = sys::socket(domain, kind, 0)?;
    if domain != libc::AF_UNIX {
        sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    Ok(fd)
}

/// The port, 0 while it is not bound.
fn port(fd: BorrowedFd<'_>) -> Result<u16> {
    let name = Address::from_sockaddr(&sys::local_name(fd)?)?;
    name.port().context("not an inet socket")
}

fn count_and_prefix<'a>(words: &[&'a str]) -> Result<(usize, &'a str)> {
    let prefix = words.get(1).context("COUNT PREFIX …")?;
    Ok((number(words, 0)?, prefix))
}

fn parsed(words: &[&str], at: usize) -> Result<Vec<u8>> {
    let word = words.get(at).context("an address is missing")?;
    Ok(word.parse::<Address>()?.to_sockaddr())
}

fn list(numbers: impl Iterator<Item = u64>) -> String {
    let words: Vec<String> = numbers.map(|number| number.to_string()).collect();
    words.join(",")
}
