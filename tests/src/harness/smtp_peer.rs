//! A mail server that misbehaves exactly as told: what no real one does when a test wants it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::mail::Mail;
use super::watch::scale;

/// Where in a conversation it is asked what to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Somebody has connected.
    Connect,
    /// `EHLO`.
    Hello,
    /// `MAIL`.
    Mail,
    /// `RCPT`, for this address.
    Rcpt(String),
    /// `DATA`.
    Data,
    /// The whole mail is here.
    Body(String),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => f.write_str("Connect"),
            Self::Hello => f.write_str("Hello"),
            Self::Mail => f.write_str("Mail"),
            Self::Rcpt(to) => write!(f, "Rcpt({to})"),
            Self::Data => f.write_str("Data"),
            // Nobody reads a whole mail in a list of steps.
            Self::Body(mail) => write!(f, "Body({} bytes)", mail.len()),
        }
    }
}

/// What it does then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// What a good server does.
    Usual,
    /// Says this.
    Say(&'static str),
    /// Says nothing any more.
    Hang,
    /// Closes the connection; in [`Step::Data`] in the middle of the mail.
    HangUp,
}

/// A mail that it took, and for whom.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Recipients.
    pub to: Vec<String>,
    /// The mail.
    pub mail: Mail,
    /// When.
    pub at: Instant,
}

/// Every step so far, and every mail.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// Mails.
    pub taken: Vec<Taken>,
}

impl Record {
    /// How often it came to such a step.
    #[must_use]
    pub fn count(&self, is_it: impl Fn(&Step) -> bool) -> usize {
        self.steps.iter().filter(|step| is_it(step)).count()
    }
}

type Script = Arc<dyn Fn(&Step, &Record) -> Deed + Send + Sync>;

/// A running server.
pub struct SmtpPeer {
    /// Its port, on 127.0.0.1.
    pub port: u16,
    record: Arc<Mutex<Record>>,
    is_over: Arc<AtomicBool>,
}

impl SmtpPeer {
    /// Starts one that asks `script` at each step, with what was before it.
    ///
    /// # Errors
    /// There is no port.
    pub fn start(script: impl Fn(&Step, &Record) -> Deed + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (record, is_over) = (Arc::default(), Arc::default());
        let this = Self {
            port,
            record: Arc::clone(&record),
            is_over: Arc::clone(&is_over),
        };
        let script: Script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (script, record) = (Arc::clone(&script), Arc::clone(&record));
                // A client that goes away is its own affair.
                std::thread::spawn(move || serve(stream, &script, &record));
            }
        });
        Ok(this)
    }

    /// What was so far.
    #[must_use]
    pub fn record(&self) -> Record {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many steps there were so far.
    #[must_use]
    pub fn steps(&self) -> usize {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.steps.len()
    }

    /// Waits until it is so.
    ///
    /// # Errors
    /// It is not in time.
    pub fn wait(&self, patience: Duration, is_so: impl Fn(&Record) -> bool) -> Result<Record> {
        let deadline = Instant::now() + patience * scale();
        loop {
            let record = self.record();
            if is_so(&record) {
                return Ok(record);
            }
            if Instant::now() > deadline {
                let subjects: Vec<&str> =
                    record.taken.iter().map(|one| one.mail.subject()).collect();
                bail!(
                    "not in time: {} steps, the last ones {:?}; mails {subjects:?}",
                    record.steps.len(),
                    record.steps.iter().rev().take(12).collect::<Vec<_>>()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for SmtpPeer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for clients.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Until one of both sides has enough.
fn serve(stream: TcpStream, script: &Script, record: &Mutex<Record>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = &stream;
    let ask = |step: Step| {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        let deed = script(&step, &record);
        record.steps.push(step);
        deed
    };
    // True when the step went as usual.
    let mut act = |deed: Deed, usual: &str, reader: &mut BufReader<TcpStream>| {
        let text = match &deed {
            Deed::Usual => usual,
            Deed::Say(text) => text,
            Deed::Hang => {
                let mut nothing = Vec::new();
                // Until the client has enough of it.
                let _ = reader.read_to_end(&mut nothing);
                return None;
            }
            Deed::HangUp => return None,
        };
        writer.write_all(format!("{text}\r\n").as_bytes()).ok()?;
        Some(deed == Deed::Usual)
    };
    act(ask(Step::Connect), "220 peer.test ESMTP", &mut reader)?;
    let mut to = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let address = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        match verb {
            "EHLO" => drop(act(
                ask(Step::Hello),
                "250-peer.test\r\n250 8BITMIME",
                &mut reader,
            )?),
            "MAIL" => {
                to.clear();
                act(ask(Step::Mail), "250 go on", &mut reader)?;
            }
            "RCPT" => {
                if act(ask(Step::Rcpt(address.clone())), "250 go on", &mut reader)? {
                    to.push(address);
                }
            }
            "DATA" => {
                let deed = ask(Step::Data);
                if deed == Deed::HangUp {
                    act(Deed::Usual, "354 go on", &mut reader)?;
                    let mut some = [0; 64];
                    let _ = reader.read(&mut some);
                    return None;
                }
                if act(deed, "354 go on", &mut reader)? {
                    let body = body(&mut reader)?;
                    let text = String::from_utf8_lossy(&body).into_owned();
                    if act(ask(Step::Body(text)), "250 queued as 4711", &mut reader)? {
                        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                        record.taken.push(Taken {
                            to: to.clone(),
                            mail: Mail::read(&body),
                            at: Instant::now(),
                        });
                    }
                }
            }
            "RSET" | "NOOP" => drop(act(Deed::Usual, "250 done", &mut reader)?),
            "QUIT" => {
                act(Deed::Usual, "221 bye", &mut reader)?;
                return None;
            }
            _ => drop(act(Deed::Usual, "500 what?", &mut reader)?),
        }
    }
}

/// The lines up to the dot.
fn body(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        match line.as_slice() {
            b".\r\n" => return Some(body),
            [b'.', rest @ ..] => body.extend_from_slice(rest),
            line => body.extend_from_slice(line),
        }
    }
}
