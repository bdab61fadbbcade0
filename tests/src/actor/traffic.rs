//! The actor's commands that make connections at a rate: opened and closed, refused, reset, or left where nobody accepts
//! them. Bounded, and only in a network namespace of the actor's own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt::set_socket_linger,
};

use super::packets::MOST;
use super::{Outcome, Slots, number, slot};
use crate::sys;

/// Clients of one listener have addresses of its network, from this one on.
const FIRST_CLIENT: u8 = 10;

pub(super) fn obey(verb: &str, words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    match verb {
        "churn" => churn(words, slots),
        "refuse" => refuse(words),
        "reset" => reset(words, slots),
        "fill" => fill(words, slots),
        "half-send" => half_send(words, slots),
        "mib" => mib(words),
        other => bail!("no command {other:?}"),
    }
}

/// Packets or connections at a rate.
pub(super) struct Pace {
    start: Instant,
    rate: u32,
}

impl Pace {
    /// So many a second from now on; 0 is as fast as can be.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            start: Instant::now(),
            rate,
        }
    }

    /// Waits until the `nth` is due.
    pub(super) fn wait(&self, nth: u32) {
        if self.rate > 0 {
            let due = Duration::from_secs(1) * nth / self.rate;
            std::thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
    }

    /// What was made, and how long it took.
    pub(super) fn outcome(&self, made: u32) -> Outcome {
        Outcome::facts([
            ("made", made.to_string()),
            ("millis", self.start.elapsed().as_millis().to_string()),
        ])
    }
}

/// `churn COUNT RATE SLOT [CLIENTS]`: connections to the listener in the slot, so many a second, each accepted, and closed by
/// its client first. The clients have that many addresses of the listener's /24.
fn churn(words: &[&str], slots: &Slots) -> Result<Outcome> {
    let (count, rate): (u32, u32) = (number(words, 0)?, number(words, 1)?);
    ensure!(count <= MOST, "at most {MOST} connections");
    let listener = listener(slots, words.get(2..).unwrap_or_default())?;
    let clients: u8 = words.get(3).map_or(Ok(0), |_| number(words, 3))?;
    let SocketAddr::V4(to) = listener.local_addr()? else {
        bail!("only IPv4");
    };
    let pace = Pace::new(rate);
    for nth in 0..count {
        let client = match clients {
            0 => TcpStream::connect(to)?,
            _ => {
                let [a, b, c, _] = to.ip().octets();
                let host = FIRST_CLIENT + u8::try_from(nth % u32::from(clients))?;
                connect_from(Ipv4Addr::new(a, b, c, host), to)?
            }
        };
        let (server, _) = listener.accept()?;
        drop(client);
        drop(server);
        pace.wait(nth);
    }
    Ok(pace.outcome(count))
}

/// A connection from this address, with a local port that the kernel chooses as it does without one.
fn connect_from(address: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = stream(SocketFlags::CLOEXEC)?;
    sys::set_option(
        socket.as_fd(),
        libc::IPPROTO_IP,
        libc::IP_BIND_ADDRESS_NO_PORT,
        1,
    )?;
    bind(&socket, &SocketAddrV4::new(address, 0))?;
    connect(&socket, &to).map_err(io::Error::from)?;
    Ok(socket.into())
}

/// `refuse COUNT RATE PORT`: connects to a port of 127.0.0.1 where nobody listens.
fn refuse(words: &[&str]) -> Result<Outcome> {
    let (count, rate, port): (u32, u32, u16) =
        (number(words, 0)?, number(words, 1)?, number(words, 2)?);
    ensure!(count <= MOST, "at most {MOST} connections");
    let pace = Pace::new(rate);
    for nth in 0..count {
        ensure!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(),
            "somebody listens on {port}"
        );
        pace.wait(nth);
    }
    Ok(pace.outcome(count))
}

/// `reset FIRST COUNT PREFIX c|s RATE`: the clients or the servers of that many connections end them with a reset.
fn reset(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (first, count, rate): (u32, u32, u32) =
        (number(words, 0)?, number(words, 1)?, number(words, 4)?);
    let (Some(prefix), Some(side)) = (words.get(2), words.get(3)) else {
        bail!("reset FIRST COUNT PREFIX c|s RATE");
    };
    let pace = Pace::new(rate);
    for nth in 0..count {
        let socket = slots
            .remove(&format!("{prefix}{side}{}", first + nth))
            .context("no such connection")?;
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        drop(socket);
        pace.wait(nth);
    }
    Ok(pace.outcome(count))
}

/// `fill COUNT RATE SLOT PREFIX`: begins connections to the listener in the slot, which nobody accepts.
fn fill(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (count, rate): (u32, u32) = (number(words, 0)?, number(words, 1)?);
    ensure!(count <= MOST, "at most {MOST} connections");
    let prefix = words.get(3).context("fill COUNT RATE SLOT PREFIX")?;
    let to = listener(slots, words.get(2..).unwrap_or_default())?.local_addr()?;
    let pace = Pace::new(rate);
    for nth in 0..count {
        let socket = stream(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        match connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        slots.insert(format!("{prefix}c{nth}"), socket);
        pace.wait(nth);
    }
    Ok(pace.outcome(count))
}

/// `half-send COUNT RATE PORT PREFIX`: that many clients of a web server on 127.0.0.1 that begin a request and do not end it.
fn half_send(words: &[&str], slots: &mut Slots) -> Result<Outcome> {
    let (count, rate, port): (u32, u32, u16) =
        (number(words, 0)?, number(words, 1)?, number(words, 2)?);
    ensure!(count <= MOST, "at most {MOST} connections");
    let prefix = words.get(3).context("half-send COUNT RATE PORT PREFIX")?;
    let pace = Pace::new(rate);
    for nth in 0..count {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: x\r\nX-a: b\r\n")?;
        slots.insert(format!("{prefix}c{nth}"), client.into());
        pace.wait(nth);
    }
    Ok(pace.outcome(count))
}

/// `mib NAME`: a counter of TcpExt, of this namespace, as the kernel keeps it.
fn mib(words: &[&str]) -> Result<Outcome> {
    let name = words.first().context("mib NAME")?;
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (
        lines.next().context("no TcpExt")?,
        lines.next().context("no TcpExt")?,
    );
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, value) = both
        .find(|(known, _)| known == name)
        .with_context(|| format!("no counter {name}"))?;
    Ok(Outcome::facts([("value", value.to_owned())]))
}

fn stream(flags: SocketFlags) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
    Ok(socket.map_err(io::Error::from)?)
}

fn listener(slots: &Slots, words: &[&str]) -> Result<TcpListener> {
    Ok(TcpListener::from(slot(slots, words)?.try_clone_to_owned()?))
}
