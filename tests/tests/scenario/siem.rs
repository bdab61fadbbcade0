//! What we ship for rsyslog, syslog-ng and Sigma, read by the real programs: our pinned events go in, and what a SOC would
//! look for comes out.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::program::{Program, find, free_tcp_port, unpacked, wait_for};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Context, Outcome};
use serde_json::Value;

use super::scenarios;

scenarios!(userland "siem": rsyslog, syslog_ng, sigma);

const PATIENCE: Duration = Duration::from_secs(30);
/// As long as an event may be, less what surrounds it.
const LONG: usize = 60_000;

/// rsyslog parses both forms, tells what is urgent, and hands everything on unchanged.
fn rsyslog(_: &Context) -> Result<Outcome> {
    let Some(program) = find("rsyslogd") else {
        return Ok(Outcome::Skipped("rsyslog is not installed".to_owned()));
    };
    let [json, syslog] = [Collector::start()?, Collector::start()?];
    let port = free_tcp_port()?;
    let running = Program::start_unpacked(&program, |folder| {
        let shipped = shipped(
            "rsyslog/portwatch.conf",
            folder.path(),
            port,
            &json,
            &syslog,
        )?;
        let state = folder.path().display();
        // What is at the top of rsyslog.conf; the state is of the queues and of how far the file is read.
        let configuration =
            format!("global(maxMessageSize=\"128k\" workDirectory=\"{state}\")\n{shipped}");
        let file = folder.path().join("rsyslog.conf");
        fs::write(&file, configuration)?;
        fs::write(folder.path().join("events.jsonl"), "")?;
        let mut command = Command::new(&program);
        command
            .arg("-n")
            .arg("-f")
            .arg(file)
            .arg("-i")
            .arg(folder.path().join("pid"));
        if let Some(libraries) = libraries(&["usr/lib/*-linux-gnu"])? {
            command.env("LD_LIBRARY_PATH", &libraries);
        }
        if let Some(modules) = libraries(&["usr/lib/*-linux-gnu/rsyslog"])? {
            command.arg("-M").arg(modules);
        }
        Ok(command)
    })?;
    wait_for(port).with_context(|| running.errors())?;
    judge(&running, &json, &syslog, "rsyslog.sock", port)
}

/// syslog-ng does the same.
fn syslog_ng(_: &Context) -> Result<Outcome> {
    let Some(program) = find("syslog-ng") else {
        return Ok(Outcome::Skipped("syslog-ng is not installed".to_owned()));
    };
    let [json, syslog] = [Collector::start()?, Collector::start()?];
    let port = free_tcp_port()?;
    let running = Program::start_unpacked(&program, |folder| {
        let shipped = shipped(
            "syslog-ng/portwatch.conf",
            folder.path(),
            port,
            &json,
            &syslog,
        )?;
        let file = folder.path().join("syslog-ng.conf");
        fs::write(&file, format!("@version: 3.35\n{shipped}"))?;
        fs::write(folder.path().join("events.jsonl"), "")?;
        let mut command = Command::new(&program);
        command
            .args(["--foreground", "--no-caps", "--stderr", "--cfgfile"])
            .arg(file);
        for (option, name) in [
            ("--persist-file", "persist"),
            ("--pidfile", "pid"),
            ("--control", "control"),
        ] {
            command.arg(option).arg(folder.path().join(name));
        }
        if let Some(libraries) = libraries(&[
            "usr/lib/*-linux-gnu",
            "usr/lib/syslog-ng",
            "lib/*-linux-gnu",
        ])? {
            command.env("LD_LIBRARY_PATH", &libraries);
        }
        if let Some(modules) = libraries(&["usr/lib/syslog-ng/*.*"])? {
            command.arg("--module-path").arg(modules);
        }
        Ok(command)
    })?;
    wait_for(port).with_context(|| running.errors())?;
    judge(&running, &json, &syslog, "syslog-ng.sock", port)
}

