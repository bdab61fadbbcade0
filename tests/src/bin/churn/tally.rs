//! What portwatch told of the listeners, counted.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portwatch_tests::harness::watch::rung_args;
use portwatch_tests::harness::{Event, locate};

/// How long events may come after the last process is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is left of one event.
#[derive(Debug)]
pub(crate) enum Told {
    Ready,
    Opened {
        token: String,
        pid: u64,
        inode: u64,
        exe: bool,
        args: bool,
        parent: bool,
    },
    Closed {
        inode: u64,
    },
    Lost {
        ring: String,
        events: u64,
    },
    Broken(String),
}

/// The count of everything.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) opened: HashMap<String, u64>,
    inodes: HashMap<u64, u32>,
    pub(crate) right: u32,
    pub(crate) wrong_pid: u32,
    pub(crate) wrong_exe: u32,
    pub(crate) wrong_args: u32,
    pub(crate) wrong_parent: u32,
    pub(crate) twice: u32,
    pub(crate) closed: u32,
    /// By ring.
    pub(crate) lost: BTreeMap<String, u64>,
    /// The first that was told wrongly.
    pub(crate) example: Option<String>,
}

/// Starts `portwatch tail` and a thread that keeps of each line only what is counted.
pub(crate) fn watch(rung: Option<&str>) -> Result<(Child, Receiver<Told>)> {
    let mut watcher = Command::new(locate::portwatch()?)
        .args(["tail", "-o", "json", "--no-daemon"])
        .args(rung_args(rung))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start portwatch")?;
    let stdout = watcher.stdout.take().context("no output")?;
    let exe = locate::actor()?
        .to_str()
        .context("a path that is no UTF-8")?
        .to_owned();
    let (sender, receiver) = channel();
    std::thread::spawn(move || read(stdout, &exe, &sender));
    Ok((watcher, receiver))
}

fn read(stdout: ChildStdout, exe: &str, sender: &Sender<Told>) {
    let mut next_seq: Option<u64> = None;
    for (index, line) in BufReader::new(stdout).split(b'\n').enumerate() {
        let Ok(line) = line else { return };
        let told = match Event::parse(&line, index, Instant::now()) {
            Err(error) => Some(Told::Broken(format!("{error:#}"))),
            Ok(event) => {
                let seq = event.number("seq");
                if seq.is_none() || next_seq.is_some_and(|next| seq != Some(next)) {
                    let text = format!("seq {next_seq:?} should come: {}", event.value());
                    // Without a receiver the run is over.
                    let _ = sender.send(Told::Broken(text));
                    return;
                }
                next_seq = seq.map(|seq| seq + 1);
                shrink(&event, exe)
            }
        };
        // Without a receiver the run is over.
        if told.is_some_and(|told| sender.send(told).is_err()) {
            return;
        }
    }
}

fn shrink(event: &Event, exe: &str) -> Option<Told> {
    let inode = event.number("socket.inode").unwrap_or(0);
    match event.kind() {
        "sensor.ready" => Some(Told::Ready),
        "gap" => Some(Told::Lost {
            ring: event.text("gap.ring").to_owned(),
            events: event.number("gap.lost").unwrap_or(1),
        }),
        "listener.closed" => Some(Told::Closed { inode }),
        "listener.opened" | "listener.present" => {
            let args: Vec<&str> = event
                .at("process.args")
                .as_array()
                .map(|args| args.iter().filter_map(|arg| arg.as_str()).collect())
                .unwrap_or_default();
            let token = args.get(2).copied().unwrap_or_default().to_owned();
            Some(Told::Opened {
                token,
                pid: event.number("process.pid").unwrap_or(0),
                inode,
                exe: event.text("process.exe") == exe,
                args: args.get(1) == Some(&"blink") && args.len() == 3,
                parent: event
                    .at("process.ancestors")
                    .get(0)
                    .and_then(|parent| parent.get("exe")?.as_str())
                    == Some(exe),
            })
        }
        _ => None,
    }
}

/// Waits until it says that it watches.
pub(crate) fn wait_ready(told: &Receiver<Told>) -> Result<()> {
    loop {
        match told
            .recv_timeout(Duration::from_secs(60))
            .context("portwatch is not ready")?
        {
            Told::Ready => return Ok(()),
            Told::Broken(why) => bail!("the stream broke: {why}"),
            _ => {}
        }
    }
}

/// Takes events until every listener was opened and closed, or none has come for a while.
pub(crate) fn count(told: &Receiver<Told>, pids: &HashMap<String, u64>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mine = super::prefix();
    let all = pids.len();
    while tally.opened.len() < all || (tally.closed as usize) < all {
        let Ok(one) = told.recv_timeout(PATIENCE) else {
            break;
        };
        match one {
            Told::Opened {
                token,
                pid,
                inode,
                exe,
                args,
                parent,
            } => {
                if !token.starts_with(&mine) {
                    continue;
                }
                let owner = pids.get(&token) == Some(&pid);
                tally.right += u32::from(owner && exe && args && parent);
                if !(owner && exe && args && parent) {
                    tally.example.get_or_insert_with(|| {
                        format!(
                            "{token:?}, pid {pid}: right are process {owner}, program {exe}, \
                             arguments {args}, parent {parent}"
                        )
                    });
                }
                tally.wrong_pid += u32::from(!owner);
                tally.wrong_exe += u32::from(!exe);
                tally.wrong_args += u32::from(!args);
                tally.wrong_parent += u32::from(!parent);
                tally.twice += u32::from(tally.opened.insert(token, inode).is_some());
                *tally.inodes.entry(inode).or_default() += 1;
            }
            Told::Closed { inode } => {
                let waiting = tally.inodes.get_mut(&inode).filter(|open| **open > 0);
                if let Some(open) = waiting {
                    *open -= 1;
                    tally.closed += 1;
                }
            }
            Told::Lost { ring, events } => *tally.lost.entry(ring).or_default() += events,
            Told::Broken(why) => bail!("the stream broke: {why}"),
            Told::Ready => {}
        }
    }
    Ok(tally)
}
