//! Players made of scripted processes: every kind of socket, and every way to hand one on.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use portwatch_tests::address::Address;
use portwatch_tests::harness::program::free_udp_port;
use portwatch_tests::harness::{Actor, Kind, Sock};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Player, Stage};
use crate::truth::{Id, Mark, abstract_place, place_of};

/// Most listeners that one process of these holds.
const MOST: usize = 12;

/// A process with a changing set of listeners.
pub(crate) struct Shop {
    name: &'static str,
    actor: Actor,
    goods: Vec<(Sock, Id)>,
}

impl Shop {
    fn new(name: &'static str, stage: &mut Stage) -> Result<Self> {
        let actor = Actor::start(&stage.name(name))?;
        Ok(Self {
            name,
            actor,
            goods: Vec::new(),
        })
    }

    /// One listener of each kind that the kernel has, to stay.
    pub(crate) fn resident(stage: &mut Stage) -> Result<Box<dyn Player>> {
        let mut shop = Self::new("resident", stage)?;
        for kind in stage.kinds.clone() {
            shop.open(kind, stage)?;
        }
        Ok(Box::new(shop))
    }

    fn open(&mut self, kind: Kind, stage: &mut Stage) -> Result<()> {
        let begun = stage.truth.now();
        let sock = self.actor.socket(kind)?;
        let place = settle(&mut self.actor, &sock, stage)?;
        if kind.kind == "stream" || kind.kind == "seqpacket" {
            self.actor.listen(&sock, 16)?;
        }
        let id = stage.truth.open(
            begun,
            self.name,
            (self.actor.pid, &self.actor.exe),
            (kind.protocol, place),
            Mark::Inode(sock.inode),
        );
        self.goods.push((sock, id));
        Ok(())
    }

    fn close(&mut self, at: usize, stage: &mut Stage) -> Result<()> {
        let (sock, id) = self.goods.swap_remove(at);
        let begun = stage.truth.now();
        self.actor.close(&sock)?;
        stage.truth.close(id, begun);
        Ok(())
    }
}

impl Player for Shop {
    fn step(&mut self, stage: &mut Stage) -> Result<()> {
        if self.goods.is_empty() || (self.goods.len() < MOST && stage.chance.percent(55)) {
            let kind = stage.kind();
            self.open(kind, stage)
        } else {
            let at = stage.chance.below(self.goods.len());
            self.close(at, stage)
        }
    }

    fn leave(mut self: Box<Self>, stage: &mut Stage) -> Result<()> {
        let begun = stage.truth.now();
        match stage.chance.below(3) {
            0 => self.actor.exit()?,
            1 => self.actor.kill()?,
            _ => {
                while let Some(last) = self.goods.len().checked_sub(1) {
                    self.close(last, stage)?;
                }
                return self.actor.exit();
            }
        }
        for (_, id) in &self.goods {
            stage.truth.close(*id, begun);
        }
        Ok(())
    }
}

/// Binds where it is free; the place as events write it. Packet and raw sockets have none.
fn settle(actor: &mut Actor, sock: &Sock, stage: &mut Stage) -> Result<Option<String>> {
    let address = match (sock.kind.family, sock.kind.kind) {
        (_, "raw") => return Ok(None),
        ("unix", _) => {
            let name = stage.name("socket");
            if stage.chance.percent(50) {
                actor.bind(sock, &Address::abstract_name(name.as_bytes()))?;
                return Ok(Some(abstract_place(&name)));
            }
            let path = stage.folder.join(name);
            actor.bind(sock, &Address::path(&path))?;
            return Ok(Some(path.display().to_string()));
        }
        ("ipv6", "dgram") => format!("[::1]:{}", free_udp_port()?),
        // By number: a look later could not tell a chosen port from a client's.
        (_, "dgram") => format!("127.0.0.1:{}", free_udp_port()?),
        ("ipv6", _) => "[::1]:0".to_owned(),
        _ => "127.0.0.1:0".to_owned(),
    };
    actor.bind(sock, &Address::inet(&address)?)?;
    Ok(Some(place_of(actor.inet_name(sock)?)))
}

/// A few listeners of any kind.
pub(crate) fn shop(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("actor", stage)?;
    for _ in 0..=stage.chance.below(4) {
        shop.step(stage)?;
    }
    Ok(Some(Box::new(shop)))
}

/// The same in a network namespace of its own.
pub(crate) fn in_namespace(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("namespace", stage)?;
    shop.actor.call("unshare-net")?;
    for _ in 0..=stage.chance.below(3) {
        shop.step(stage)?;
    }
    Ok(Some(Box::new(shop)))
}