/// pySigma, which most of what reads Sigma is built on, finds nothing wrong with the rules.
fn sigma(_: &Context) -> Result<Outcome> {
    let cached = unpacked().map(|tree| tree.join("../../pysigma/bin/python3"));
    let python = cached
        .filter(|python| python.exists())
        .or_else(|| find("python3"));
    let Some(python) = python else {
        return Ok(Outcome::Skipped("python3 is not installed".to_owned()));
    };
    let script = "import glob, sys\n\
        try:\n    from sigma.collection import SigmaCollection\n\
        except ImportError:\n    sys.exit(3)\n\
        texts = [open(path).read() for path in sorted(glob.glob(sys.argv[1] + '/*.yml'))]\n\
        rules = SigmaCollection.merge([SigmaCollection.from_yaml(text, collect_errors=True) for text in texts])\n\
        rules.resolve_rule_references()\n\
        errors = [str(error) for error in rules.errors] + [str(error) for rule in rules.rules for error in rule.errors]\n\
        print(len(rules.rules), *errors, sep='\\n')\n";
    let told = Command::new(python)
        .args(["-c", script])
        .arg(siem("sigma"))
        .output()?;
    if told.status.code() == Some(3) {
        return Ok(Outcome::Skipped("pySigma is not installed".to_owned()));
    }
    let files = fs::read_dir(siem("sigma"))?.count();
    // One file has a rule and the correlation that counts it.
    let expected = format!("{}\n", files + 1);
    let output = String::from_utf8(told.stdout)?;
    ensure!(
        output == expected && files >= 12,
        "{output}{}",
        String::from_utf8_lossy(&told.stderr)
    );
    Ok(Outcome::Done)
}

