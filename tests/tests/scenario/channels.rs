//! Channels of alerts other than mail, with real peers: an HTTP receiver, Alertmanager, programs, a log and a journal.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::address::hex;
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::program::{Program, find, free_tcp_port, wait_for};
use portwatch_tests::harness::receiver::{Authority, Receiver, Request, get_json};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Kind, Outcome};
use serde_json::{Value, json};

use super::scenarios;

scenarios!(userland "channels": webhook_over_tls, answers_of_a_webhook, slack_takes_no_commands, alertmanager_resolves, program_as_nobody, log_and_journal, systemd_journal);

const PATIENCE: Duration = Duration::from_secs(60);
const DONE: (&str, &str, &str) = ("200 OK", "", "ok");
/// Unguessable parts that nothing may show.
const SECRETS: [&str; 3] = ["Xk81hZ3qLm", "tok-9f3b2a77", "sig-55e0c1d4"];

/// Signed, authorized and over TLS; put off once, delivered with the same id; the end of it comes too.
fn webhook_over_tls(context: &Context) -> Result<Outcome> {
    if find("openssl").is_none() {
        return Ok(Outcome::Skipped("openssl is not installed".to_owned()));
    }
    let authority = Authority::new()?;
    let receiver = Receiver::start(Some(&authority), |nth| match nth {
        0 => ("503 Service Unavailable", "Retry-After: 2\r\n", "busy"),
        _ => DONE,
    })?;
    let home = Home::new()?;
    let [path, token, secret] = SECRETS;
    let url = format!("https://127.0.0.1:{}/hook/{path}", receiver.port);
    let [url, token_file, secret_file] = [
        kept_secret(&home, "url", &url)?,
        kept_secret(&home, "token", token)?,
        kept_secret(&home, "secret", secret)?,
    ];
    configure(
        &home,
        "webhook",
        "127.88.0.1",
        &format!(
            "url_file = \"{}\"\ntoken_file = \"{}\"\nsecret_file = \"{}\"\nca_file = \"{}\"\n",
            url.display(),
            token_file.display(),
            secret_file.display(),
            authority.certificate().display()
        ),
    )?;
    let daemon = home.start(context.rung())?;
    let mut actor = Actor::start("channel-hook")?;
    let sock = actor.listener(Kind::TCP4, "127.88.0.1:0", 1)?;
    let asked = Instant::now();
    let requests = receiver.wait_for(2, PATIENCE)?;
    ensure!(
        asked.elapsed() > Duration::from_secs(2),
        "it was asked to wait, and came again at once"
    );
    for request in &requests {
        ensure!(
            request.line == format!("POST /hook/{path}"),
            "{}",
            request.line
        );
        let bearer = format!("Bearer {token}");
        ensure!(
            request.header("authorization") == Some(bearer.as_str()),
            "{request:?}"
        );
        signed(request, secret)?;
    }
    let id = requests[0].header("idempotency-key").context("no id")?;
    ensure!(
        requests[1].header("idempotency-key") == Some(id),
        "another id"
    );
    let began = requests[1].json()?;
    ensure!(requests[0].json()? == began, "another message");
    let port = actor.port(&sock)?;
    for (pointer, expected) in [
        ("/schema", json!("portwatch.alert/1")),
        ("/id", json!(id)),
        ("/count", json!(1)),
        ("/entries/0/phase", json!("began")),
        ("/entries/0/event/type", json!("listener.opened")),
        ("/entries/0/event/socket/port", json!(port)),
        ("/entries/0/event/process/pid", json!(actor.pid)),
    ] {
        ensure!(
            began.pointer(pointer) == Some(&expected),
            "{pointer} of {began}"
        );
    }
    delivered(&home, 1)?;
    actor.close(&sock)?;
    let ended = receiver.wait_for(3, PATIENCE)?[2].json()?;
    for key in ["incident", "since", "severity"] {
        ensure!(
            ended["entries"][0][key] == began["entries"][0][key],
            "another {key}: {ended}"
        );
    }
    ensure!(ended["entries"][0]["phase"] == "ended", "{ended}");
    delivered(&home, 2)?;
    drop(daemon);
    no_secret(&fs::read_to_string(home.path("errors"))?)
}

