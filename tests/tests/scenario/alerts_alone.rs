//! Alerts where time counts, or that flood: one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::locate;
use portwatch_tests::harness::mail::Mail;
use portwatch_tests::harness::mail_server::MailServer;
use portwatch_tests::harness::program::free_tcp_port;
use portwatch_tests::harness::smtp_peer::{Deed, SmtpPeer};
use portwatch_tests::harness::trigger::Launch;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome};
use rustix::mount::{MountFlags, mount};
use serde_json::Value;

use super::alerts::{PATIENCE, PAUSE, configure, status_until};
use super::baseline::Mounted;
use super::scenarios;

scenarios!(userland alone "alerts_alone": mailed_within_a_second, a_flood_is_a_few_mails, killed_at_any_time, full_disk);

/// How often the suite kills; `PORTWATCH_TEST_KILLS` says another number.
const KILLS: u32 = 25;
/// How many listeners nobody approved.
const FLOOD: u32 = 10_000;

/// A recipient and a server are enough: one mail, whose subject says who listens on what and where.
fn mailed_within_a_second(context: &Context) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let nc = folder.path().join("nc");
    fs::copy(locate::actor()?, &nc)?;
    let how = Launch {
        program: Some(nc),
        ..Launch::default()
    };
    // Other programs of this machine may be told of first, and then ours waits: on purpose.
    let mut others = Vec::new();
    for _ in 0..5 {
        let Some(server) = MailServer::start()? else {
            return Ok(MailServer::missing());
        };
        let port = match TcpListener::bind("0.0.0.0:4444") {
            Ok(_) => 4444,
            Err(_) => free_tcp_port()?,
        };
        let home = Home::new()?;
        configure(&home, &format!("server = \"127.0.0.1:{}\"\n", server.plain))?;
        let _daemon = home.start(context.rung())?;
        std::thread::sleep(Duration::from_secs(1));
        let mut actor = Actor::launch("alerts-nc", &how)?;
        let socket = format!("0.0.0.0:{port}");
        let _sock = actor.listener(Kind::TCP4, &socket, 1)?;
        let began = Instant::now();
        let is_ours = |mail: &Mail| mail.subject().contains(&socket) || mail.text.contains(&socket);
        while server.taken() == 0 && began.elapsed() < PATIENCE * scale() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = began.elapsed();
        let mail = server.wait(PAUSE + PATIENCE, is_ours)?;
        let mails = server.mails()?;
        if mails.len() > 1 || mail.subject().contains(" more)") {
            let mails = mails.iter().filter(|mail| !is_ours(mail));
            others.extend(mails.map(|mail| mail.subject().to_owned()));
            continue;
        }
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let sentence = format!("nc (pid {}, root) listens on {socket}/tcp", actor.pid);
        ensure!(
            mail.subject().contains(&sentence) && mail.subject().contains(&format!("[{host}]")),
            "subject: {}",
            mail.subject()
        );
        ensure!(took < Duration::from_secs(1) * scale(), "it took {took:?}");
        eprintln!(
            "alerts_alone::mailed_within_a_second: {} ms: {}",
            took.as_millis(),
            mail.subject()
        );
        // Nor does it come again.
        std::thread::sleep(Duration::from_secs(1));
        let count = server.mails()?.iter().filter(|mail| is_ours(mail)).count();
        ensure!(count == 1, "{count} mails");
        return Ok(Outcome::Done);
    }
    bail!("something else was told each time: this machine does not come to rest: {others:?}")
}

