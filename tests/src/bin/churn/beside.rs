//! What runs beside the listeners, bounded in time and ended with its value: short connections, and a storm
//! of new programs.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use portwatch_tests::address::hex;
use portwatch_tests::harness::program::{Program, find, free_tcp_port, nginx};
use portwatch_tests::harness::{Actor, tiny};

/// Milliseconds of storm that the actor is asked for at once.
const BURST: u32 = 1_000;
/// Longest time of a storm.
const STORM: Duration = Duration::from_secs(900);

/// nginx, and wrk that opens a connection for each request; both end with the value.
pub(crate) fn load(seconds: u32) -> Result<(Program, Program)> {
    let nginx_program = find("nginx").context("--wrk needs nginx on PATH")?;
    let wrk_program = find("wrk").context("--wrk needs wrk on PATH")?;
    let port = free_tcp_port()?;
    let server = nginx(&nginx_program, port, 1)?;
    let client = Program::start(|_| {
        let mut command = Command::new(wrk_program);
        command
            .args(["-t", "1", "-c", "16", "-H", "Connection: close"])
            .args(["-d", &format!("{seconds}s")])
            .arg(format!("http://127.0.0.1:{port}/"));
        Ok(command)
    })?;
    Ok((server, client))
}

/// Programs that start and end without pause, on every processor, until the value is gone.
#[derive(Debug)]
pub(crate) struct Storm {
    stop: Arc<AtomicBool>,
    started: Arc<AtomicU64>,
    began: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    /// Begins.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let program = folder.path().join("tiny");
        tiny::write(&program)?;
        let mut actor = Actor::start("churn-storm")?;
        let (stop, started) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&started));
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            let command = format!(
                "exec-storm {BURST} {}",
                hex(program.as_os_str().as_encoded_bytes())
            );
            while !stopped.load(Ordering::Relaxed) && began.elapsed() < STORM {
                let burst = actor.call(&command);
                let Ok(burst) = burst.and_then(|answer| answer.number("count")) else {
                    break;
                };
                count.fetch_add(burst, Ordering::Relaxed);
            }
            drop(folder);
        });
        Ok(Self {
            stop,
            started,
            began,
            thread: Some(thread),
        })
    }

    /// Programs started in a second, so far.
    pub(crate) fn per_second(&self) -> f64 {
        self.started.load(Ordering::Relaxed) as f64 / self.began.elapsed().as_secs_f64()
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only where the run is lost anyway.
            let _ = thread.join();
        }
    }
}