/// An unprivileged user.
pub(crate) fn as_nobody(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("user", stage)?;
    shop.actor.call("user 65534")?;
    shop.open(Kind::TCP4, stage)?;
    Ok(Some(Box::new(NoMore(Box::new(shop)))))
}

/// Another image takes over the listener, and opens one more.
pub(crate) fn exec(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("exec", stage)?;
    shop.open(Kind::TCP4, stage)?;
    let kept: Vec<&Sock> = shop.goods.iter().map(|(sock, _)| sock).collect();
    shop.actor.exec(&stage.name("image"), &kept)?;
    shop.open(Kind::TCP4, stage)?;
    Ok(Some(Box::new(shop)))
}

/// A thread that is not the leader listens.
pub(crate) fn thread(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("thread", stage)?;
    let begun = stage.truth.now();
    let sock = shop.actor.socket(Kind::TCP4)?;
    let place = settle(&mut shop.actor, &sock, stage)?;
    shop.actor
        .call(&format!("thread listen {} 16", sock.slot))?;
    let id = stage.truth.open(
        begun,
        "thread",
        (shop.actor.pid, &shop.actor.exe),
        ("tcp", place),
        Mark::Inode(sock.inode),
    );
    shop.goods.push((sock, id));
    Ok(Some(Box::new(shop)))
}

/// A bind that the kernel refuses: nothing may be told to listen.
pub(crate) fn refused(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("refused", stage)?;
    shop.open(Kind::TCP4, stage)?;
    let second = shop.actor.socket(Kind::TCP4)?;
    if let Some((first, _)) = shop.goods.first() {
        let taken = shop.actor.name(first)?;
        shop.actor
            .refused(&format!("bind {} {taken}", second.slot))?;
    }
    Ok(Some(Box::new(shop)))
}

/// A player that stays as it is: it may no longer do what others do.
struct NoMore(Box<dyn Player>);

impl Player for NoMore {
    fn leave(self: Box<Self>, stage: &mut Stage) -> Result<()> {
        self.0.leave(stage)
    }
}

/// The opener is gone, its child holds the listener.
struct Orphan {
    child: u32,
    id: Id,
    _opener: Actor,
}

pub(crate) fn fork(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("fork", stage)?;
    shop.open(Kind::TCP4, stage)?;
    let child = shop.actor.call("fork")?.number("pid")?;
    shop.actor.exit()?;
    let (_, id) = shop.goods.pop().context("nothing was opened")?;
    Ok(Some(Box::new(Orphan {
        child,
        id,
        _opener: shop.actor,
    })))
}

impl Player for Orphan {
    fn leave(self: Box<Self>, stage: &mut Stage) -> Result<()> {
        let begun = stage.truth.now();
        let child = i32::try_from(self.child).ok().and_then(Pid::from_raw);
        kill_process(child.context("no pid")?, Signal::KILL)?;
        stage.truth.close(self.id, begun);
        Ok(())
    }
}

/// The opener passed its listener on with `SCM_RIGHTS` and is gone.
struct Heir {
    receiver: Actor,
    sock: Sock,
    id: Id,
}

pub(crate) fn pass(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut shop = Shop::new("pass", stage)?;
    let mut receiver = Actor::start(&stage.name("heir"))?;
    shop.open(Kind::TCP4, stage)?;
    let (sock, id) = shop.goods.pop().context("nothing was opened")?;
    let in_transit = shop.actor.pass(&sock)?;
    receiver.take(&sock, in_transit.as_fd())?;
    drop(in_transit);
    shop.actor.exit()?;
    Ok(Some(Box::new(Heir { receiver, sock, id })))
}

impl Player for Heir {
    fn leave(mut self: Box<Self>, stage: &mut Stage) -> Result<()> {
        let begun = stage.truth.now();
        self.receiver.close(&self.sock)?;
        stage.truth.close(self.id, begun);
        self.receiver.exit()
    }
}

/// Processes that live for a few milliseconds, their listeners for less.
pub(crate) fn blink(stage: &mut Stage, count: u32, parallel: u32) -> Result<()> {
    let prefix = stage.name("blink");
    let begun = stage.truth.now();
    let answer = stage
        .blinker
        .call(&format!("blink {count} {prefix} {parallel}"))?;
    let exe = stage.blinker.exe.clone();
    for (at, pid) in answer.text("pids")?.split(',').enumerate() {
        let mark = Mark::Token(format!("{prefix}-{at}"));
        let process = (pid.parse()?, exe.as_str());
        let id = stage
            .truth
            .open(begun, "blink", process, ("tcp", None), mark);
        stage.truth.close(id, begun);
    }
    Ok(())
}

/// A handful of them.
pub(crate) fn blinks(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let count = 1 + u32::try_from(stage.chance.below(40))?;
    blink(stage, count, 4)?;
    Ok(None)
}