/// Ten thousand in much less than a minute: two mails, and each of them is in one or counted in it.
fn a_flood_is_a_few_mails(context: &Context) -> Result<()> {
    let peer = SmtpPeer::start(|_, _| Deed::Usual)?;
    let home = Home::new()?;
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.97.0.0/16\"\n",
            peer.port
        ),
    )?;
    let _daemon = home.start(context.rung())?;
    let began = Instant::now();
    let mut held = Vec::new();
    for number in 0..FLOOD {
        // Some ports may be taken by the kernel's clients, below them none is.
        let address = Ipv4Addr::new(127, 97, (number / 5_000) as u8, 1);
        let port = u16::try_from(10_000 + number % 5_000)?;
        held.push(TcpListener::bind((address, port)).with_context(|| format!("{address}:{port}"))?);
    }
    let took = began.elapsed();
    ensure!(
        took < Duration::from_secs(60) * scale(),
        "the flood took {took:?}"
    );
    let count = |mails: &[Mail]| mails.iter().map(accounted).sum::<u64>();
    let mails = |record: &portwatch_tests::harness::smtp_peer::Record| -> Vec<Mail> {
        record.taken.iter().map(|one| one.mail.clone()).collect()
    };
    let record = peer.wait(Duration::from_secs(75), |record| {
        count(&mails(record)) >= u64::from(FLOOD)
    });
    let record = record.with_context(|| {
        let status = home
            .command()
            .map(|mut command| command.arg("status").output());
        format!("not all are accounted for; {status:?}")
    })?;
    let mails = mails(&record);
    ensure!(
        count(&mails) == u64::from(FLOOD),
        "{} are accounted for",
        count(&mails)
    );
    ensure!(mails.len() <= 3, "{} mails", mails.len());
    eprintln!(
        "alerts_alone::a_flood_is_a_few_mails: {FLOOD} listeners in {took:?}, {} mails: {:?}",
        mails.len(),
        mails.iter().map(accounted).collect::<Vec<_>>()
    );
    Ok(())
}

/// How many listeners a mail tells of: those with a paragraph, and those that it counts.
fn accounted(mail: &Mail) -> u64 {
    let told = mail
        .text
        .lines()
        .filter(|line| line.contains(" listens on 127.97."))
        .count() as u64;
    let more = mail.text.lines().find_map(|line| {
        line.strip_prefix("And ")?
            .split(' ')
            .next()?
            .parse::<u64>()
            .ok()
    });
    told + more.unwrap_or(0)
}

/// Killed at any moment, the daemon tells of everything in the end: of some things twice.
fn killed_at_any_time(context: &Context) -> Result<()> {
    let kills = match std::env::var("PORTWATCH_TEST_KILLS") {
        Ok(number) => number.parse().context("PORTWATCH_TEST_KILLS is a number")?,
        Err(_) => KILLS,
    };
    let peer = SmtpPeer::start(|_, _| {
        // So that there is time to be killed at each step.
        std::thread::sleep(Duration::from_millis(1));
        Deed::Usual
    })?;
    let home = Home::new()?;
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.96.0.0/16\"\nwindow = \"1ms\"\nmessages = 10000\n",
            peer.port
        ),
    )?;
    let mut first = home.start(context.rung())?;
    // What the first start finds is approved, and told to nobody. It is on the disk a moment after it answers.
    let memory = home.path("state/alerts/memory.json");
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let checked = home.command()?.args(["baseline", "check"]).output()?;
        if memory.exists() && matches!(checked.status.code(), Some(0 | 1)) {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the first start is not remembered: {checked:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    first.crash()?;
    let mut actor = Actor::start("alerts-kill")?;
    let mut random = Random::new()?;
    let (mut addresses, mut socks, mut under_way) = (Vec::new(), Vec::new(), 0);
    for round in 0..kills {
        let mut command = home.command()?;
        command
            .arg("run")
            .stdout(Stdio::null())
            .stderr(File::create(home.path("errors"))?)
            .process_group(0);
        let mut child = Run(command.spawn()?);
        let steps = peer.steps();
        let address = format!("127.96.{}.{}", round / 250, round % 250 + 1);
        let open = format!("{address}:0");
        addresses.push(address);
        // One half at any time of its start, or after it; the other half while a mail is under way.
        if round % 2 == 0 {
            std::thread::sleep(random.below(600));
            socks.push(actor.listener(Kind::TCP4, &open, 1)?);
            std::thread::sleep(random.below(120));
        } else {
            socks.push(actor.listener(Kind::TCP4, &open, 1)?);
            let deadline = Instant::now() + PATIENCE * scale();
            while peer.steps() == steps {
                if Instant::now() > deadline {
                    let listed = home
                        .command()?
                        .args(["ls", "address in 127.96.0.0/16"])
                        .output()?;
                    let log = fs::read_to_string(home.path("errors"))?;
                    bail!(
                        "round {round}: no mail: {log}{}",
                        String::from_utf8_lossy(&listed.stdout)
                    );
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(random.below(16));
            under_way += 1;
        }
        child.0.kill()?;
        let ended = child.0.wait()?;
        ensure!(
            ended.signal() == Some(9),
            "round {round}: {ended}: {}",
            fs::read_to_string(home.path("errors"))?
        );
    }
    let _daemon = home.start(context.rung())?;
    let all: BTreeSet<&str> = addresses.iter().map(String::as_str).collect();
    let record = peer.wait(PAUSE + PATIENCE, |record| {
        let mut told = BTreeSet::new();
        for one in &record.taken {
            told.extend(told_of(&one.mail));
        }
        all.iter().all(|address| told.contains(*address))
    });
    let record = record.map_err(|error| {
        let taken = peer.record().taken;
        let told: BTreeSet<String> = taken.iter().flat_map(|one| told_of(&one.mail)).collect();
        let missing: Vec<_> = all
            .iter()
            .filter(|address| !told.contains(**address))
            .collect();
        error.context(format!("never told: {missing:?}"))
    })?;
    let told = status_until(&home, |channel| channel["queued"] == 0)?;
    ensure!(told["lost"] == 0, "{told}");
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    let mut times: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for one in &record.taken {
        *ids.entry(one.mail.id()).or_default() += 1;
        for address in told_of(&one.mail) {
            times.entry(address).or_default().insert(one.mail.id());
        }
    }
    let repeated: u32 = ids.values().map(|count| count - 1).sum();
    let anew: usize = times.values().map(|ids| ids.len() - 1).sum();
    eprintln!(
        "alerts_alone::killed_at_any_time: {kills} kills, {under_way} of them while a mail was under way, {} listeners all told, {} mails, {repeated} of them repeated \
         with the same Message-ID, {anew} listeners told again by another mail",
        all.len(),
        record.taken.len()
    );
    Ok(())
}

/// A daemon that does not outlive its round.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may be killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The addresses of this scenario that a mail tells of.
fn told_of(mail: &Mail) -> BTreeSet<String> {
    let words = mail.text.split([' ', '\n']);
    words
        .filter(|word| word.starts_with("127.96."))
        .filter_map(|word| Some(word.split_once(':')?.0.to_owned()))
        .collect()
}

/// Enough for times: different in each run.
struct Random(u64);

impl Random {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(Self(u64::from(now.subsec_nanos()) | 1))
    }

    fn below(&mut self, ms: u64) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % ms)
    }
}

