//! Programs that people run: servers of several makes, on loopback ports that are free, as root on a host.
//!
//! `cargo test -p portwatch-tests --test programs -- [--rung RUNG] [FILTER]`. A program that is not
//! installed is skipped by name.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::program::{
    Program, find, free_tcp_port, free_udp_port, nginx, wait_for,
};
use portwatch_tests::harness::{
    Capability, Company, Context, Event, Outcome, Part, Scenario, Sees, Watch, locate, suite,
};
use serde_json::json;

fn main() -> ExitCode {
    suite::run(&[
        Scenario {
            name: "nginx_master_and_workers",
            run: nginx_master_and_workers,
            company: Company::Together,
            part: Part::Kernel,
        },
        Scenario {
            name: "redis_on_tcp_and_unix",
            run: redis_on_tcp_and_unix,
            company: Company::Together,
            part: Part::Kernel,
        },
        Scenario {
            name: "python_http_server",
            run: python_http_server,
            company: Company::Together,
            part: Part::Kernel,
        },
        Scenario {
            name: "python_udp_server",
            run: python_udp_server,
            company: Company::Together,
            part: Part::Kernel,
        },
        Scenario {
            name: "threaded_server",
            run: threaded_server,
            company: Company::Together,
            part: Part::Kernel,
        },
        Scenario {
            name: "socket_activation",
            run: socket_activation,
            company: Company::Together,
            part: Part::Kernel,
        },
        Scenario {
            name: "named_network_namespace",
            run: named_network_namespace,
            company: Company::Together,
            part: Part::Kernel,
        },
    ])
}

fn absent(program: &str) -> Outcome {
    Outcome::Skipped(format!("{program} is not installed"))
}

/// The opening of a socket of this protocol on this port, told as exactly as the rung can. The suite's
/// own, by which it found that the port is free, is another.
fn opening(watch: &Watch, capability: Capability, protocol: &str, port: u16) -> Result<Event> {
    watch.expect(
        &format!("opening of {protocol} port {port}"),
        watch.rung().sees(capability),
        0,
        |event| event.number("socket.port") == Some(port.into()),
        |event| {
            event.is_opening()
                && !event.has_pid(std::process::id())
                && event.text("socket.protocol") == protocol
                && event.number("socket.port") == Some(port.into())
        },
    )
}

/// The closing of the socket that was opened with this event.
fn closing(watch: &Watch, capability: Capability, opened: &Event) -> Result<Event> {
    let inode = opened
        .number("socket.inode")
        .context("an opening without an inode")?;
    watch.expect(
        &format!("closing of socket {inode}"),
        watch.rung().sees(capability),
        opened.index + 1,
        |event| event.has_inode(inode),
        |event| event.has_inode(inode) && event.kind() == "listener.closed",
    )
}

/// The master opens, the workers serve: opener and holders are not the same.
fn nginx_master_and_workers(context: &Context) -> Result<Outcome> {
    let Some(program) = find("nginx") else {
        return Ok(absent("nginx"));
    };
    let watch = context.watch()?;
    let port = free_tcp_port()?;
    let mut nginx = nginx(&program, port, 2)?;
    let opened = opening(watch, Capability::TcpListen, "tcp", port)?;
    demand_all(
        &opened,
        &json!({
            "process.pid": nginx.pid(), "process.exe": nginx.exe()?, "socket.backlog": 511,
            "socket.address": "127.0.0.1", "socket.exposure": "loopback", "process.uid": 0,
        }),
    )?;
    let inode = opened
        .number("socket.inode")
        .context("an opening without an inode")?;
    watch.expect(
        "master and two workers as owners",
        Sees::ByReconcile,
        opened.index,
        |event| event.has_inode(inode),
        |event| event.has_inode(inode) && event.owner_pids().len() == 3,
    )?;
    nginx.end()?;
    closing(watch, Capability::TcpClose, &opened)?;
    Ok(Outcome::Done)
}

