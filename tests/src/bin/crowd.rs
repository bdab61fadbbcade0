//! A crowd to hold something against: many listeners, connections or processes, or listeners that come and go.
//!
//! `listeners`, `sockets` and `processes` print `ready` when all are there, and hold them until the input ends.
//! Loopback only, bounded in count.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use portwatch_tests::sys::{self, Forked};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a process needs besides its listeners.
const SPARE: u64 = 64;
/// Ports of one address, below those that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Connections to one address: fewer than there are local ports.
const CLIENTS: u32 = 20_000;

/// Makes a crowd and holds it.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    crowd: Crowd,
}

/// What there is many of.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Crowd {
    /// TCP listeners on addresses of 127.77.0.0/16, in as few processes as the limit of descriptors permits.
    Listeners {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=200_000))]
        count: u32,
        /// Addresses and ports that others have already.
        #[arg(default_value_t = 0)]
        skip: u32,
    },
    /// Open TCP sockets, both ends of connections to addresses of 127.78.0.0/16, in as few processes as the limit of
    /// descriptors permits.
    Sockets {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u32).range(2..=200_000))]
        count: u32,
    },
    /// Processes that wait.
    Processes {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=30_000))]
        count: u32,
    },
    /// TCP listeners that one process opens and closes at once.
    Churn {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
        /// How many in a second.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().crowd {
        Crowd::Listeners { count, skip } => listeners(count, skip),
        Crowd::Sockets { count } => sockets(count),
        Crowd::Processes { count } => processes(count),
        Crowd::Churn { count, rate } => churn(count, rate),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Opens as many as one process may; others of this program open the rest.
fn listeners(count: u32, skip: u32) -> Result<()> {
    let most = descriptors()?;
    let here = count.min(u32::try_from(most).unwrap_or(u32::MAX));
    ensure!(
        here > 0,
        "the limit of descriptors leaves none for listeners"
    );
    let mut open = Vec::with_capacity(here as usize);
    for number in skip..skip + here {
        // Else the next process would have them too.
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let address = address(number)?;
        bind(&fd, &address).with_context(|| format!("cannot bind {address}"))?;
        listen(&fd, 1).with_context(|| format!("cannot listen on {address}"))?;
        open.push(fd);
    }
    let others = match count - here {
        0 => None,
        rest => Some(Others::start(&[
            "listeners",
            &rest.to_string(),
            &(skip + here).to_string(),
        ])?),
    };
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(others);
    Ok(())
}

/// Raises the limit of descriptors as far as may be: how many are left for the crowd.
fn descriptors() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of descriptors")?;
    Ok(limit.maximum.unwrap_or(u64::MAX).saturating_sub(SPARE))
}

/// Connections, each with both its ends. They end by a reset, so that none is left in TIME_WAIT. As many as one process
/// may have; others of this program open the rest.
fn sockets(count: u32) -> Result<()> {
    let most = descriptors()?;
    let here = count.min(u32::try_from(most).unwrap_or(u32::MAX)) / 2 * 2;
    ensure!(
        here > 0,
        "the limit of descriptors leaves none for connections"
    );
    let mut open = Vec::with_capacity(here as usize / 2);
    let mut listener = None;
    for number in 0..here / 2 {
        if number % CLIENTS == 0 {
            let host = u8::try_from(number / CLIENTS + 1).context("too many sockets")?;
            let address = Ipv4Addr::new(127, 78, 0, host);
            listener = Some(TcpListener::bind((address, 0)).context("cannot listen")?);
        }
        let listener = listener.as_ref().context("no listener")?;
        let near = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
        set_socket_linger(&near, Some(Duration::ZERO))?;
        let (far, _) = listener.accept().context("cannot accept")?;
        open.push((near, far));
    }
    drop(listener);
    let others = match count - here {
        0 | 1 => None,
        rest => Some(Others::start(&["sockets", &rest.to_string()])?),
    };
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(others);
    for (near, far) in open {
        // First the end that resets.
        drop(near);
        drop(far);
    }
    Ok(())
}

/// The rest of the crowd.
struct Others(Child);

impl Others {
    fn start(arguments: &[&str]) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start another process")?;
        let mut others = Self(child);
        let output = others.0.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "another process said {line:?}");
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Its status tells nothing any more.
        let _ = self.0.wait();
    }
}

/// Each number has an address and port of its own.
fn address(number: u32) -> Result<SocketAddrV4> {
    let ports = u32::from(PORTS.end - PORTS.start);
    let host = u8::try_from(number / ports + 1).context("too many listeners")?;
    let port = PORTS.start + u16::try_from(number % ports)?;
    Ok(SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, host), port))
}

fn processes(count: u32) -> Result<()> {
    for _ in 0..count {
        if sys::fork()? == Forked::Child {
            wait_for_the_end();
        }
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // The children see the same end, and nobody needs their status.
    Ok(())
}

/// Ends the process when its input hangs up.
fn wait_for_the_end() -> ! {
    let input = std::io::stdin();
    loop {
        // No event asked for: poll still reports the hang-up.
        let mut wait = [PollFd::new(&input, PollFlags::empty())];
        match poll(&mut wait, None) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => std::process::exit(0),
        }
    }
}

fn churn(count: u32, rate: u32) -> Result<()> {
    let distance = Duration::from_secs(1) / rate;
    let start = Instant::now();
    for number in 0..count {
        drop(TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?);
        let due = distance * (number + 1);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({"listeners": count, "seconds": seconds})
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::address;

    #[test]
    fn addresses_are_all_different_and_on_loopback() {
        let addresses: HashSet<_> = (0..200_000)
            .map(|number| address(number).expect("room"))
            .collect();
        assert_eq!(addresses.len(), 200_000);
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert!(address(u32::MAX).is_err());
    }
}