/// What a server says decides: done, for good, or for later; nothing is followed, and no secret is shown.
fn answers_of_a_webhook(_: &Context) -> Result<Outcome> {
    let elsewhere = Receiver::start(None, |_| DONE)?;
    let receiver = Receiver::start(None, |nth| match nth {
        0 => ("204 No Content", "", ""),
        1 => (
            "404 Not Found",
            "",
            "Cannot POST /hook/Xk81hZ3qLm for tok-9f3b2a77\n",
        ),
        2 => ("302 Found", "Location: http://127.0.0.1:9/\r\n", ""),
        3 => (
            "429 Too Many Requests",
            "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "\u{1b}[31mslow",
        ),
        _ => ("nonsense", "", ""),
    })?;
    let home = Home::new()?;
    let url = format!("http://127.0.0.1:{}/hook/{}", receiver.port, SECRETS[0]);
    let url = kept_secret(&home, "url", &url)?;
    let token = kept_secret(&home, "token", SECRETS[1])?;
    let keys = format!(
        "url_file = \"{}\"\ntoken_file = \"{}\"\ntimeout = \"5s\"\n",
        url.display(),
        token.display()
    );
    configure(&home, "webhook", "127.88.0.2", &keys)?;
    let place = format!("http://127.0.0.1:{}", receiver.port);
    tried(&home, 0, &format!("webhook: taken by {place}: 204"))?;
    tried(&home, 69, &format!("{place}: 404 Cannot POST … for …"))?;
    tried(&home, 69, "302 (redirects are not followed)")?;
    tried(&home, 69, r"429 \x1b[31mslow")?;
    tried(&home, 69, &format!("webhook: not taken: {place}: "))?;
    ensure!(elsewhere.requests().is_empty(), "a redirect was followed");
    ensure!(receiver.requests().len() == 5, "{:?}", receiver.requests());
    // A secret that everybody can read is none, and is not used.
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644))?;
    tried(&home, 69, "everybody can read it")?;
    if find("openssl").is_none() {
        return Ok(Outcome::Done);
    }
    let authority = Authority::new()?;
    let protected = Receiver::start(Some(&authority), |_| DONE)?;
    let url = format!("url = \"https://127.0.0.1:{}/\"\n", protected.port);
    configure(&home, "webhook", "127.88.0.2", &url)?;
    tried(&home, 69, "certificate")?;
    ensure!(protected.requests().is_empty(), "it trusts anybody");
    let url = format!("{url}ca_file = \"{}\"\n", authority.certificate().display());
    configure(&home, "webhook", "127.88.0.2", &url)?;
    tried(&home, 0, "200 ok")?;
    Ok(Outcome::Done)
}

/// A name that a process gave itself is text in a chat, whatever it looks like.
fn slack_takes_no_commands(context: &Context) -> Result<()> {
    let receiver = Receiver::start(None, |_| DONE)?;
    let home = Home::new()?;
    let url = format!(
        "url = \"http://127.0.0.1:{}/\"\nformat = \"slack\"\n",
        receiver.port
    );
    configure(&home, "webhook", "127.88.0.3", &url)?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("channel-slack")?;
    actor.call(&format!("comm {}", hex(b"<!here> & Co")))?;
    let _sock = actor.listener(Kind::TCP4, "127.88.0.3:0", 1)?;
    let request = receiver.wait_for(1, PATIENCE)?.remove(0);
    let body = String::from_utf8(request.body.clone())?;
    ensure!(!body.contains('<') && !body.contains('>'), "{body}");
    let text = request.json()?["text"]
        .as_str()
        .context("no text")?
        .to_owned();
    ensure!(
        text.contains("&lt;!here&gt; &amp; Co (pid "),
        "not told: {text}"
    );
    Ok(())
}

