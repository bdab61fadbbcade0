//! The actor's commands on sockets.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};

use super::{Outcome, Slots, number, slot};
use crate::address::{Address, unhex};
use crate::sys::{self, uring};

/// `IPPROTO_*` numbers differ from socket levels only in name.
const NO_PORT: (i32, i32) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
const REUSEADDR: (i32, i32) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
const REUSEPORT: (i32, i32) = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
const V6ONLY: (i32, i32) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);

pub(super) fn obey(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    match verb {
        "socket" => return open_slot(words, slots),
        "open" => return open_many(words, slots),
        "open-path" => return open_path(words, slots),
        "accept" | "dup" => return second_slot(verb, words, slots),
        "close" => {
            let name = words.first().context("close SLOT")?;
            slots
                .remove(*name)
                .with_context(|| format!("slot {name} is empty"))?;
            return Ok(Outcome::default());
        }
        _ => {}
    }
    let fd = slot(slots, words)?;
    match verb {
        "bind" => sys::bind(fd, &address(words, 1)?)?,
        "listen" => rustix::net::listen(fd, number(words, 1)?).map_err(io::Error::from)?,
        "connect" => sys::connect(fd, &address(words, 1)?)?,
        "connect-deaf" => connect_deaf(fd, &address(words, 1)?)?,
        "hear" => sys::set_option(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)?,
        "send" => sys::send_to(fd, &address(words, 1)?)?,
        "drain" => drain(fd)?,
        "shutdown" => {
            rustix::net::shutdown(fd, rustix::net::Shutdown::Both).map_err(io::Error::from)?;
        }
        "set" => {
            let (level, name) = match words.get(1).copied().unwrap_or_default() {
                "reuseaddr" => REUSEADDR,
                "reuseport" => REUSEPORT,
                "v6only" => V6ONLY,
                "no-port" => NO_PORT,
                other => bail!("no option {other:?}"),
            };
            sys::set_option(fd, level, name, number(words, 2)?)?;
        }
        "name" => {
            let name = Address::from_sockaddr(&sys::local_name(fd)?)?;
            return Ok(Outcome::facts([("address", name.to_string())]));
        }
        "cookie" => {
            let cookie = rustix::net::sockopt::socket_cookie(fd).map_err(io::Error::from)?;
            return Ok(Outcome::facts([("cookie", cookie.to_string())]));
        }
        "uring-bind" => uring::bind(fd, &address(words, 1)?, words.get(2) == Some(&"sqpoll"))?,
        "uring-listen" => uring::listen(fd, number(words, 1)?, words.get(2) == Some(&"sqpoll"))?,
        other => bail!("no command {other:?}"),
    }
    Ok(Outcome::default())
}

/// `socket SLOT DOMAIN TYPE PROTOCOL`.
fn open_slot(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let name = words.first().context("socket SLOT …")?;
    let fd = sys::socket(number(words, 1)?, number(words, 2)?, number(words, 3)?)?;
    let outcome = describe(std::os::fd::AsFd::as_fd(&fd))?;
    slots.insert((*name).to_owned(), fd);
    Ok(outcome)
}

/// `connect-deaf SLOT ADDRESS`: sends its SYN and hears no answer, until `hear SLOT`: the connection
/// stays half-open at the other end.
fn connect_deaf(fd: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    sys::drop_incoming(fd)?;
    rustix::io::ioctl_fionbio(fd, true).map_err(io::Error::from)?;
    match sys::connect(fd, address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => bail!("connected at once, although no answer could be heard"),
    }
}

/// `open-path SLOT HEX`: the path with `O_PATH`, which opens what lies there without touching it.
fn open_path(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let name = words.first().context("open-path SLOT HEX")?;
    let path = unhex(words.get(1).context("open-path SLOT HEX")?)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_slice(), flags, rustix::fs::Mode::empty())
        .map_err(io::Error::from)?;
    let inode = rustix::fs::fstat(&fd).map_err(io::Error::from)?.st_ino;
    let outcome = Outcome::facts([
        ("fd", fd.as_raw_fd().to_string()),
        ("inode", inode.to_string()),
    ]);
    slots.insert((*name).to_owned(), fd);
    Ok(outcome)
}

/// `open COUNT PREFIX`: that many TCP listeners on loopback, kept; answers with their inodes.
fn open_many(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let count: usize = number(words, 0)?;
    let prefix = words.get(1).context("open COUNT PREFIX")?;
    let loopback = Address::inet("127.0.0.1:0")?.to_sockaddr();
    let mut inodes = Vec::with_capacity(count);
    for at in 0..count {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        sys::bind(std::os::fd::AsFd::as_fd(&fd), &loopback)?;
        rustix::net::listen(&fd, 1).map_err(io::Error::from)?;
        inodes.push(inode_of(std::os::fd::AsFd::as_fd(&fd))?.to_string());
        slots.insert(format!("{prefix}{at}"), fd);
    }
    Ok(Outcome::facts([("inodes", inodes.join(","))]))
}

/// `drain SLOT`: reads until the peer has ended its half, so that what comes next comes after that.
fn drain(fd: BorrowedFd<'_>) -> Result<()> {
    let mut buffer = [0_u8; 4096];
    while rustix::io::read(fd, &mut buffer).map_err(io::Error::from)? > 0 {}
    Ok(())
}

/// `accept SLOT NEW` and `dup SLOT NEW`.
fn second_slot(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let fd = slot(slots, words)?;
    let name = words.get(1).context("the new slot's name is missing")?;
    let new: OwnedFd = if verb == "accept" {
        rustix::net::accept(fd).map_err(io::Error::from)?
    } else {
        fd.try_clone_to_owned()?
    };
    let outcome = describe(std::os::fd::AsFd::as_fd(&new))?;
    slots.insert((*name).to_owned(), new);
    Ok(outcome)
}

/// What `/proc` says of the socket: the truth that events are held against.
fn describe(fd: BorrowedFd<'_>) -> Result<Outcome> {
    let netns = namespace_inode("/proc/thread-self/ns/net")?;
    Ok(Outcome::facts([
        ("fd", fd.as_raw_fd().to_string()),
        ("inode", inode_of(fd)?.to_string()),
        ("netns", netns.to_string()),
    ]))
}

/// The inode in `socket:[N]`.
pub(super) fn inode_of(fd: BorrowedFd<'_>) -> Result<u64> {
    let target = fs::read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()))?;
    bracketed(&target.to_string_lossy())
}

/// The inode of a namespace file, from its `net:[N]`.
pub(super) fn namespace_inode(path: &str) -> Result<u64> {
    bracketed(&fs::read_link(path)?.to_string_lossy())
}

fn bracketed(text: &str) -> Result<u64> {
    let number = text
        .split_once('[')
        .and_then(|(_, rest)| rest.strip_suffix(']'));
    number
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("{text:?} has no inode"))
}

fn address(words: &[&str], at: usize) -> Result<Vec<u8>> {
    let word = words.get(at).context("an address is missing")?;
    Ok(word.parse::<Address>()?.to_sockaddr())
}
