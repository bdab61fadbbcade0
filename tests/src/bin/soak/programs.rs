//! Players that are programs which people run.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portwatch_tests::harness::program::{
    Program, find, free_tcp_port, free_udp_port, nginx as start_nginx, wait_for,
};
use portwatch_tests::harness::watch::scale;

use crate::kernel_view::await_inode;
use crate::stage::{Player, Stage};
use crate::truth::{Id, Mark};

/// How long a program may take until it listens.
const START: Duration = Duration::from_secs(20);

/// A program and what it opened.
struct Served {
    begun: Duration,
    program: Program,
    listeners: Vec<Id>,
}

impl Served {
    /// `begun` is a time before the program was started.
    const fn new(program: Program, begun: Duration) -> Self {
        Self {
            begun,
            program,
            listeners: Vec::new(),
        }
    }

    /// It opened what is found at this place.
    fn has(
        mut self,
        name: &'static str,
        (protocol, place): (&'static str, String),
        stage: &mut Stage,
    ) -> Result<Self> {
        let exe = self.program.exe()?;
        let inode = await_inode(protocol, &place, START * scale())
            .with_context(|| self.program.errors())?;
        let pid = self.program.pid();
        let place = (protocol, Some(place));
        let id = stage
            .truth
            .open(self.begun, name, (pid, &exe), place, Mark::Inode(inode));
        self.listeners.push(id);
        Ok(self)
    }

    fn enter(self) -> Box<dyn Player> {
        Box::new(self)
    }
}

impl Player for Served {
    fn leave(mut self: Box<Self>, stage: &mut Stage) -> Result<()> {
        let begun = stage.truth.now();
        self.program.end()?;
        for id in &self.listeners {
            stage.truth.close(*id, begun);
        }
        Ok(())
    }
}

/// nginx with one to three workers.
pub(crate) fn nginx(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let Some(program) = find("nginx") else {
        return Ok(None);
    };
    let workers = 1 + u32::try_from(stage.chance.below(3))?;
    let begun = stage.truth.now();
    let port = free_tcp_port()?;
    let served = Served::new(start_nginx(&program, port, workers)?, begun);
    let served = served.has("nginx", ("tcp", format!("127.0.0.1:{port}")), stage)?;
    // The first one stays: it is the residents'.
    stage.web_port.get_or_insert(port);
    Ok(Some(served.enter()))
}

/// Redis on a port and a path.
pub(crate) fn redis(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let Some(program) = find("redis-server") else {
        return Ok(None);
    };
    let begun = stage.truth.now();
    let port = free_tcp_port()?;
    let name = stage.name("redis");
    let path = stage.folder.join(name);
    let running = Program::start(|folder| {
        let mut command = Command::new(&program);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--unixsocket"])
            .arg(&path)
            .arg("--dir")
            .arg(folder.path());
        Ok(command)
    })?;
    let served = Served::new(running, begun)
        .has("redis", ("tcp", format!("127.0.0.1:{port}")), stage)?
        .has("redis", ("unix", path.display().to_string()), stage)?;
    Ok(Some(served.enter()))
}

/// `python3 -m http.server`.
pub(crate) fn python_http(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let Some(program) = python() else {
        return Ok(None);
    };
    let begun = stage.truth.now();
    let port = free_tcp_port()?;
    let running = Program::start(|folder| {
        let mut command = Command::new(&program);
        command
            .args(["-m", "http.server", "--bind", "127.0.0.1"])
            .arg(port.to_string())
            .current_dir(folder.path());
        Ok(command)
    })?;
    let served = Served::new(running, begun).has(
        "python http",
        ("tcp", format!("127.0.0.1:{port}")),
        stage,
    )?;
    Ok(Some(served.enter()))
}

/// A UDP server in Python.
pub(crate) fn python_udp(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let Some(program) = python() else {
        return Ok(None);
    };
    let begun = stage.truth.now();
    let port = free_udp_port()?;
    let script = format!(
        "import socket, sys\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.bind(('127.0.0.1', {port}))\n\
         sys.stdin.read()\n"
    );
    let running = Program::start(|_| {
        let mut command = Command::new(&program);
        command.args(["-c", &script]);
        Ok(command)
    })?;
    let served = Served::new(running, begun).has(
        "python udp",
        ("udp", format!("127.0.0.1:{port}")),
        stage,
    )?;
    Ok(Some(served.enter()))
}

/// systemd's activator, which becomes the service at the first connection.
pub(crate) fn activation(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let (Some(program), Some(service)) = (find("systemd-socket-activate"), find("sleep")) else {
        return Ok(None);
    };
    let begun = stage.truth.now();
    let port = free_tcp_port()?;
    let running = Program::start(|_| {
        let mut command = Command::new(&program);
        command.arg("-l").arg(format!("127.0.0.1:{port}"));
        command.arg(&service).arg("600");
        Ok(command)
    })?;
    let served = Served::new(running, begun);
    let served = served.has("activation", ("tcp", format!("127.0.0.1:{port}")), stage)?;
    if stage.chance.percent(60) {
        wait_for(port)?;
    }
    Ok(Some(served.enter()))
}

/// A load of short connections on the residents' nginx, for a few seconds.
pub(crate) fn burst(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let (Some(program), Some(port)) = (find("wrk"), stage.web_port) else {
        return Ok(None);
    };
    let seconds = 1 + stage.chance.below(3);
    let running = Program::start(|_| {
        let mut command = Command::new(&program);
        command
            .args(["-t", "1", "-c", "8", "-H", "Connection: close"])
            .arg(format!("-d{seconds}s"))
            .arg(format!("http://127.0.0.1:{port}/"));
        Ok(command)
    })?;
    Ok(Some(Box::new(Load(running))))
}

/// Opens no listener, and ends by itself.
struct Load(Program);

impl Player for Load {
    fn leave(self: Box<Self>, _stage: &mut Stage) -> Result<()> {
        drop(self.0);
        Ok(())
    }
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
