//! Metrics of the daemon: what it says of itself is what a scraper reads, and Prometheus itself takes it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::daemon::{Daemon, Home};
use portwatch_tests::harness::program::{Program, find, free_tcp_port, wait_for};
use portwatch_tests::harness::receiver::get_json;
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome};
use serde_json::Value;

use super::scenarios;

scenarios!(userland "metrics": scraped, in_a_file, by_prometheus, a_taken_port_does_not_blind);

const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Values by name with labels, as they stand in the page.
type Samples = BTreeMap<String, f64>;

/// Over a unix socket: the page agrees with `status`, its counters move, and the listener itself is learned.
fn scraped(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let path = home.path("run/metrics.sock");
    let daemon = start(
        &home,
        context,
        &format!("listen = \"unix:{}\"", path.display()),
    )?;
    let mode = fs::metadata(&path)?.permissions().mode();
    ensure!(mode & 0o777 == 0o660, "mode {mode:o}");
    let before = scrape_unix(&path)?;
    ensure!(before.get("portwatch_ready") == Some(&1.0), "{before:?}");
    let mut actor = Actor::start("scraped")?;
    let socks = [1, 2, 3].map(|host| actor.listener(Kind::TCP4, &format!("127.90.0.{host}:0"), 1));
    let opened = r#"portwatch_events_total{type="listener.opened"}"#;
    let present = r#"portwatch_events_total{type="listener.present"}"#;
    let told = |page: &Samples| page[opened] + page[present];
    let after = until(|| {
        let page = scrape_unix(&path)?;
        Ok((told(&page) >= told(&before) + 3.0).then_some(page))
    })?;
    for sock in socks {
        sock?;
    }
    ensure!(
        after["portwatch_heartbeats_total"] > before["portwatch_heartbeats_total"],
        "no heartbeat"
    );
    if after[opened] > before[opened] {
        ensure!(
            after["portwatch_event_latency_seconds_count"] > 0.0
                && after["portwatch_event_latency_seconds_sum"] > 0.0,
            "seen live, and no latency: {after:?}"
        );
    }
    // What does not move by itself is the same in both.
    let status = status(&home)?;
    for signal in status["mechanisms"].as_array().context("no mechanisms")? {
        let (signal, mechanism) = (&signal["signal"], &signal["mechanism"]);
        let sample =
            format!("portwatch_signal_mechanism_info{{signal={signal},mechanism={mechanism}}}");
        ensure!(after.contains_key(&sample), "no {sample}");
    }
    for ring in status["rings"].as_array().context("no rings")? {
        let sample = format!("portwatch_ring_capacity_bytes{{ring={}}}", ring["ring"]);
        ensure!(
            after.get(&sample).copied() == ring["capacity_bytes"].as_f64(),
            "{sample}: {ring}"
        );
    }
    ensure!(
        status["metrics"]["answered"].as_u64() >= Some(2),
        "{}",
        status["metrics"]
    );
    ensure!(
        !after
            .keys()
            .any(|name| name.starts_with("portwatch_probe_runs"))
            || status.get("probes").is_some(),
        "costs that status does not tell"
    );
    // Found by the first look, and learned with the rest.
    let listed = home
        .command()?
        .args(["ls", "-o", "json"])
        .arg(format!("path == \"{}\"", path.display()))
        .output()?;
    let listed: Value =
        serde_json::from_slice(&listed.stdout).context("the listener is not listed")?;
    ensure!(
        listed["policy"]["state"] == "baseline" && listed["process"]["pid"] == daemon.pid(),
        "{listed}"
    );
    drop(daemon);
    Ok(())
}

/// The file is whole, readable, follows, is free of complaint by promtool, and goes with the daemon.
fn in_a_file(context: &Context) -> Result<Outcome> {
    let home = Home::new()?;
    let path = home.path("portwatch.prom");
    let daemon = start(
        &home,
        context,
        &format!("textfile = \"{}\"", path.display()),
    )?;
    let page = until(|| Ok(fs::read_to_string(&path).ok()))?;
    let mode = fs::metadata(&path)?.permissions().mode();
    ensure!(mode & 0o777 == 0o644, "mode {mode:o}");
    ensure!(parse(&page)?["portwatch_ready"] > 0.0, "{page}");
    daemon.signal(rustix::process::Signal::TERM)?;
    until(|| Ok((!path.exists()).then_some(())))
        .context("figures of a daemon that has ended are still there")?;
    let stat = format!("/proc/{}/stat", daemon.pid());
    until(|| Ok(fs::read_to_string(&stat)?.contains(") Z ").then_some(())))?;
    let told = fs::read_to_string(home.path("errors"))?;
    ensure!(!told.contains("ERROR"), "its end: {told}");
    let Some(promtool) = find("promtool") else {
        return Ok(Outcome::Skipped("promtool is not installed".to_owned()));
    };
    let mut check = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    check
        .stdin
        .take()
        .context("no input")?
        .write_all(page.as_bytes())?;
    let told = check.wait_with_output()?;
    ensure!(
        told.status.success() && told.stderr.is_empty(),
        "promtool: {}",
        String::from_utf8_lossy(&told.stderr)
    );
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/portwatch.rules.test.yml");
    for (word, file) in [("check", rules()), ("test", cases)] {
        let told = Command::new(&promtool)
            .args([word, "rules"])
            .arg(file)
            .output()?;
        ensure!(
            told.status.success(),
            "promtool {word}: {}{}",
            String::from_utf8_lossy(&told.stdout),
            String::from_utf8_lossy(&told.stderr)
        );
    }
    Ok(Outcome::Done)
}