/// Alertmanager has the alert while the listener is there, and resolves it when it is gone.
fn alertmanager_resolves(context: &Context) -> Result<Outcome> {
    let Some(program) = find("prometheus-alertmanager") else {
        return Ok(Outcome::Skipped(
            "prometheus-alertmanager is not installed".to_owned(),
        ));
    };
    let told = Receiver::start(None, |_| DONE)?;
    let (port, told_port) = (free_tcp_port()?, told.port);
    let alertmanager = Program::start_unpacked(&program, |folder| {
        let file = folder.path().join("alertmanager.yml");
        let configuration = format!(
            "route: {{receiver: test, group_by: [incident], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: test, webhook_configs: [{{url: 'http://127.0.0.1:{told_port}/', send_resolved: true}}]}}]\n"
        );
        fs::write(&file, configuration)?;
        let mut command = Command::new(&program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        Ok(command)
    })?;
    wait_for(port).with_context(|| alertmanager.errors())?;
    let home = Home::new()?;
    let url =
        format!("url = \"http://127.0.0.1:{port}/api/v2/alerts\"\nformat = \"alertmanager\"\n");
    configure(&home, "webhook", "127.88.0.4", &url)?;
    let _daemon = home.start(context.rung())?;
    let mut actor = Actor::start("channel-am")?;
    // Misused so often that its begin is a warning; its end is not.
    let sock = actor.listener(Kind::TCP4, "127.88.0.4:4444", 1)?;
    let alerts = until(|| {
        let alerts = get_json(port, "/api/v2/alerts")?;
        let is_there = alerts.as_array().is_some_and(|alerts| !alerts.is_empty());
        Ok(is_there.then_some(alerts))
    })
    .with_context(|| alertmanager.errors())?;
    let alert = &alerts[0];
    ensure!(
        alert["labels"]["alertname"] == "PortwatchListener"
            && alert["labels"]["severity"] == "warning"
            && alert["status"]["state"] != "suppressed",
        "{alerts}"
    );
    let summary = alert["annotations"]["summary"].as_str().unwrap_or_default();
    ensure!(
        summary.contains("listens on 127.88.0.4:4444/tcp"),
        "{summary}"
    );
    let of = |status: &str| {
        until(|| {
            let requests = told.requests();
            let all = requests.iter().map(Request::json);
            let all = all.collect::<Result<Vec<Value>>>()?;
            let found = |one: &&Value| one["alerts"][0]["status"] == status;
            Ok(all.iter().find(found).map(|one| one["alerts"][0].clone()))
        })
    };
    let firing = of("firing")?;
    actor.close(&sock)?;
    let resolved = of("resolved")?;
    for key in ["fingerprint", "labels", "startsAt"] {
        ensure!(firing[key] == resolved[key], "{key}: {firing}, {resolved}");
    }
    let left = get_json(port, "/api/v2/alerts")?;
    ensure!(left == json!([]), "still there: {left}");
    delivered(&home, 2)?;
    Ok(Outcome::Done)
}

/// Runs as nobody, with nothing of the daemon's; killed when it hangs, tried again when it asks for it.
fn program_as_nobody(context: &Context) -> Result<()> {
    let home = Home::new()?;
    home.open_to_all()?;
    let out = home.path("out");
    fs::create_dir(&out)?;
    fs::set_permissions(&out, fs::Permissions::from_mode(0o1777))?;
    let program = home.path("notify");
    let script = format!(
        "#!/bin/sh\ncd {out}\necho $PORTWATCH_ID >>ids\ncase $(wc -l <ids) in\n\
         1) sleep 1000 & echo $! >pid; wait;;\n2) exit 75;;\nesac\n\
         env >env; id -u >user; id -G >groups; ls /proc/self/fd | wc -l >fds; cat >message\n\
         ps -o pid= -o sid= -p $$ >session; grep SigBlk /proc/self/status >mask\nprintf 'told\\033[m'\n",
        out = out.display()
    );
    executable(&program, &script)?;
    let keys = format!(
        "command = [\"{}\", \"$HOME; exit 1\"]\nuser = \"nobody\"\ntimeout = \"5s\"\n",
        program.display()
    );
    configure(&home, "exec", "127.88.0.5", &keys)?;
    let daemon = home.start(context.rung())?;
    let mut actor = Actor::start("channel-exec")?;
    let _sock = actor.listener(Kind::TCP4, "127.88.0.5:0", 1)?;
    delivered(&home, 1)?;
    drop(daemon);
    let read = |name: &str| -> Result<String> {
        let text = fs::read_to_string(out.join(name)).with_context(|| name.to_owned())?;
        Ok(text.trim().to_owned())
    };
    let ids = read("ids")?;
    let ids: Vec<&str> = ids.lines().collect();
    ensure!(
        ids.len() == 3 && ids.iter().all(|id| *id == ids[0]),
        "{ids:?}"
    );
    let sleeper = format!("/proc/{}", read("pid")?);
    ensure!(!Path::new(&sleeper).exists(), "what it started lives on");
    ensure!(
        read("user")? == "65534" && read("groups")? == "65534",
        "{}",
        read("groups")?
    );
    // The three, and the folder that `ls` reads.
    ensure!(read("fds")? == "4", "{} descriptors", read("fds")?);
    ensure!(
        read("mask")?.ends_with("\t0000000000000000"),
        "{}",
        read("mask")?
    );
    let session = read("session")?;
    let mut numbers = session.split_whitespace();
    ensure!(
        numbers.next() == numbers.next(),
        "no session of its own: {session}"
    );
    let message: Value = serde_json::from_str(&read("message")?)?;
    ensure!(
        message["id"] == ids[0] && message["count"] == 1,
        "{message}"
    );
    let environment = read("env")?;
    // What the shell sets by itself is none of ours.
    let names = environment.lines().filter_map(|line| line.split_once('='));
    let mut names: Vec<&str> = names.map(|(name, _)| name).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    let expected = [
        "PATH",
        "PORTWATCH_COUNT",
        "PORTWATCH_EVENT",
        "PORTWATCH_HOST",
        "PORTWATCH_ID",
        "PORTWATCH_INCIDENT",
        "PORTWATCH_PHASE",
        "PORTWATCH_SENTENCE",
        "PORTWATCH_SEVERITY",
        "PORTWATCH_TIME",
    ];
    ensure!(names == expected, "{names:?}");
    ensure!(
        environment.contains("listens on 127.88.0.5:"),
        "{environment}"
    );
    let errors = fs::read_to_string(home.path("errors"))?;
    ensure!(
        errors.contains(r"done: told\\x1b[m") && errors.contains("took too long"),
        "{errors}"
    );
    executable(&program, "#!/bin/sh\necho wrong; exit 3\n")?;
    tried(&home, 69, "ended with 3: wrong")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777))?;
    tried(&home, 69, "everybody can write to it")
}