/// Lets both forms of our events in, by every way, and compares what comes out.
fn judge(
    running: &Program,
    json: &Collector,
    syslog: &Collector,
    socket: &str,
    port: u16,
) -> Result<Outcome> {
    let folder = running.folder().path();
    let events = pinned("events.jsonl")?;
    let messages = pinned("rfc5424.log")?;
    ensure!(events.len() == messages.len(), "the pinned files differ");
    let (mut urgent, mut urgent_syslog) = (Vec::new(), Vec::new());
    for event in &events {
        let event: Value = serde_json::from_str(event)?;
        let at = |pointer: &str| {
            event
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let line = format!(
            "{} {} {} {} {}",
            at("/ts"),
            at("/host/name"),
            at("/severity"),
            at("/type"),
            at("/message")
        );
        if ["warning", "critical"].contains(&at("/severity")) {
            urgent_syslog.push(line.clone());
            urgent.push(line);
        }
    }
    ensure!(urgent.len() >= 5, "{} urgent events", urgent.len());
    // One as long as an event may be.
    let mut long: Value = serde_json::from_str(&events[0])?;
    long["message"] = "x".repeat(LONG).into();
    let long = long.to_string();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(folder.join("events.jsonl"))?;
    for line in events.iter().chain([&long]) {
        writeln!(file, "{line}")?;
    }
    // Half of the messages by TCP with their length before them, half by the unix socket with a newline behind.
    let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
    let mut unix = connected(&folder.join(socket)).with_context(|| running.errors())?;
    for (nth, message) in messages.iter().enumerate() {
        if nth % 2 == 0 {
            write!(tcp, "{} {message}", message.len())?;
        } else {
            writeln!(unix, "{message}")?;
        }
    }
    let why = || format!("{}; in {}", running.errors(), list(folder));
    let ours: Vec<String> = events.iter().cloned().chain([long]).collect();
    wait(|| sorted(json.lines()) == sorted(ours.clone()))
        .with_context(|| format!("events on their way: {:?}\n{}", json.lines().len(), why()))?;
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let lines = |name: &str| read(name).lines().map(str::to_owned).collect::<Vec<_>>();
    wait(|| lines("urgent.log") == urgent)
        .with_context(|| format!("urgent: {}\n{}", read("urgent.log"), why()))?;
    wait(|| sorted(lines("urgent-syslog.log")) == sorted(urgent_syslog.clone()))
        .with_context(|| format!("urgent by syslog: {}\n{}", read("urgent-syslog.log"), why()))?;
    wait(|| sorted(syslog.lines()) == sorted(messages.clone()))
        .with_context(|| format!("messages on their way: {:?}\n{}", syslog.lines(), why()))?;
    ensure!(read("not-json.log").is_empty(), "{}", read("not-json.log"));
    Ok(Outcome::Done)
}

/// A program listens on its port before its socket is there, or the other way round.
fn connected(socket: &Path) -> Result<UnixStream> {
    wait(|| UnixStream::connect(socket).is_ok()).context("nobody listens on its socket")?;
    Ok(UnixStream::connect(socket)?)
}

fn list(folder: &Path) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| format!("{} ", entry.file_name().display()))
        .collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn wait(mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE * scale();
    while !is_so() {
        ensure!(
            Instant::now() < deadline,
            "not within {} s",
            PATIENCE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn siem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../etc/siem")
        .join(name)
}

/// A shipped file, with the places of this test.
fn shipped(
    name: &str,
    folder: &Path,
    port: u16,
    json: &Collector,
    syslog: &Collector,
) -> Result<String> {
    let mut text = fs::read_to_string(siem(name))?;
    let inside = |name: &str| folder.join(name).display().to_string();
    let places = [
        ("/var/log/portwatch", folder.display().to_string()),
        ("/run/rsyslog-portwatch.sock", inside("rsyslog.sock")),
        ("/run/syslog-ng-portwatch.sock", inside("syslog-ng.sock")),
        ("siem.example.org", "127.0.0.1".to_owned()),
        ("10514", port.to_string()),
        ("10515", port.to_string()),
        ("1514", json.port.to_string()),
        ("2514", syslog.port.to_string()),
    ];
    // In two turns: a port may look like another one.
    for (nth, (place, _)) in places.iter().enumerate() {
        text = text.replace(place, &format!("<place {nth}>"));
    }
    for (nth, (_, here)) in places.iter().enumerate() {
        text = text.replace(&format!("<place {nth}>"), here);
    }
    Ok(text)
}

fn pinned(name: &str) -> Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/golden");
    let text = fs::read_to_string(folder.join(name))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Where unpacked programs have their libraries, as a search path; none where nothing is unpacked.
fn libraries(patterns: &[&str]) -> Result<Option<OsString>> {
    let Some(tree) = unpacked().and_then(|usr| usr.parent().map(Path::to_path_buf)) else {
        return Ok(None);
    };
    let mut found: Vec<PathBuf> = vec![];
    for pattern in patterns {
        let mut here = vec![tree.clone()];
        for part in pattern.split('/') {
            let inside = here
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flatten()
                .flatten();
            here = inside
                .filter(|entry| fits(part, &entry.file_name().to_string_lossy()))
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .collect();
        }
        found.extend(here);
    }
    Ok((!found.is_empty())
        .then(|| std::env::join_paths(found))
        .transpose()?)
}

/// Does a name fit a pattern with one star at most?
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((begin, end)) => {
            name.starts_with(begin) && name.ends_with(end) || pattern == "*.*" && name.contains('.')
        }
        None => pattern == name,
    }
}

/// A SIEM that takes lines.
struct Collector {
    port: u16,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        // It ends with the test; what it waits for costs nothing.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(stream, &kept));
            }
        });
        Ok(Self { port, bytes })
    }

    fn lines(&self) -> Vec<String> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().map(str::to_owned).collect()
    }
}

fn take(mut stream: TcpStream, kept: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 65_536];
    while let Ok(got @ 1..) = stream.read(&mut chunk) {
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&chunk[..got]);
    }
}
