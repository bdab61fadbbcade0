//! Where events go: files that others rotate, disks that are full, daemons that are killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::program::{find, free_tcp_port};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Event, Kind, Outcome};
use rustix::mount::{MountFlags, mount};
use rustix::process::Signal;

use super::baseline::Mounted;
use super::scenarios;

scenarios!(
    userland "sinks": logrotate_in_both_ways, killed_again_and_again, a_full_disk_is_overcome, reload_takes_all_or_nothing,
    standard_output_in_another_format, what_waited_comes_and_damage_is_a_gap,
);

const PATIENCE: Duration = Duration::from_secs(15);
/// How often the daemon is killed.
const KILLS: u32 = 8;

/// The section of a file sink, with more keys.
fn configure(home: &Home, path: &Path, more: &str) -> Result<()> {
    let text = format!(
        "[heartbeat]\nevery = \"1s\"\n[[sink]]\ntype = \"file\"\npath = \"{}\"\n{more}",
        path.display()
    );
    fs::write(home.path("portwatch.toml"), text).context("no configuration")
}

/// `create`, where nobody tells the daemon; `create` with SIGHUP; `copytruncate`: no line is lost, torn or doubled.
fn logrotate_in_both_ways(context: &Context) -> Result<Outcome> {
    let Some(logrotate) = find("logrotate") else {
        return Ok(Outcome::Skipped("logrotate is not installed".to_owned()));
    };
    let home = Home::new()?;
    let logs = home.path("logs");
    fs::create_dir(&logs)?;
    let path = logs.join("events.jsonl");
    configure(&home, &path, "rotate_mib = 0\nchain = true\n")?;
    let daemon = home.start(context.rung())?;
    let mut actor = Actor::start("sink-rotated")?;
    let mut opened = BTreeSet::new();
    for way in ["create 0600", "create 0600\nsharedscripts", "copytruncate"] {
        let sock = actor.listener(Kind::TCP4, "127.89.0.1:0", 1)?;
        opened.insert(sock.inode);
        wait_for(&[&path], |event| event.has_inode(sock.inode))?;
        // Lines of heartbeats apart, nothing is written while the copy is made.
        rotate(&home, &logrotate, &path, way)?;
        if way.contains("shared") {
            daemon.signal(Signal::HUP)?;
        }
        let sock = actor.listener(Kind::TCP4, "127.89.0.2:0", 1)?;
        opened.insert(sock.inode);
        let rotated = PathBuf::from(format!("{}.1", path.display()));
        wait_for(&[&path, &rotated], |event| event.has_inode(sock.inode))?;
        wait_for(&[&path], |event| event.kind() == "heartbeat")?;
    }
    drop(daemon);
    let mut files: Vec<PathBuf> = (1..=3)
        .rev()
        .map(|number| PathBuf::from(format!("{}.{number}", path.display())))
        .collect();
    files.push(path);
    let told: Vec<Event> = files
        .iter()
        .map(|file| events(file))
        .collect::<Result<Vec<_>>>()?
        .concat();
    for inode in opened {
        let count = told
            .iter()
            .filter(|event| event.is_opening() && event.has_inode(inode))
            .count();
        ensure!(count == 1, "{count} openings of {inode}");
    }
    let verified = home.command()?.arg("verify").args(&files).output()?;
    // What came between copy and truncation is lost, and the chain says so; nothing came there but perhaps a heartbeat.
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    ensure!(
        verified.status.success() || said.contains("missing"),
        "the chain: {said}"
    );
    Ok(Outcome::Done)
}

fn rotate(home: &Home, logrotate: &Path, path: &Path, way: &str) -> Result<()> {
    let config = home.path("logrotate.conf");
    let text = format!("{} {{\nrotate 9\nnocompress\n{way}\n}}\n", path.display());
    fs::write(&config, text)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    let done = Command::new(logrotate)
        .args(["--force", "--state"])
        .arg(home.path("logrotate.state"))
        .arg(&config)
        .output()?;
    ensure!(done.status.success(), "logrotate: {done:?}");
    Ok(())
}