fn redis_on_tcp_and_unix(context: &Context) -> Result<Outcome> {
    let Some(program) = find("redis-server") else {
        return Ok(absent("redis-server"));
    };
    let watch = context.watch()?;
    let port = free_tcp_port()?;
    let mut redis = Program::start(|folder| {
        let mut command = Command::new(&program);
        command
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--tcp-backlog", "100", "--unixsocket"])
            .arg(folder.path().join("redis.sock"))
            .arg("--dir")
            .arg(folder.path());
        Ok(command)
    })?;
    wait_for(port).with_context(|| redis.errors())?;
    let tcp = opening(watch, Capability::TcpListen, "tcp", port)?;
    demand_all(
        &tcp,
        &json!({
            "process.pid": redis.pid(), "process.exe": redis.exe()?, "socket.backlog": 100,
        }),
    )?;
    let path = redis.folder().path().canonicalize()?.join("redis.sock");
    let path = path.to_str().context("a temporary path that is no UTF-8")?;
    let unix = watch.expect(
        "opening of redis.sock",
        context.sees(Capability::Unix)?,
        0,
        |event| event.text("socket.family") == "unix",
        |event| event.is_opening() && event.text("socket.path") == path,
    )?;
    demand_all(
        &unix,
        &json!({"process.pid": redis.pid(), "socket.type": "stream"}),
    )?;
    redis.end()?;
    closing(watch, Capability::TcpClose, &tcp)?;
    closing(watch, Capability::UnixClose, &unix)?;
    Ok(Outcome::Done)
}

/// A system's own Python rather than a version manager's script.
fn python() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    if system.is_file() {
        Some(system)
    } else {
        find("python3")
    }
}

fn python_http_server(context: &Context) -> Result<Outcome> {
    let Some(program) = python() else {
        return Ok(absent("python3"));
    };
    let watch = context.watch()?;
    let port = free_tcp_port()?;
    let mut server = Program::start(|folder| {
        let mut command = Command::new(&program);
        command
            .args([
                "-m",
                "http.server",
                "--bind",
                "127.0.0.1",
                &port.to_string(),
            ])
            .current_dir(folder.path());
        Ok(command)
    })?;
    let opened =
        opening(watch, Capability::TcpListen, "tcp", port).with_context(|| server.errors())?;
    let folder = server.folder().path().canonicalize()?;
    demand_all(
        &opened,
        &json!({
            "process.pid": server.pid(), "process.exe": server.exe()?, "process.cwd": folder,
            "socket.backlog": 5, "socket.address": "127.0.0.1",
        }),
    )?;
    ensure!(
        opened.has_argument("http.server"),
        "other arguments: {}",
        opened.value()
    );
    server.end()?;
    closing(watch, Capability::TcpClose, &opened)?;
    Ok(Outcome::Done)
}

fn python_udp_server(context: &Context) -> Result<Outcome> {
    let Some(program) = python() else {
        return Ok(absent("python3"));
    };
    let watch = context.watch()?;
    let port = free_udp_port()?;
    let script = format!(
        "import socket, sys\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.bind(('127.0.0.1', {port}))\n\
         sys.stdin.read()\n"
    );
    let mut server = Program::start(|_| {
        let mut command = Command::new(&program);
        command.args(["-c", &script]);
        Ok(command)
    })?;
    let opened =
        opening(watch, Capability::UdpBind, "udp", port).with_context(|| server.errors())?;
    demand_all(
        &opened,
        &json!({"process.pid": server.pid(), "process.exe": server.exe()?, "socket.type": "dgram"}),
    )?;
    // Line ends inside an argument are escaped, not printed.
    let told = opened.at("process.args").to_string();
    ensure!(
        !told.contains(r"\n"),
        "a raw line end in an argument: {told}"
    );
    server.end()?;
    closing(watch, Capability::UdpClose, &opened)?;
    Ok(Outcome::Done)
}

