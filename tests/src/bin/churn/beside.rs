//! What runs beside the listeners, bounded in time and ended with its value: short connections, and a storm
//! of new programs.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use portwatch_tests::harness::program::{Program, find, free_tcp_port, nginx};

/// Most programs that a storm starts in a second.
const STORM_PER_SECOND: u32 = 5_000;
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

/// Starts one program after the other, as fast as it goes up to a bound.
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
        let program = find("true").context("--storm needs true on PATH")?;
        let (stop, started) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&started));
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            let distance = Duration::from_secs(1) / STORM_PER_SECOND;
            let mut next = Instant::now();
            while !stopped.load(Ordering::Relaxed) && began.elapsed() < STORM {
                let status = Command::new(&program).stdin(Stdio::null()).status();
                if status.is_ok_and(|status| status.success()) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                next += distance;
                // Time that was lost is not made up for.
                next = next.max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
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