/// A line for the log, an entry for the journal, as both read them.
fn log_and_journal(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let (log, journal) = (home.path("log"), home.path("journal"));
    let section = |name: &str, socket: &Path, more: &str| {
        format!(
            "[{name}]\nseverity = \"info\"\nmatch = \"address == 127.88.0.6\"\nsocket = \"{}\"\n{more}",
            socket.display()
        )
    };
    let config = [
        section("syslog", &log, "facility = \"authpriv\"\ntag = \"watch\"\n"),
        section("journald", &journal, ""),
    ];
    fs::write(home.path("portwatch.toml"), config.concat())?;
    // Nobody is there yet: it waits in the queue.
    let daemon = home.start(context.rung())?;
    let mut actor = Actor::start("channel-log")?;
    let sock = actor.listener(Kind::TCP4, "127.88.0.6:0", 1)?;
    let port = actor.port(&sock)?;
    until(|| {
        let status = status(&home)?;
        let queued = |at: usize| status["alerts"][at]["queued"] == 1;
        Ok((queued(0) && queued(1)).then_some(()))
    })?;
    let receive = |socket: &UnixDatagram| -> Result<String> {
        socket.set_read_timeout(Some(PATIENCE * scale()))?;
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8(buffer[..length].to_vec())?)
    };
    let line = receive(&UnixDatagram::bind(&log)?)?;
    let sentence = format!("listens on 127.88.0.6:{port}/tcp");
    // authpriv (10), info (6).
    ensure!(
        line.starts_with("<86>") && line.contains(&format!(" watch[{}]: ", daemon.pid())),
        "{line}"
    );
    ensure!(
        line.contains(&sentence) && line.contains("(info, listener.opened, 20"),
        "{line}"
    );
    let entry = receive(&UnixDatagram::bind(&journal)?)?;
    let fields: Vec<(&str, &str)> = entry
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    ensure!(fields.len() == entry.lines().count(), "{entry}");
    let of = |name: &str| {
        let found = fields.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    };
    let expected = [
        ("PRIORITY", "6".to_owned()),
        ("PORTWATCH_PORT", port.to_string()),
        ("PORTWATCH_PID", actor.pid.to_string()),
        ("PORTWATCH_EVENT", "listener.opened".to_owned()),
    ];
    for (name, value) in expected {
        ensure!(of(name) == Some(value.as_str()), "{name} of {entry}");
    }
    ensure!(
        of("MESSAGE").is_some_and(|text| text.contains(&sentence)),
        "{entry}"
    );
    Ok(())
}

