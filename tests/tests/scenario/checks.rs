//! Active checks: what listens must answer too, and real servers do.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::program::{Program, find, free_tcp_port, nginx, wait_for};
use portwatch_tests::harness::watch::scale;
use portwatch_tests::harness::{Actor, Context, Event, Kind, Outcome, Watch};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scenarios;

scenarios!(
    userland "checks": a_hung_server_is_down, real_servers_answer, another_host_must_answer,
    what_is_out_of_reach_need_only_listen,
);

const PATIENCE: Duration = Duration::from_secs(30);

/// Without ever being told of: servers that are slow on a crowded machine are not what is tried.
const FOR_EVER: &str = "check_every = \"2s\"\ncheck_timeout = \"2s\"\ncheck_failures = 100\n";

/// A portwatch with these rules.
fn watching(context: &Context, rules: &str) -> Result<(Watch, TempDir)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("portwatch.toml");
    fs::write(&file, rules)?;
    let file = file.to_str().context("a path that is text")?;
    Ok((context.fresh(&["--config", file])?, folder))
}

fn told(watch: &Watch, kind: &str, rule: &str, after: usize) -> Result<Event> {
    let found = watch.next_after(after, PATIENCE, |event| {
        event.kind() == kind && event.text("policy.rule") == rule
    });
    found.with_context(|| format!("no {kind} of {rule}: {}", watch.complaints()))
}

/// A stopped process still listens, and the kernel still takes connections for it.
fn a_hung_server_is_down(context: &Context) -> Result<Outcome> {
    let Some(program) = find("nginx") else {
        return Ok(Outcome::Skipped("nginx is not installed".to_owned()));
    };
    let port = free_tcp_port()?;
    let mut nginx = nginx(&program, port, 1)?;
    let rules = format!(
        "[[expect]]\nname = \"web\"\nproto = \"tcp\"\nport = {port}\ngrace = \"2s\"\ncheck = \"http\"\n\
         check_every = \"1s\"\ncheck_timeout = \"1s\"\ncheck_failures = 2\n"
    );
    let (watch, _folder) = watching(context, &rules)?;
    let group = i32::try_from(nginx.pid()).ok().and_then(Pid::from_raw);
    let group = group.context("no pid")?;
    kill_process_group(group, Signal::STOP)?;
    let down = told(&watch, "listener.down", "web", 0);
    kill_process_group(group, Signal::CONT)?;
    let down = down?;
    demand_all(
        &down,
        &json!({
            "severity": "critical", "socket.port": port, "process.name": "nginx", "check.protocol": "http",
            "check.target": format!("127.0.0.1:{port}"), "check.error": "no answer within 1 s", "check.failures": 2,
        }),
    )?;
    let said = down.text("message");
    ensure!(
        said.contains("but did not answer http") && said.starts_with("web is down: nginx (pid "),
        "{said}"
    );
    let back = told(&watch, "listener.recovered", "web", down.index)?;
    demand_all(
        &back,
        &json!({"socket.port": port, "check.protocol": "http", "check.error": null, "check.failures": null}),
    )?;
    ensure!(
        back.number("duration_ms") > down.number("duration_ms"),
        "down {}, back {}",
        down.value(),
        back.value()
    );
    // The next time nothing listens, which is told in the same way but for the check.
    nginx.end()?;
    let gone = told(&watch, "listener.down", "web", back.index)?;
    demand_all(&gone, &json!({"check": null, "socket.port": port}))?;
    let downs = watch.all(|event| event.kind() == "listener.down");
    ensure!(downs.len() == 2, "down {} times", downs.len());
    watch.interrupt()?;
    watch.check_stream()?;
    Ok(Outcome::Done)
}

