//! What a scenario demands of the events about one socket of one actor.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::event::Event;
use super::kind::{Kind, Sock};
use super::program::free_udp_port;
use super::rungs::{Capability, Sees};
use super::trigger::{Actor, own_inode};
use super::watch::Watch;
use crate::{address::Address, sys};

impl Watch {
    /// The opening of this socket by this actor: exactly who and what; `socket` are the members of the
    /// event's `socket` that this scenario is about (`null`: must be absent).
    ///
    /// # Errors
    /// It did not come, or something in it is wrong; lists everything that is.
    pub fn opened(&self, actor: &Actor, sock: &Sock, socket: Value) -> Result<Event> {
        self.opened_after(0, actor, sock, socket)
    }

    /// The same, not before this place in the stream.
    ///
    /// # Errors
    /// As [`Watch::opened`].
    pub fn opened_after(
        &self,
        after: usize,
        actor: &Actor,
        sock: &Sock,
        socket: Value,
    ) -> Result<Event> {
        let event = self.opening_of(after, actor, sock, self.sees(sock.kind.opening))?;
        demand(&event, &with_prefix("socket", &socket))?;
        demand(&event, &identity(actor))?;
        demand(&event, &nature(sock))?;
        Ok(event)
    }

    /// The opening of this socket, only seen as exactly as this; nothing but the inode is judged.
    ///
    /// # Errors
    /// It did not come.
    pub fn opening_of(
        &self,
        after: usize,
        actor: &Actor,
        sock: &Sock,
        sees: Sees,
    ) -> Result<Event> {
        let what = format!(
            "opening of {} socket {} by pid {}",
            sock.kind.protocol, sock.inode, actor.pid
        );
        self.expect(
            &what,
            sees,
            after,
            |event| event.has_inode(sock.inode) || event.has_pid(actor.pid),
            |event| {
                event.has_inode(sock.inode)
                    && match sees {
                        Sees::Exactly => event.kind() == "listener.opened",
                        Sees::ByReconcile | Sees::No => event.is_opening(),
                    }
            },
        )
    }

    /// The closing that belongs to this opening: the same socket, once, and how long it was open.
    ///
    /// # Errors
    /// It did not come, or something in it is wrong.
    pub fn closed(&self, sock: &Sock, opened: &Event) -> Result<Event> {
        let sees = self.sees(sock.kind.closing);
        let about = |event: &Event| event.has_inode(sock.inode);
        let what = format!("closing of {} socket {}", sock.kind.protocol, sock.inode);
        let closed = self.expect(&what, sees, opened.index + 1, about, |event| {
            about(event) && event.kind() == "listener.closed"
        })?;
        let again = self.all(|event| {
            about(event)
                && event.is_opening()
                && (opened.index + 1..closed.index).contains(&event.index)
        });
        if let Some(again) = again.first() {
            bail!(
                "opened twice: first {}\n  again {}",
                opened.value(),
                again.value()
            );
        }
        let mut same = vec![("socket.inode".to_owned(), json!(sock.inode))];
        for key in [
            "cookie", "netns", "protocol", "address", "port", "path", "abstract",
        ] {
            let path = format!("socket.{key}");
            let before = opened.at(&path);
            if !before.is_null() {
                same.push((path, before.clone()));
            }
        }
        demand(&closed, &same)?;
        if opened.kind() == "listener.opened" && closed.number("duration_ms").is_none() {
            bail!("closed without duration_ms: {}", closed.value());
        }
        Ok(closed)
    }

    /// Opens, is seen opening as `socket` says, closes, is seen closing: the life of most listeners.
    ///
    /// # Errors
    /// As [`Watch::opened`] and [`Watch::closed`]; also when the cookie is another than the actor's.
    pub fn whole_life(&self, actor: &mut Actor, sock: &Sock, socket: Value) -> Result<()> {
        let opened = self.opened(actor, sock, socket)?;
        let cookie = actor.cookie(sock)?;
        if opened
            .number("socket.cookie")
            .is_some_and(|told| told != cookie)
        {
            bail!("cookie is {cookie}, told was {}", opened.value());
        }
        actor.close(sock)?;
        self.closed(sock, &opened)?;
        Ok(())
    }