/// A journal of systemd's own: `journalctl` finds the entry by its fields, and the line that came by its log socket.
fn systemd_journal(_: &Context) -> Result<Outcome> {
    let program = Path::new("/lib/systemd/systemd-journald");
    if !program.exists() || find("journalctl").is_none() {
        return Ok(Outcome::Skipped("systemd is not installed".to_owned()));
    }
    let namespace = format!("portwatch{}", std::process::id());
    let _left = Left::of(&namespace)?;
    let journald = Program::start(|_| {
        let mut command = Command::new(program);
        command.arg(&namespace);
        Ok(command)
    })?;
    let sockets = PathBuf::from(format!("/run/systemd/journal.{namespace}"));
    let is_up = until(|| Ok(sockets.join("dev-log").exists().then_some(())));
    if is_up.is_err() {
        let why = journald.errors();
        return Ok(Outcome::Skipped(format!(
            "systemd-journald does not run here: {why}"
        )));
    }
    let home = Home::new()?;
    let config = format!(
        "[journald]\nsocket = \"{0}/socket\"\n[syslog]\nsocket = \"{0}/dev-log\"\n",
        sockets.display()
    );
    fs::write(home.path("portwatch.toml"), config)?;
    tried(&home, 0, "taken by")?;
    let read = |matches: &[&str]| -> Result<Value> {
        until(|| {
            let output = Command::new("journalctl")
                .arg(format!("--namespace={namespace}"))
                .args(["-o", "json", "-q"])
                .args(matches)
                .output()?;
            let text = String::from_utf8(output.stdout)?;
            Ok(text.lines().next().map(serde_json::from_str).transpose()?)
        })
    };
    let entry = read(&["PORTWATCH_EVENT=sensor.ready", "_TRANSPORT=journal"])?;
    ensure!(
        entry["SYSLOG_IDENTIFIER"] == "portwatch" && entry["PRIORITY"] == "6",
        "{entry}"
    );
    ensure!(
        entry["MESSAGE"] == "this is a test: alerts of this host reach you",
        "{entry}"
    );
    let line = read(&["SYSLOG_IDENTIFIER=portwatch", "_TRANSPORT=syslog"])?;
    let text = line["MESSAGE"].as_str().unwrap_or_default();
    ensure!(
        text.starts_with("this is a test: ") && line["SYSLOG_FACILITY"] == "3",
        "{line}"
    );
    Ok(Outcome::Done)
}

