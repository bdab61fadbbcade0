//! One check: connects to every target at once and is content with the first that answers, within a time.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::channel::Channel;
use super::exchange::{Exchange, LIMIT, Step, name};
use super::failure::reason;
use super::{Check, Failure, Order, TARGETS, Target, Transport, is_within_tls};

/// How long a server is given to hang up after all is said.
const FAREWELL: Duration = Duration::from_millis(500);

/// What is read of a server after it has answered, in pieces of [`LIMIT`], so that it does not get a reset.
const PIECES: usize = 16;

/// Makes the check. `lookups` bounds the names that are resolved at the same time: what resolves them cannot be
/// broken off.
pub(super) async fn ask(order: &Order, lookups: &Arc<Semaphore>) -> Result<Target, Failure> {
    let deadline = Instant::now() + order.check.timeout;
    let targets = resolved(order, deadline, lookups).await?;
    let mut asked = JoinSet::new();
    for (place, target) in targets.into_iter().take(TARGETS).enumerate() {
        let check = order.check.clone();
        asked.spawn(async move {
            let result = one(&check, &target, deadline).await;
            (place, target, result)
        });
    }
    let mut first: Option<(usize, Failure)> = None;
    while let Some(joined) = asked.join_next().await {
        let (place, failure) = match joined {
            // Those that still try are broken off.
            Ok((_, target, Ok(()))) => return Ok(answered(order, target)),
            Ok((place, _, Err(failure))) => (place, failure),
            Err(error) => (TARGETS, Failure::Unmade(error.to_string())),
        };
        // What could not be asked hides none that gave no answer.
        let rank = |(place, failure): &(usize, Failure)| (failure.is_ours(), *place);
        let failed = (place, failure);
        if first
            .as_ref()
            .is_none_or(|before| rank(&failed) < rank(before))
        {
            first = Some(failed);
        }
    }
    Err(first.map_or_else(
        || Failure::Unmade("there is nothing to connect to".to_owned()),
        |(_, failure)| failure,
    ))
}

/// A name stays a name: which of its addresses answered is of no interest.
fn answered(order: &Order, target: Target) -> Target {
    match order.targets.as_slice() {
        [named @ Target::Host { .. }] => named.clone(),
        _ => target,
    }
}

async fn resolved(
    order: &Order,
    deadline: Instant,
    lookups: &Arc<Semaphore>,
) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for target in &order.targets {
        match target {
            Target::Host {
                name,
                port,
                transport,
            } => {
                let found = timeout_at(deadline, look_up(name, *port, lookups)).await;
                let found = found.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
                let found = found.map_err(|error| Failure::Name(reason(&error)))?;
                let transport: Transport = *transport;
                targets.extend(
                    found
                        .into_iter()
                        .map(|address| Target::inet(address, transport)),
                );
            }
            known => targets.push(known.clone()),
        }
    }
    Ok(targets)
}

async fn look_up(name: &str, port: u16, lookups: &Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
    let permit = Arc::clone(lookups).acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let name = name.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // Held until the resolver is done, wanted or not.
        drop(permit);
        found.map(|found| found.take(TARGETS).collect::<Vec<_>>())
    });
    found.await.map_err(io::Error::other)?
}

async fn one(check: &Check, target: &Target, deadline: Instant) -> Result<(), Failure> {
    let opened = timeout_at(deadline, Channel::open(target)).await;
    let opened = opened.map_err(|_| Failure::Unconnected(check.timeout))?;
    let mut channel = opened.map_err(|error| match target {
        Target::Unix { .. } => Failure::connection(&error),
        _ => Failure::host(&error),
    })?;
    let silent = || Failure::Silent(check.timeout);
    if is_within_tls(check.protocol) {
        let name = name(check, target);
        let secured = timeout_at(deadline, channel.secure(&name)).await;
        let secured = secured.map_err(|_| silent())?;
        channel = secured.map_err(|error| Failure::tls(&error))?;
    }
    let mut exchange = Exchange::new(check, target, number());
    let conversed = timeout_at(
        deadline,
        converse(&mut channel, &mut exchange, check.timeout),
    )
    .await;
    conversed.map_err(|_| silent())??;
    // It has answered; what becomes of the farewell is its own affair.
    let _ = timeout(FAREWELL, leave(&mut channel)).await;
    Ok(())
}

async fn converse(
    channel: &mut Channel,
    exchange: &mut Exchange,
    patience: Duration,
) -> Result<(), Failure> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::HungUp,
        _ => Failure::connection(&error),
    };
    let mut buffer = [0; LIMIT];
    let mut step = exchange.begin();
    loop {
        let Step { say, verdict } = step;
        if !say.is_empty()
            && let Err(error) = channel.write(&say).await
        {
            // One that has answered well may hang up before our farewell.
            return verdict.unwrap_or_else(|| Err(broken(error)));
        }
        if let Some(verdict) = verdict {
            return verdict;
        }
        let room = exchange.room().min(buffer.len());
        let read = match channel.is_datagram() {
            false => channel.read(&mut buffer[..room]).await,
            // A datagram may be lost on its way.
            true => match timeout(patience / 2, channel.read(&mut buffer[..room])).await {
                Ok(read) => read,
                Err(_) => {
                    step = Step { say, verdict: None };
                    continue;
                }
            },
        };
        step = match read.map_err(broken)? {
            0 if !channel.is_datagram() => return exchange.end(),
            length => exchange.hear(buffer.get(..length).unwrap_or_default()),
        };
    }
}

/// Says that we are done and hears the rest, so that nobody's log tells of a broken connection.
async fn leave(channel: &mut Channel) -> io::Result<()> {
    if channel.is_datagram() {
        return Ok(());
    }
    channel.finish().await?;
    let mut buffer = [0; LIMIT];
    for _ in 0..PIECES {
        if channel.read(&mut buffer).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Hard to guess for one who would answer in a server's place.
fn number() -> u16 {
    let id = uuid::Uuid::now_v7();
    let [.., high, low] = *id.as_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