/// Whenever the daemon is killed, the file has whole lines, and the chain goes on.
fn killed_again_and_again(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let path = home.path("events.jsonl");
    configure(&home, &path, "chain = true\nsync = \"always\"\n")?;
    let mut actor = Actor::start("sink-killed")?;
    for round in 0..KILLS {
        let mut daemon = home.start(context.rung())?;
        let sock = actor.listener(Kind::TCP4, "127.90.0.1:0", 1)?;
        // Some are killed in the middle of their first lines.
        if round % 2 == 0 {
            wait_for(&[&path], |event| event.has_inode(sock.inode))?;
        }
        daemon.crash()?;
        if round % 3 == 0 {
            tear(&path)?;
        }
    }
    let daemon = home.start(context.rung())?;
    wait_for(&[&path], |event| event.kind() == "heartbeat")?;
    let status = status(&home)?;
    let head = status
        .pointer("/sinks/0/head")
        .and_then(|head| head.as_str());
    ensure!(head.is_some(), "no head in the status: {status}");
    daemon.signal(Signal::TERM)?;
    drop(daemon);
    let verified = home.command()?.arg("verify").arg(&path).output()?;
    ensure!(
        verified.status.success(),
        "the chain: {}",
        String::from_utf8_lossy(&verified.stdout)
    );
    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "mode {mode:o}");
    // Each run counts from 1, without a hole.
    let mut expected = 1;
    let mut torn = 0;
    for event in events(&path)? {
        let seq = event.number("seq").context("no number")?;
        ensure!(
            seq == expected || seq == 1,
            "{seq} where {expected} should be"
        );
        expected = seq + 1;
        if event.text("gap.cause") == "damaged" {
            torn += 1;
        }
    }
    ensure!(torn == KILLS.div_ceil(3), "{torn} torn lines were told");
    Ok(())
}

/// Half a line at the end, as a crash of the machine may leave it.
fn tear(path: &Path) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(br#"{"schema":"portwatch.event/1","id":"01"#)?;
    Ok(())
}

/// A full disk is told, nothing is torn, and what waited comes when there is room.
fn a_full_disk_is_overcome(context: &Context) -> Result<Outcome> {
    let home = Home::new()?;
    let logs = home.path("logs");
    fs::create_dir(&logs)?;
    let size = Some(c"size=256k,mode=700");
    if let Err(error) = mount("portwatch-test", &logs, "tmpfs", MountFlags::empty(), size) {
        return Ok(Outcome::Skipped(format!("nothing can be mounted: {error}")));
    }
    let _mounted = Mounted(&logs);
    let path = logs.join("events.jsonl");
    configure(&home, &path, "")?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("sink-full")?;
    let first = actor.listener(Kind::TCP4, "127.91.0.1:0", 1)?;
    wait_for(&[&path], |event| event.has_inode(first.inode))?;
    let filler = logs.join("filler");
    // As much as there is room for.
    let _ = fs::write(&filler, vec![0; 256 * 1024]);
    let deadline = Instant::now() + PATIENCE * scale();
    let mut waiting = Vec::new();
    while status(&home)?.pointer("/sinks/0/error").is_none() {
        ensure!(Instant::now() < deadline, "a full disk is not noticed");
        waiting.push(actor.listener(Kind::TCP4, "127.91.0.2:0", 1)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(&filler)?;
    let last = actor.listener(Kind::TCP4, "127.91.0.3:0", 1)?;
    wait_for(&[&path], |event| event.has_inode(last.inode))?;
    let told = events(&path)?;
    for sock in &waiting {
        ensure!(
            told.iter().any(|event| event.has_inode(sock.inode)),
            "what waited is not there"
        );
    }
    ensure!(
        (1..)
            .zip(&told)
            .all(|(at, event)| event.number("seq") == Some(at)),
        "a hole between {} events",
        told.len()
    );
    let status = status(&home)?;
    ensure!(
        status.pointer("/sinks/0/error").is_none()
            && status.pointer("/sinks/0/lost") == Some(&0.into()),
        "afterwards: {}",
        status["sinks"]
    );
    Ok(Outcome::Done)
}

/// What is wrong leaves everything as it was; what is right is in force at once, and what stays goes on.
fn reload_takes_all_or_nothing(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let (path, other) = (home.path("events.jsonl"), home.path("other.jsonl"));
    configure(&home, &path, "")?;
    let daemon = home.start(context.rung())?;
    let missing = home.path("missing/x.jsonl");
    let more = |path: &Path| {
        format!(
            "[[sink]]\ntype = \"file\"\nname = \"other\"\npath = \"{}\"\nmatch = \"port == 1\"\n",
            path.display()
        )
    };
    configure(&home, &path, &more(&missing))?;
    let refused = home.command()?.arg("reload").output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(78) && said.contains("sink other:"),
        "{refused:?}"
    );
    let mut actor = Actor::start("sink-reload")?;
    let sock = actor.listener(Kind::TCP4, "127.92.0.1:0", 1)?;
    wait_for(&[&path], |event| event.has_inode(sock.inode))?;
    configure(&home, &path, &more(&other))?;
    let done = home.command()?.arg("reload").output()?;
    ensure!(done.status.success(), "{done:?}");
    // Its filter lets nothing through but signs of life.
    wait_for(&[&other], |event| event.kind() == "heartbeat")?;
    // Without the first one.
    let text = format!(
        "[heartbeat]\nevery = \"1s\"\n{}",
        more(&other).replace("port == 1", "tcp")
    );
    fs::write(home.path("portwatch.toml"), text)?;
    daemon.signal(Signal::HUP)?;
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let sock = actor.listener(Kind::TCP4, "127.92.0.2:0", 1)?;
        std::thread::sleep(Duration::from_millis(200));
        if events(&other)?
            .iter()
            .any(|event| event.has_inode(sock.inode))
        {
            break;
        }
        ensure!(Instant::now() < deadline, "SIGHUP changes nothing");
    }
    for file in [&path, &other] {
        let told = events(file)?;
        ensure!(
            (1..)
                .zip(&told)
                .all(|(at, event)| event.number("seq") == Some(at)),
            "a hole in {}",
            file.display()
        );
    }
    Ok(())
}