/// On a full disk it goes on, says so, counts what is lost; and works again when there is room.
fn full_disk(context: &Context) -> Result<Outcome> {
    let peer = SmtpPeer::start(|_, _| Deed::Usual)?;
    let home = Home::new()?;
    let state = home.path("state");
    let size = Some(c"size=4m,mode=700");
    if let Err(error) = mount("portwatch-test", &state, "tmpfs", MountFlags::empty(), size) {
        return Ok(Outcome::Skipped(format!("nothing can be mounted: {error}")));
    }
    let mounted = Mounted(&state);
    configure(
        &home,
        &format!(
            "server = \"127.0.0.1:{}\"\nmatch = \"address in 127.95.8.0/24\"\n",
            peer.port
        ),
    )?;
    let daemon = home.start(context.rung())?;
    let filler = state.join("filler");
    // As much as there is room for.
    let _ = fs::write(&filler, vec![0; 4 << 20]);
    let mut actor = Actor::start("alerts-full")?;
    let _first = actor.listener(Kind::TCP4, "127.95.8.1:0", 1)?;
    let is_told = |channel: &Value| {
        let error = channel["error"].as_str();
        error.is_some_and(|error| error.contains("No space left on device"))
    };
    status_until(&home, is_told)?;
    let log = fs::read_to_string(home.path("errors"))?;
    ensure!(
        log.contains("an alert cannot be queued, and waits in memory"),
        "not told: {log}"
    );
    ensure!(peer.record().taken.is_empty(), "told without a queue");
    fs::remove_file(&filler)?;
    let _second = actor.listener(Kind::TCP4, "127.95.8.2:0", 1)?;
    let record = peer.wait(PAUSE + PATIENCE, |record| record.taken.len() >= 2)?;
    for (one, address) in record.taken.iter().zip(["127.95.8.1:", "127.95.8.2:"]) {
        let subject = one.mail.subject();
        ensure!(subject.contains(address), "{subject}");
    }
    let told = status_until(&home, |channel| channel["delivered"] == 2)?;
    ensure!(
        told["lost"] == 0 && told["queued"] == 0 && told.get("error").is_none(),
        "{told}"
    );
    drop(daemon);
    drop(mounted);
    Ok(Outcome::Done)
}