/// A server, and the rules that expect it: name, conditions and check.
struct Server {
    rules: Vec<(&'static str, String)>,
    start: Box<dyn FnOnce() -> Result<Program>>,
}

/// portwatch looks first. Each server that starts is back only when it has answered in its own protocol.
fn real_servers_answer(context: &Context) -> Result<Outcome> {
    let sockets = tempfile::tempdir()?;
    let offered = [
        web()?,
        redis(sockets.path())?,
        python()?,
        ssh()?,
        dns()?,
        mailboxes()?,
    ];
    let servers: Vec<Server> = offered.into_iter().flatten().collect();
    if servers.is_empty() {
        return Ok(Outcome::Skipped("no server is installed".to_owned()));
    }
    let rules: String = servers
        .iter()
        .flat_map(|server| &server.rules)
        .map(|(name, keys)| {
            format!("[[expect]]\nname = \"{name}\"\ngrace = \"1s\"\n{keys}\n{FOR_EVER}")
        })
        .collect();
    let (watch, _folder) = watching(context, &rules)?;
    let names: Vec<&str> = servers
        .iter()
        .flat_map(|server| server.rules.iter().map(|(name, _)| *name))
        .collect();
    for name in &names {
        let down = told(&watch, "listener.down", name, 0)?;
        demand_all(&down, &json!({"check": null, "socket": null}))?;
    }
    let mut running = Vec::new();
    for server in servers {
        running.push((server.start)()?);
    }
    for name in &names {
        let back = told(&watch, "listener.recovered", name, 0);
        let back = back.with_context(|| {
            let errors: Vec<String> = running.iter().map(Program::errors).collect();
            errors.join("\n---\n")
        })?;
        let protocol = name.split('-').next_back().unwrap_or_default();
        demand_all(
            &back,
            &json!({"check.protocol": protocol, "severity": "notice"}),
        )?;
    }
    let own = watch.all(|event| event.has_pid(watch.pid()));
    ensure!(own.is_empty(), "it tells of itself: {}", own[0].value());
    for program in &running {
        let log = program.errors();
        let rude = [
            "kex_exchange",
            "banner exchange",
            "Bad packet",
            "Connection reset",
        ];
        ensure!(
            !rude.iter().any(|word| log.contains(word)),
            "not left politely: {log}"
        );
    }
    watch.interrupt()?;
    watch.check_stream()?;
    Ok(Outcome::Done)
}

/// Nobody listens there; then somebody does.
fn another_host_must_answer(context: &Context) -> Result<()> {
    let port = free_tcp_port()?;
    let rules = format!(
        "[[expect]]\nname = \"far\"\nport = {port}\nseverity = \"warning\"\ncheck = \"connect\"\n\
         check_host = \"127.87.0.1\"\ncheck_every = \"1s\"\ncheck_failures = 2\n"
    );
    let (watch, _folder) = watching(context, &rules)?;
    let down = told(&watch, "listener.down", "far", 0)?;
    let target = format!("127.87.0.1:{port}");
    demand_all(
        &down,
        &json!({
            "severity": "warning", "socket": null, "process": null, "check.target": target,
            "check.error": "connection refused", "check.failures": 2,
        }),
    )?;
    let listener = TcpListener::bind(("127.87.0.1", port))?;
    let back = told(&watch, "listener.recovered", "far", 0)?;
    demand_all(&back, &json!({"check.target": target, "socket": null}))?;
    let said = back.text("message");
    ensure!(said.ends_with(" takes connections"), "{said}");
    // A listener of this host is none of the other one's.
    let opened = watch.next_after(0, PATIENCE, |event| {
        event.is_opening() && event.number("socket.port") == Some(port.into())
    });
    let opened = opened.context("the listener was not told")?;
    demand_all(&opened, &json!({"policy.rule": "default"}))?;
    drop(listener);
    watch.interrupt()?;
    watch.check_stream()
}

/// In another network namespace nothing can be asked; `status` says so, and nothing is told to be down.
fn what_is_out_of_reach_need_only_listen(context: &Context) -> Result<()> {
    let home = Home::new()?;
    let silent = TcpListener::bind("127.88.0.1:0")?;
    let port = silent.local_addr()?.port();
    fs::write(
        home.path("portwatch.toml"),
        format!(
            "[[expect]]\nname = \"inside\"\nport = 8080\nmatch = \"args contains check-inside\"\ncheck = \"http\"\n\
             check_every = \"1s\"\ncheck_failures = 1\n\
             [[expect]]\nname = \"silent\"\naddress = \"127.88.0.1\"\nport = {port}\ncheck = \"http\"\n\
             check_every = \"1s\"\ncheck_timeout = \"500ms\"\ncheck_failures = 100\n"
        ),
    )?;
    let mut actor = Actor::start("check-inside")?;
    actor.call("unshare-net")?;
    let sock = actor.socket(Kind::TCP4)?;
    actor.call(&format!("bind {} 0.0.0.0:8080", sock.slot))?;
    actor.listen(&sock, 1)?;
    let _daemon = home.start(context.rung())?;
    let deadline = Instant::now() + PATIENCE * scale();
    loop {
        let output = home.command()?.args(["status", "-o", "json"]).output()?;
        let status: Value = serde_json::from_slice(&output.stdout)?;
        let checks = &status["checks"];
        let failed = checks["failing_rules"][0]["failures"].as_u64();
        if failed >= Some(2) {
            ensure!(
                checks["total"] == 2 && checks["failing"] == 1 && checks["beyond"] == 1,
                "{checks}"
            );
            let inside = &checks["beyond_rules"][0];
            ensure!(
                inside["rule"] == "inside"
                    && inside["error"] == "it listens in another network namespace",
                "{checks}"
            );
            ensure!(
                status["counters"]["events"]["listener.down"].is_null(),
                "down: {status}"
            );
            break;
        }
        ensure!(Instant::now() < deadline, "no check failed: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = fs::read_to_string(home.path("errors"))?;
    ensure!(
        log.contains("cannot be asked whether it answers"),
        "not in the log: {log}"
    );
    let shown = home.command()?.arg("status").output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(
        shown.contains("checks       2, 1 failing: silent (http: no answer within 500 ms)")
            && shown.contains("1 out of reach: inside"),
        "{shown}"
    );
    Ok(())
}

/// nginx with a page, and the same within TLS under a certificate that nobody knows.
fn web() -> Result<Option<Server>> {
    let (Some(nginx), Some(openssl)) = (find("nginx"), find("openssl")) else {
        return Ok(None);
    };
    let (plain, secure) = (free_tcp_port()?, free_tcp_port()?);
    Ok(Some(Server {
        rules: vec![
            (
                "nginx-http",
                format!("proto = \"tcp\"\nport = {plain}\ncheck = \"http\"\ncheck_path = \"/up\""),
            ),
            (
                "nginx-https",
                format!(
                    "proto = \"tcp\"\nport = {secure}\ncheck = \"https\"\ncheck_name = \"web.example\"\ncheck_path = \"/up\""
                ),
            ),
        ],
        start: Box::new(move || {
            Program::start(|folder| {
                let path = folder.path();
                let made = Command::new(&openssl)
                    .args([
                        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    ])
                    .args(["-subj", "/CN=nobody", "-keyout"])
                    .arg(path.join("key"))
                    .arg("-out")
                    .arg(path.join("certificate"))
                    .stderr(Stdio::null())
                    .status()?;
                ensure!(made.success(), "openssl: {made}");
                let at = path.display();
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .iter()
                    .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
                    .collect();
                let configuration = path.join("nginx.conf");
                fs::write(
                    &configuration,
                    format!(
                        "daemon off; worker_processes 1; pid {at}/pid; error_log stderr;\n\
                         events {{ worker_connections 64; }}\n\
                         http {{ access_log off; {temporary}\
                         server {{ listen 127.0.0.1:{plain}; location /up {{ return 204; }} }}\n\
                         server {{ listen 127.0.0.1:{secure} ssl; server_name web.example;\n\
                         ssl_certificate {at}/certificate; ssl_certificate_key {at}/key;\n\
                         location /up {{ return 200 up; }} }} }}\n"
                    ),
                )?;
                let mut command = Command::new(&nginx);
                command
                    .arg("-p")
                    .arg(path)
                    .args(["-e", "stderr", "-c"])
                    .arg(configuration);
                Ok(command)
            })
        }),
    }))
}

/// One that wants a password, on TCP and on a unix socket.
fn redis(sockets: &Path) -> Result<Option<Server>> {
    let Some(program) = find("redis-server") else {
        return Ok(None);
    };
    let port = free_tcp_port()?;
    let path = sockets.canonicalize()?.join("redis.sock");
    let shown = path.to_str().context("a path that is text")?.to_owned();
    Ok(Some(Server {
        rules: vec![
            ("tcp-redis", format!("port = {port}\ncheck = \"redis\"")),
            (
                "unix-redis",
                format!("path = \"{shown}\"\ncheck = \"redis\""),
            ),
        ],
        start: Box::new(move || {
            Program::start(|folder| {
                let mut command = Command::new(&program);
                command
                    .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                    .args(["--save", "", "--requirepass", "secret", "--unixsocket"])
                    .arg(&path)
                    .arg("--dir")
                    .arg(folder.path());
                Ok(command)
            })
        }),
    }))
}

/// On every address: it is asked on loopback.
fn python() -> Result<Option<Server>> {
    let Some(program) = find("python3") else {
        return Ok(None);
    };
    let port = free_tcp_port()?;
    Ok(Some(Server {
        rules: vec![(
            "python-http",
            format!("proto = \"tcp\"\nport = {port}\ncheck = \"http\""),
        )],
        start: Box::new(move || {
            Program::start(|folder| {
                let mut command = Command::new(&program);
                command
                    .args(["-m", "http.server", "--bind", "0.0.0.0"])
                    .arg(port.to_string())
                    .current_dir(folder.path());
                Ok(command)
            })
        }),
    }))
}

fn ssh() -> Result<Option<Server>> {
    let (Some(sshd), Some(keygen)) = (find("sshd"), find("ssh-keygen")) else {
        return Ok(None);
    };
    let port = free_tcp_port()?;
    Ok(Some(Server {
        rules: vec![(
            "sshd-ssh",
            format!("proto = \"tcp\"\nport = {port}\ncheck = \"ssh\""),
        )],
        start: Box::new(move || {
            // It wants this folder to exist, whatever it is configured to do.
            fs::create_dir_all("/run/sshd")?;
            Program::start(|folder| {
                let key = folder.path().join("key");
                let made = Command::new(&keygen)
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(&key)
                    .status()?;
                ensure!(made.success(), "ssh-keygen: {made}");
                let mut command = Command::new(&sshd);
                command
                    .args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()])
                    .args(["-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none", "-h"])
                    .arg(key);
                Ok(command)
            })
        }),
    }))
}

/// One that refuses every question, over UDP and TCP.
fn dns() -> Result<Option<Server>> {
    let Some(program) = find("dnsmasq") else {
        return Ok(None);
    };
    let port = free_tcp_port()?;
    let rule = |proto: &str| format!("proto = \"{proto}\"\nport = {port}\ncheck = \"dns\"");
    Ok(Some(Server {
        rules: vec![("udp-dns", rule("udp")), ("tcp-dns", rule("tcp"))],
        start: Box::new(move || {
            Program::start(|_| {
                let mut command = Command::new(&program);
                command
                    .args([
                        "--keep-in-foreground",
                        "--conf-file=/dev/null",
                        "--user=root",
                    ])
                    .args(["--listen-address=127.0.0.1", "--bind-interfaces"])
                    .args(["--no-resolv", "--no-hosts", "--pid-file="])
                    .arg(format!("--port={port}"));
                Ok(command)
            })
        }),
    }))
}

/// Dovecot, without and within TLS.
fn mailboxes() -> Result<Option<Server>> {
    let (Some(program), Some(openssl)) = (find("dovecot"), find("openssl")) else {
        return Ok(None);
    };
    let has_both = ["imap-login", "pop3-login"]
        .iter()
        .all(|login| Path::new("/usr/lib/dovecot").join(login).exists());
    if !has_both {
        return Ok(None);
    }
    let ports = [
        free_tcp_port()?,
        free_tcp_port()?,
        free_tcp_port()?,
        free_tcp_port()?,
    ];
    let names = [
        ("dovecot-imap", "imap"),
        ("dovecot-imaps", "imaps"),
        ("dovecot-pop3", "pop3"),
        ("dovecot-pop3s", "pop3s"),
    ];
    let rules = names
        .iter()
        .zip(ports)
        .map(|((name, check), port)| {
            let keys = format!("proto = \"tcp\"\nport = {port}\ncheck = \"{check}\"");
            (*name, keys)
        })
        .collect();
    let [imap, imaps, pop3, pop3s] = ports;
    Ok(Some(Server {
        rules,
        start: Box::new(move || {
            let running = Program::start(|folder| {
                let path = folder.path();
                // Its login processes run as another user.
                fs::set_permissions(path, Permissions::from_mode(0o755))?;
                let made = Command::new(&openssl)
                    .args([
                        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    ])
                    .args(["-subj", "/CN=nobody", "-keyout"])
                    .arg(path.join("key"))
                    .arg("-out")
                    .arg(path.join("certificate"))
                    .stderr(Stdio::null())
                    .status()?;
                ensure!(made.success(), "openssl: {made}");
                let at = path.display();
                let listener = |kind: &str, plain: u16, secure: u16| {
                    format!(
                        "service {kind}-login {{\n\
                         inet_listener {kind} {{\n address = 127.0.0.1\n port = {plain}\n}}\n\
                         inet_listener {kind}s {{\n address = 127.0.0.1\n port = {secure}\n ssl = yes\n}}\n}}\n"
                    )
                };
                let configuration = path.join("dovecot.conf");
                fs::write(
                    &configuration,
                    format!(
                        "protocols = imap pop3\nbase_dir = {at}/run\nstate_dir = {at}/state\n\
                         log_path = /dev/stderr\nssl = yes\nssl_cert = <{at}/certificate\nssl_key = <{at}/key\n\
                         passdb {{\n driver = static\n args = nopassword=y\n}}\n{}{}",
                        listener("imap", imap, imaps),
                        listener("pop3", pop3, pop3s),
                    ),
                )?;
                let mut command = Command::new(&program);
                command.arg("-F").arg("-c").arg(configuration);
                Ok(command)
            })?;
            wait_for(pop3s).with_context(|| running.errors())?;
            Ok(running)
        }),
    }))
}