fn threaded_server(context: &Context) -> Result<Outcome> {
    let watch = context.watch()?;
    let actor = locate::actor()?;
    let mut server = Program::start(|_| {
        let mut command = Command::new(&actor);
        command.args(["threads", "4", "threaded-server"]);
        Ok(command)
    })?;
    let mut line = String::new();
    BufReader::new(server.output()?).read_line(&mut line)?;
    let port: u16 = line
        .trim()
        .parse()
        .with_context(|| format!("no port: {line:?}"))?;
    for _ in 0..4 {
        let mut greeting = String::new();
        BufReader::new(TcpStream::connect(("127.0.0.1", port))?).read_line(&mut greeting)?;
        ensure!(greeting == "hello\n", "greeted with {greeting:?}");
    }
    let opened = opening(watch, Capability::TcpListen, "tcp", port)?;
    demand_all(
        &opened,
        &json!({"process.pid": server.pid(), "process.exe": server.exe()?}),
    )?;
    if context.sees(Capability::TcpListen)? == Sees::Exactly {
        let tid = opened.number("process.tid").context("no tid")?;
        ensure!(
            tid != u64::from(server.pid()),
            "the leader did not listen: {}",
            opened.value()
        );
    }
    server.end()?;
    closing(watch, Capability::TcpClose, &opened)?;
    Ok(Outcome::Done)
}

/// The activator opens, and becomes the service: same process and socket, another program.
fn socket_activation(context: &Context) -> Result<Outcome> {
    let Some(program) = find("systemd-socket-activate") else {
        return Ok(absent("systemd-socket-activate"));
    };
    let Some(service) = find("sleep") else {
        return Ok(absent("sleep"));
    };
    let watch = context.watch()?;
    let port = free_tcp_port()?;
    let mut activator = Program::start(|_| {
        let mut command = Command::new(&program);
        command
            .arg("-l")
            .arg(format!("127.0.0.1:{port}"))
            .arg(&service)
            .arg("30");
        Ok(command)
    })?;
    let opened =
        opening(watch, Capability::TcpListen, "tcp", port).with_context(|| activator.errors())?;
    demand_all(
        &opened,
        &json!({"process.pid": activator.pid(), "process.exe": program}),
    )?;
    wait_for(port)?;
    let inode = opened
        .number("socket.inode")
        .context("an opening without an inode")?;
    watch.absent(
        "closing on activation",
        Capability::TcpListen,
        opened.index + 1,
        |event| event.has_inode(inode) && event.kind() == "listener.closed",
    )?;
    activator.end()?;
    closing(watch, Capability::TcpClose, &opened)?;
    Ok(Outcome::Done)
}

/// A namespace made by `ip netns`, removed when dropped.
struct NamedNamespace {
    ip: PathBuf,
    name: String,
}

impl NamedNamespace {
    fn new(ip: PathBuf) -> Result<Self> {
        let name = format!("portwatch-test-{}", std::process::id());
        let status = Command::new(&ip).args(["netns", "add", &name]).status()?;
        ensure!(status.success(), "ip netns add ended with {status}");
        Ok(Self { ip, name })
    }
}

impl Drop for NamedNamespace {
    fn drop(&mut self) {
        if let Err(error) = Command::new(&self.ip)
            .args(["netns", "del", &self.name])
            .status()
        {
            eprintln!("namespace {} stays: {error}", self.name);
        }
    }
}

fn named_network_namespace(context: &Context) -> Result<Outcome> {
    let (Some(ip), Some(python)) = (find("ip"), python()) else {
        return Ok(absent("ip or python3"));
    };
    let watch = context.watch()?;
    let namespace = NamedNamespace::new(ip)?;
    let port = free_tcp_port()?;
    let server = Program::start(|_| {
        let mut command = Command::new(&namespace.ip);
        command
            .args(["netns", "exec", &namespace.name])
            .arg(&python)
            .args(["-m", "http.server", "--bind", "0.0.0.0", &port.to_string()]);
        Ok(command)
    })?;
    let opened =
        opening(watch, Capability::TcpListen, "tcp", port).with_context(|| server.errors())?;
    let inode = rustix::fs::stat(format!("/run/netns/{}", namespace.name))?.st_ino;
    demand_all(
        &opened,
        &json!({
            "process.pid": server.pid(), "process.exe": server.exe()?, "socket.netns": inode,
            "socket.exposure": "other-namespace",
        }),
    )?;
    drop(server);
    closing(watch, Capability::TcpClose, &opened)?;
    Ok(Outcome::Done)
}