/// What the daemon writes to its standard output is whole lines of the format that was asked for.
fn standard_output_in_another_format(_: &Context) -> Result<()> {
    let home = Home::new()?;
    let text = "[[sink]]\ntype = \"stdout\"\nformat = \"ecs\"\nmatch = \"type == sensor.ready\"\n";
    fs::write(home.path("portwatch.toml"), text)?;
    let out = home.path("out");
    let mut child = home
        .command()?
        .arg("run")
        .stdout(fs::File::create(&out)?)
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE * scale();
    let line = loop {
        let text = fs::read_to_string(&out)?;
        if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
            break line.to_owned();
        }
        if Instant::now() > deadline {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            bail!("nothing comes: {text}");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    child.kill()?;
    child.wait()?;
    let value: serde_json::Value = serde_json::from_str(&line)?;
    ensure!(
        value.pointer("/event/action") == Some(&"sensor-ready".into()),
        "{line}"
    );
    Ok(())
}

/// While nobody takes them, events wait on disk, over a kill; where the disk was damaged there is a gap, and the rest comes.
fn what_waited_comes_and_damage_is_a_gap(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let port = free_tcp_port()?;
    let text = format!(
        "[heartbeat]\nevery = \"off\"\n[[sink]]\ntype = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\"\n"
    );
    fs::write(home.path("portwatch.toml"), text)?;
    let mut daemon = home.start(context.rung())?;
    let mut actor = Actor::start("sink-waiting")?;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(actor.listener(Kind::TCP4, "127.94.0.1:0", 1)?);
    }
    let deadline = Instant::now() + PATIENCE * scale();
    let buffer = home.path("state/sinks/syslog");
    let last = format!("\"inode\":{},", waiting[7].inode);
    while !buffered(&buffer)?
        .iter()
        .any(|(_, bytes)| has(bytes, last.as_bytes()))
    {
        ensure!(Instant::now() < deadline, "nothing waits");
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.crash()?;
    let (path, mut bytes) = buffered(&buffer)?.pop().context("no buffer")?;
    // Somewhere in the record of the fifth.
    let fifth = format!("\"inode\":{},", waiting[4].inode);
    let at = position(&bytes, fifth.as_bytes()).context("not in the buffer")?;
    bytes[at] ^= 1;
    fs::write(path, bytes)?;
    let receiver = TcpListener::bind(("127.0.0.1", port))?;
    let got = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in receiver.incoming().flatten() {
            let mut bytes = Vec::new();
            // What was read before an error counts as well.
            let _ = (&stream).read_to_end(&mut bytes);
            if let Ok(mut got) = into.lock() {
                got.extend_from_slice(&bytes);
            }
        }
    });
    let _daemon = home.start(context.rung())?;
    let taken = || got.lock().map(|got| got.clone()).unwrap_or_default();
    while !has(&taken(), last.as_bytes()) || !has(&taken(), br#""type":"sensor.ready""#) {
        ensure!(
            Instant::now() < deadline + PATIENCE * scale(),
            "what waited does not come"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for (number, sock) in waiting.iter().enumerate() {
        let opening = format!("\"inode\":{},", sock.inode);
        let bytes = taken();
        let before = position(&bytes, br#""ring":"sink","cause":"damaged","lost":1,"#);
        let before = &bytes[..before.context("no gap")?];
        // Those before the damage come before the gap. All are told as present by the second run, the fifth too.
        ensure!(
            has(before, opening.as_bytes()) == (number < 4),
            "the one of number {number} is not where it should be"
        );
    }
    Ok(())
}

/// The files of a buffer, with what is in them.
fn buffered(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut all = Vec::new();
    if folder.exists() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "records") {
                let bytes = fs::read(&path)?;
                all.push((path, bytes));
            }
        }
    }
    all.sort();
    Ok(all)
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    position(bytes, part).is_some()
}

/// Waits until one of these files has such an event.
pub(super) fn wait_for(files: &[&Path], is_it: impl Fn(&Event) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        for file in files {
            if file.exists() && events(file)?.iter().any(&is_it) {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "not in {files:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The whole lines of a file, each of which is an event. What is behind the last newline is being written.
fn events(file: &Path) -> Result<Vec<Event>> {
    let bytes = fs::read(file).with_context(|| format!("no {}", file.display()))?;
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes[..end]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(at, line)| Event::parse(line, at, Instant::now()))
        .collect()
}

pub(super) fn status(home: &Home) -> Result<serde_json::Value> {
    let output = home.command()?.args(["status", "-o", "json"]).output()?;
    ensure!(output.status.success(), "status failed: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