    /// Nothing that fits has come from `after` on, not even after everything that happened until now
    /// has been told.
    ///
    /// # Errors
    /// Something that fits came.
    pub fn absent(
        &self,
        what: &str,
        capability: Capability,
        after: usize,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<()> {
        self.fence(capability)?;
        let found = self.all(|event| event.index >= after && fits(event));
        match found.first() {
            Some(event) => bail!("there should be no {what}: {}", event.value()),
            None => Ok(()),
        }
    }

    /// Waits until everything that happened before has been told: opens a socket that takes the same
    /// way as the capability's events, and waits for that.
    ///
    /// # Errors
    /// Not even this socket was told of.
    pub fn fence(&self, capability: Capability) -> Result<()> {
        let (socket, kind): (OwnedFd, Kind) = match capability {
            Capability::UdpBind
            | Capability::UdpClient
            | Capability::UdpUring
            | Capability::UdpClose => {
                // By number: a port that the kernel chose looks like a client's to whoever looks later.
                // Another program may take one between the look and the bind.
                let bound = (0..8).find_map(|_| {
                    let port = free_udp_port().ok()?;
                    std::net::UdpSocket::bind(("127.0.0.1", port)).ok()
                });
                (bound.context("no free UDP port")?.into(), Kind::UDP4)
            }
            Capability::Unix | Capability::UnixClose | Capability::UnixRefusal => {
                let (domain, number, protocol) = Kind::UNIX_STREAM.numbers;
                let socket = sys::socket(domain, number, protocol)?;
                sys::bind(
                    std::os::fd::AsFd::as_fd(&socket),
                    &Address::Unix(Vec::new()).to_sockaddr(),
                )?;
                rustix::net::listen(&socket, 1)?;
                (socket, Kind::UNIX_STREAM)
            }
            _ => (TcpListener::bind("127.0.0.1:0")?.into(), Kind::TCP4),
        };
        let inode = own_inode(&socket)?;
        let sees = match self.sees(capability) {
            Sees::No => Sees::ByReconcile,
            other => other,
        };
        self.expect(
            &format!("fence, {} socket {inode}", kind.protocol),
            sees,
            0,
            |event| event.has_inode(inode),
            |event| event.has_inode(inode) && event.is_opening(),
        )?;
        Ok(())
    }
}

/// Who the actor is, as paths and values of an event.
fn identity(actor: &Actor) -> Vec<(String, Value)> {
    vec![
        ("process.pid".to_owned(), json!(actor.pid)),
        ("process.ppid".to_owned(), json!(actor.ppid)),
        ("process.exe".to_owned(), json!(actor.exe)),
        ("process.args".to_owned(), json!(actor.args)),
        ("process.uid".to_owned(), json!(actor.uid)),
        ("process.unresolved".to_owned(), Value::Null),
    ]
}

/// What the socket is, as paths and values of an event.
fn nature(sock: &Sock) -> Vec<(String, Value)> {
    vec![
        ("socket.inode".to_owned(), json!(sock.inode)),
        ("socket.netns".to_owned(), json!(sock.netns)),
        ("socket.family".to_owned(), json!(sock.kind.family)),
        ("socket.type".to_owned(), json!(sock.kind.kind)),
        ("socket.protocol".to_owned(), json!(sock.kind.protocol)),
    ]
}

fn with_prefix(prefix: &str, members: &Value) -> Vec<(String, Value)> {
    let members = members.as_object().into_iter().flatten();
    members
        .map(|(key, value)| (format!("{prefix}.{key}"), value.clone()))
        .collect()
}

/// Wants every path to have its value; names every one that has not.
///
/// # Errors
/// Lists what is wrong, with the whole event.
pub fn demand(event: &Event, wanted: &[(String, Value)]) -> Result<()> {
    let wrong: Vec<String> = wanted
        .iter()
        .filter(|(path, value)| event.at(path) != value)
        .map(|(path, value)| format!("{path} should be {value}, is {}", event.at(path)))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}\n  in {}", wrong.join("; "), event.value())
}

/// The members of an event that a scenario is about, by dotted path.
///
/// # Errors
/// As [`demand`].
pub fn demand_all(event: &Event, wanted: &Value) -> Result<()> {
    let members = wanted
        .as_object()
        .context("the demands are an object of dotted paths")?;
    let wanted: Vec<(String, Value)> = members
        .iter()
        .map(|(path, value)| (path.clone(), value.clone()))
        .collect();
    demand(event, &wanted)
}
