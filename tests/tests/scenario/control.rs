//! Clients of the control socket that do harm: too many, too slow, too long, senseless, or gone. The
//! daemon answers others meanwhile, and afterwards holds no more than before.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::{Daemon, Home};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Capability, Context, Outcome, Sees};
use serde_json::Value;

use super::scenarios;

scenarios!(userland alone "control": reader_that_never_reads, a_thousand_clients, garbage, slow_request);

const PATIENCE: Duration = Duration::from_secs(10);
/// How much the daemon may have grown when its clients are gone, in KiB. What it keeps for later readers,
/// and what the allocator does not give back of full queues, is bounded; other scenarios fill it too.
const GROWTH_KIB: u64 = 64 * 1024;
/// The same when it has done that once already.
const AGAIN_KIB: u64 = 24 * 1024;
/// The daemon's time for a request, and what a slow machine adds.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Its queue fills and is refused more; others miss nothing. What its queue took, the next ones use.
fn reader_that_never_reads(context: &Context) -> Result<Outcome> {
    if context.sees(Capability::TcpListen)? != Sees::Exactly {
        return Ok(Outcome::Skipped(
            "looking again tells too few to fill a queue in time".to_owned(),
        ));
    }
    let server = Server::start(context)?;
    deaf_readers(&server)?;
    server.recovers()?;
    let once = server.rss()?;
    deaf_readers(&server)?;
    let twice = server.rss()?;
    ensure!(
        twice < once + AGAIN_KIB,
        "grows each time: {} KiB, {once} KiB, {twice} KiB",
        server.memory
    );
    server.recovers()?;
    Ok(Outcome::Done)
}

fn deaf_readers(server: &Server) -> Result<()> {
    let mut deaf: Vec<UnixStream> = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect()?;
        client.write_all(b"{\"portwatch\":1,\"request\":\"tail\"}\n")?;
        deaf.push(client);
    }
    let watch = server.home.tail(&[])?;
    let mut actor = Actor::start("control-deaf")?;
    // Long events, so that a few thousand are more than any buffer on the way.
    let mut inodes = Vec::new();
    for round in 0..12 {
        let answer = actor.call(&format!("open 200 d{round}-"))?;
        for inode in answer.text("inodes")?.split(',') {
            inodes.push(inode.parse::<u64>()?);
        }
        // As fast as the reader that reads can take them.
        let told = watch.gather(inodes.len(), PATIENCE, |event| {
            event.is_opening() && event.has_argument("control-deaf")
        });
        ensure!(
            told.len() == inodes.len(),
            "{} of {} told",
            told.len(),
            inodes.len()
        );
    }
    actor.exit()?;
    let closed = watch.gather(inodes.len(), PATIENCE, |event| {
        event.kind() == "listener.closed" && event.has_argument("control-deaf")
    });
    ensure!(
        closed.len() == inodes.len(),
        "{} of {} told to be closed",
        closed.len(),
        inodes.len()
    );
    let gaps = watch.all(|event| event.kind() == "gap" && event.text("gap.ring") == "client");
    ensure!(gaps.is_empty(), "the others lost: {:?}", gaps.first());
    let status = server.status()?;
    let missed = status
        .pointer("/losses/client_missed")
        .and_then(Value::as_u64);
    ensure!(missed > Some(0), "nobody missed anything: {status}");
    Ok(())
}