/// What a journal of a namespace leaves behind: its folders, and those around them that were not there. Where
/// `/var/log/journal` is, the host's own journal would be kept from the next boot on.
struct Left {
    own: Vec<PathBuf>,
    around: Vec<PathBuf>,
}

impl Left {
    fn of(namespace: &str) -> Result<Self> {
        let id = fs::read_to_string("/etc/machine-id")?;
        let folders = ["/run/log/journal", "/var/log/journal"].map(PathBuf::from);
        let journal = |folder: &PathBuf| folder.join(format!("{}.{namespace}", id.trim()));
        let mut own: Vec<PathBuf> = folders.iter().map(journal).collect();
        own.push(format!("/run/systemd/journal.{namespace}").into());
        let around = folders.into_iter().filter(|folder| !folder.exists());
        Ok(Self {
            own,
            around: around.collect(),
        })
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // Not all of them are there, and what somebody else uses by now stays.
        for path in &self.own {
            let _ = fs::remove_dir_all(path);
        }
        for path in &self.around {
            let _ = fs::remove_dir(path);
        }
    }
}

/// A channel of this kind that is told of listeners at this address, and of nothing else.
fn configure(home: &Home, kind: &str, address: &str, keys: &str) -> Result<()> {
    let config = format!("[{kind}]\nseverity = \"info\"\nmatch = \"address == {address}\"\n{keys}");
    fs::write(home.path("portwatch.toml"), config)?;
    Ok(())
}

/// A file that only root can read.
fn kept_secret(home: &Home, name: &str, secret: &str) -> Result<PathBuf> {
    let path = home.path(name);
    fs::write(&path, format!("{secret}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn executable(path: &Path, script: &str) -> Result<()> {
    fs::write(path, script)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `alert test` ends so, and says this and no secret.
fn tried(home: &Home, code: i32, text: &str) -> Result<()> {
    let output: Output = home.command()?.args(["alert", "test"]).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said)?;
    ensure!(
        output.status.code() == Some(code) && said.contains(text),
        "not {code} with {text:?}: {:?}, {said}",
        output.status
    );
    no_secret(&said).map(drop)
}

fn no_secret(text: &str) -> Result<Outcome> {
    for secret in SECRETS {
        ensure!(!text.contains(secret), "{secret} in {text}");
    }
    Ok(Outcome::Done)
}

fn status(home: &Home) -> Result<Value> {
    let output = home.command()?.args(["status", "-o", "json"]).output()?;
    no_secret(&String::from_utf8_lossy(&output.stdout))?;
    serde_json::from_slice(&output.stdout).context("no status")
}

/// Waits until the only channel has delivered so many messages, and has nothing to complain of.
fn delivered(home: &Home, count: u64) -> Result<()> {
    let is_done = || {
        let status = status(home)?;
        let channel = &status["alerts"][0];
        let is_done =
            channel["delivered"] == count && channel["queued"] == 0 && channel["error"].is_null();
        Ok(is_done.then_some(()))
    };
    until(is_done).with_context(|| {
        let errors = fs::read_to_string(home.path("errors")).unwrap_or_default();
        format!("not {count} delivered: {:?}\n{errors}", status(home))
    })
}

fn until<T>(look: impl Fn() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("it does not come");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Another implementation of HMAC comes to the same, and the time is now.
fn signed(request: &Request, secret: &str) -> Result<()> {
    let header = request
        .header("x-portwatch-signature")
        .context("no signature")?;
    let (time, signature) = header
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .with_context(|| header.to_owned())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let age = now.abs_diff(time.parse()?);
    ensure!(age < 120, "signed {age} s ago");
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-r", "-hmac", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = openssl.stdin.take().context("no input")?;
    input.write_all(format!("{time}.").as_bytes())?;
    input.write_all(&request.body)?;
    drop(input);
    let output = openssl.wait_with_output()?;
    let computed = String::from_utf8(output.stdout)?;
    ensure!(
        computed.split(' ').next() == Some(signature),
        "{header} is not {computed}"
    );
    Ok(())
}
