//! Load: nginx on a port of loopback, and wrk that opens a connection for each request.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::process::Running;
use crate::host;

/// Connections that wrk keeps under way.
const CONNECTIONS: u32 = 64;
/// How long nginx may take to listen.
const START: Duration = Duration::from_secs(10);

/// A server that answers every request with one word, and its client.
#[derive(Debug)]
pub(crate) struct Load {
    _nginx: Running,
    wrk: PathBuf,
    port: u16,
    threads: usize,
}

impl Load {
    /// Starts nginx with as many workers as there are processors, with its files in `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        for command in ["nginx", "wrk"] {
            need(command)?;
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let port = free_port()?;
        let folder = folder.join("nginx");
        fs::create_dir_all(&folder).context("cannot make nginx's folder")?;
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(&folder, port, threads)).context("cannot write")?;
        let mut nginx = Running::quiet(
            Command::new(find("nginx")?)
                .arg("-p")
                .arg(&folder)
                .args(["-e", "stderr", "-c"])
                .arg(&file),
        )?;
        nginx.wait_until("listener", START, |_| {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(Self {
            _nginx: nginx,
            wrk: find("wrk")?,
            port,
            threads,
        })
    }

    /// As many connections as the machine can do for so long; gives connections per second.
    pub(crate) fn run(&self, time: Duration) -> Result<f64> {
        let output = self
            .wrk(time)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start wrk")?;
        ensure!(output.status.success(), "wrk failed: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        rate(&text).with_context(|| format!("wrk says no rate: {text}"))
    }

    /// The same in the background.
    pub(crate) fn spawn(&self, time: Duration) -> Result<Running> {
        Running::quiet(&mut self.wrk(time))
    }

    fn wrk(&self, time: Duration) -> Command {
        let mut wrk = Command::new(&self.wrk);
        wrk.args(["-t", &self.threads.to_string()])
            .args(["-c", &CONNECTIONS.to_string()])
            .args(["-d", &format!("{}s", time.as_secs().max(1))])
            .args(["-H", "Connection: close"])
            .arg(format!("http://127.0.0.1:{}/", self.port));
        wrk
    }
}

/// Installs the package of a command that is missing.
pub(crate) fn need(command: &str) -> Result<()> {
    let package = match command {
        "nginx" => "nginx-light",
        "tcpstates" | "tcplife" => "libbpf-tools",
        "ss" => "iproute2",
        other => other,
    };
    if host::find(command).is_some() {
        return Ok(());
    }
    host::install(&[package], "this benchmark")?;
    find(command).map(drop)
}

/// Where a command is.
pub(crate) fn find(command: &str) -> Result<PathBuf> {
    host::find(command).with_context(|| format!("{command} is not installed"))
}

/// A port below those that the kernel gives to clients, free a moment ago.
fn free_port() -> Result<u16> {
    let free = (10_000..30_000).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    free.context("no free port on loopback")
}

fn configuration(folder: &Path, port: u16, workers: usize) -> String {
    let folder = folder.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .collect();
    format!(
        "daemon off; worker_processes {workers}; pid {folder}/pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; {paths}\
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 hello; }} }} }}\n"
    )
}

/// Requests per second, which are connections per second here, in what wrk prints. Pure.
fn rate(text: &str) -> Result<f64> {
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    if let Some(errors) = after("Socket errors:") {
        let failed = errors.split(',').any(|error| {
            let mut words = error.split_whitespace();
            words.next() == Some("connect") && words.next() != Some("0")
        });
        if failed {
            bail!("wrk could not connect:{errors}");
        }
    }
    let rate = after("Requests/sec:").context("no line `Requests/sec`")?;
    rate.trim().parse().context("no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 2s test @ http://127.0.0.1:10000/\n  2 threads and 64 connections\n\
         \x20 Thread Stats   Avg      Stdev     Max   +/- Stdev\n\
         \x20 44877 requests in 2.01s, 6.16MB read\nRequests/sec:  22376.20\nTransfer/sec:      3.07MB\n";

    #[test]
    fn the_rate_is_read() {
        assert_eq!(rate(TEXT).ok(), Some(22376.2));
        assert!(rate("nothing").is_err());
    }

    #[test]
    fn refused_connections_spoil_a_round_and_other_errors_do_not() {
        let with = |errors: &str| format!("{TEXT}  Socket errors: {errors}\n");
        assert!(rate(&with("connect 0, read 12, write 0, timeout 0")).is_ok());
        assert!(rate(&with("connect 7, read 0, write 0, timeout 0")).is_err());
    }
}