/// A real Prometheus scrapes, in the format it likes best, answers a query, and knows the rules.
fn by_prometheus(context: &Context) -> Result<Outcome> {
    let Some(program) = find("prometheus") else {
        return Ok(Outcome::Skipped("prometheus is not installed".to_owned()));
    };
    let home = Home::new()?;
    let (ours, theirs) = (free_tcp_port()?, free_tcp_port()?);
    let _daemon = start(&home, context, &format!("listen = \"127.0.0.1:{ours}\""))?;
    let prometheus = Program::start_unpacked(&program, |folder| {
        let file = folder.path().join("prometheus.yml");
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: portwatch, static_configs: [{{targets: ['127.0.0.1:{ours}']}}]}}]\n",
            rules().display()
        );
        fs::write(&file, configuration)?;
        let mut command = Command::new(&program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{theirs}"));
        Ok(command)
    })?;
    wait_for(theirs).with_context(|| prometheus.errors())?;
    let ask = |query: &str| -> Result<Option<f64>> {
        let answer = get_json(theirs, &format!("/api/v1/query?query={query}"))?;
        let value = answer
            .pointer("/data/result/0/value/1")
            .and_then(Value::as_str);
        Ok(value.map(str::parse).transpose()?)
    };
    // Sums are over all: queries stay free of what would have to be encoded.
    // Until it has read its own disk it answers nothing.
    let up =
        until(|| Ok(ask("portwatch_ready").ok().flatten())).with_context(|| prometheus.errors())?;
    ensure!(up > 0.0, "not ready");
    let first = ask("portwatch_heartbeats_total")?.context("no heartbeat")?;
    until(|| Ok(ask("portwatch_heartbeats_total")?.filter(|now| *now > first + 1.0)))?;
    let buckets = ask("count(portwatch_event_latency_seconds_bucket)")?;
    ensure!(buckets >= Some(10.0), "buckets: {buckets:?}");
    let targets = get_json(theirs, "/api/v1/targets")?;
    let target = targets
        .pointer("/data/activeTargets/0")
        .context("no target")?;
    ensure!(
        target["health"] == "up" && target["lastError"] == "",
        "{target}"
    );
    let rules = get_json(theirs, "/api/v1/rules")?;
    let rules = rules
        .pointer("/data/groups/0/rules")
        .and_then(Value::as_array)
        .context("no rules")?
        .clone();
    ensure!(rules.len() >= 8, "{} rules", rules.len());
    for rule in rules {
        ensure!(
            rule["lastError"].as_str().unwrap_or_default().is_empty(),
            "{rule}"
        );
        ensure!(
            rule["state"] != "firing",
            "all is well, and it fires: {rule}"
        );
    }
    Ok(Outcome::Done)
}

/// Whoever takes the port first keeps nobody from watching; the daemon says so, where it is asked.
fn a_taken_port_does_not_blind(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let _daemon = start(&home, context, &format!("listen = \"127.0.0.1:{port}\""))?;
    let told = status(&home)?;
    ensure!(
        told["ready"] == true
            && told["metrics"]["error"]
                .as_str()
                .is_some_and(|error| error.contains("Address already in use")),
        "{}",
        told["metrics"]
    );
    // And nobody outside of this host is served, ever.
    let wrong = "[metrics]\nlisten = \"0.0.0.0:9731\"\n";
    fs::write(home.path("wrong.toml"), wrong)?;
    let check = home
        .command()?
        .arg("check")
        .arg(home.path("wrong.toml"))
        .output()?;
    let sentence = String::from_utf8_lossy(&check.stderr).into_owned();
    ensure!(
        check.status.code() == Some(78) && sentence.contains("opens nothing to the network"),
        "{check:?}"
    );
    Ok(())
}

fn start(home: &Home, context: &Context, keys: &str) -> Result<Daemon> {
    fs::write(home.path("portwatch.toml"), format!("[metrics]\n{keys}\n"))?;
    home.start(context.rung())
}

fn status(home: &Home) -> Result<Value> {
    let status = home.command()?.args(["status", "-o", "json"]).output()?;
    serde_json::from_slice(&status.stdout).context("no status")
}

fn scrape_unix(path: &Path) -> Result<Samples> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(REQUEST.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").context("no head")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    parse(page)
}

fn parse(page: &str) -> Result<Samples> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context("no value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/prometheus/portwatch.rules.yml")
}

/// Asks until there is an answer.
fn until<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("it did not come within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