/// Those beyond the limit hear so; the daemon goes on.
fn a_thousand_clients(context: &Context) -> Result<()> {
    let server = Server::start(context)?;
    let mut seated = Vec::new();
    let mut refused = 0;
    for _ in 0..1_000 {
        let mut client = server.connect()?;
        client.set_read_timeout(Some(PATIENCE * scale()))?;
        // A client that was turned away may have been hung up on already.
        let _ = client.write_all(b"{\"portwatch\":1,\"request\":\"tail\"}\n");
        let mut answer = String::new();
        BufReader::new(&client).read_line(&mut answer)?;
        let answer: Value = serde_json::from_str(&answer)
            .with_context(|| format!("no clear answer: {answer:?}"))?;
        if answer.get("ok") == Some(&Value::Bool(true)) {
            seated.push(client);
            continue;
        }
        let code = answer.pointer("/error/code").and_then(Value::as_u64);
        let message = answer.pointer("/error/message").and_then(Value::as_str);
        ensure!(
            code == Some(69) && message.is_some_and(|text| text.contains("clients")),
            "no clear answer: {answer}"
        );
        refused += 1;
    }
    ensure!(
        (1..=64).contains(&seated.len()) && refused == 1_000 - seated.len(),
        "{} were seated, {refused} refused",
        seated.len()
    );
    // One leaves, another is let in: no seat was lost.
    seated.pop();
    let deadline = Instant::now() + PATIENCE * scale();
    while let Err(error) = server.status() {
        // The daemon has to hear of the one that left first.
        ensure!(Instant::now() < deadline, "{error:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(seated);
    server.recovers()
}

/// Random bytes, half a request, far too much, a number of requests at once, nobody there any more.
fn garbage(context: &Context) -> Result<()> {
    let server = Server::start(context)?;
    let mut noise = vec![0_u8; 12 * 1024];
    fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    let cases: [&[u8]; 9] = [
        &noise,
        b"\n",
        b"\0\0\0\0\n",
        b"{\"portwatch\":1,\"request\":\"tail\"",
        b"{\"portwatch\":1,\"request\":\"status\"}\n{\"portwatch\":1,\"request\":\"status\"}\n",
        b"{\"portwatch\":99,\"request\":\"tail\"}\n",
        b"{\"portwatch\":1,\"request\":\"tail\",\"filter\":\"((((((((((((((((((((((((((((((((\"}\n",
        b"{\"portwatch\":1,\"request\":\"tail\",\"since_ms\":99999999999999999999}\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    let nested = [b"{\"portwatch\":".as_slice(), &[b'['; 14_000], b"\n"].concat();
    let huge = vec![b'x'; 1024 * 1024];
    for case in cases
        .into_iter()
        .chain([nested.as_slice(), huge.as_slice()])
    {
        for stays in [true, false] {
            let mut client = server.connect()?;
            client.set_read_timeout(Some(PATIENCE * scale()))?;
            client.set_write_timeout(Some(PATIENCE * scale()))?;
            // The daemon may hang up before it has read everything.
            let _ = client.write_all(case);
            if !stays {
                continue;
            }
            client.shutdown(std::net::Shutdown::Write)?;
            let mut answer = Vec::new();
            // A reset comes where bytes were left unread.
            let _ = client.read_to_end(&mut answer);
            let answer = String::from_utf8(answer)?;
            let sane = answer.lines().all(|line| {
                serde_json::from_str::<Value>(line)
                    .is_ok_and(|one| one.pointer("/error/code").and_then(Value::as_u64) == Some(64))
            });
            let shown = String::from_utf8_lossy(case.get(..case.len().min(60)).unwrap_or(case));
            ensure!(
                sane && !answer.is_empty(),
                "to {shown:?} it says {answer:?}"
            );
        }
    }
    // Gone in the middle of what it asked for.
    for _ in 0..50 {
        let mut client = server.connect()?;
        client.write_all(b"{\"portwatch\":1,\"request\":\"list\"}\n")?;
        client.read_exact(&mut [0; 3])?;
        drop(client);
    }
    server.recovers()
}

/// A byte at a time, with no end: cut off when the time for a request is over.
fn slow_request(context: &Context) -> Result<()> {
    let server = Server::start(context)?;
    let mut clients: Vec<UnixStream> = (0..8).map(|_| server.connect()).collect::<Result<_>>()?;
    let start = Instant::now();
    let limit = REQUEST_TIME + PATIENCE * scale();
    let mut byte = [b' '];
    let mut answers = vec![String::new(); clients.len()];
    for client in &clients {
        client.set_read_timeout(Some(Duration::from_millis(5)))?;
    }
    while answers.iter().any(String::is_empty) {
        ensure!(start.elapsed() < limit, "still listened to");
        for (client, answer) in clients.iter_mut().zip(&mut answers) {
            if answer.is_empty() {
                // Refused once the daemon has hung up, whose reason is read then.
                let _ = client.write_all(&byte);
                let _ = client.read_to_string(answer);
            }
        }
        byte = [b'{'];
        // Others are served meanwhile.
        server.status()?;
    }
    ensure!(
        start.elapsed() >= REQUEST_TIME,
        "cut off after {:?}",
        start.elapsed()
    );
    for answer in &answers {
        let told: Value = serde_json::from_str(answer.trim_end())
            .with_context(|| format!("no clear answer: {answer:?}"))?;
        ensure!(
            told.pointer("/error/code").and_then(Value::as_u64) == Some(64),
            "no clear answer: {answer}"
        );
    }
    drop(clients);
    server.recovers()
}

/// A daemon, and what it held before anybody came.
struct Server {
    home: Home,
    daemon: Daemon,
    descriptors: usize,
    memory: u64,
}

impl Server {
    fn start(context: &Context) -> Result<Self> {
        let home = Home::new()?;
        let daemon = home.start(context.rung())?;
        let mut server = Self {
            home,
            daemon,
            descriptors: 0,
            memory: 0,
        };
        server.status()?;
        server.descriptors = server.open_descriptors()?;
        server.memory = server.rss()?;
        Ok(server)
    }

    fn connect(&self) -> Result<UnixStream> {
        UnixStream::connect(self.home.path("run/portwatch.sock")).context("the daemon is deaf")
    }

    /// What `status` says, which must not take long.
    fn status(&self) -> Result<Value> {
        let answer = self
            .home
            .command()?
            .args(["status", "-o", "json"])
            .output()?;
        ensure!(
            answer.status.success(),
            "no status: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
        Ok(serde_json::from_slice(&answer.stdout)?)
    }

    /// Descriptors and memory are what they were, soon after the last client has gone.
    fn recovers(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE * scale();
        loop {
            self.status()?;
            let (descriptors, memory) = (self.open_descriptors()?, self.rss()?);
            if descriptors <= self.descriptors && memory <= self.memory + GROWTH_KIB {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{descriptors} descriptors and {memory} KiB are left, before there were {} and {}",
                self.descriptors,
                self.memory
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn open_descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.daemon.pid()))?.count())
    }

    fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.context("no RssAnon")?.trim().trim_end_matches(" kB");
        Ok(number.parse()?)
    }
}
