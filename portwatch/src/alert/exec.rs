//! A program of the administrator's: it gets the message as JSON on standard input and the most important of it in
//! its environment. No shell reads anything of it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_parent_process_death_signal,
    setsid,
};

use super::carrier::Refusal;
use super::message::Message;
use super::report;
use crate::event::words::Word as _;
use crate::text::{clip, escape, guard};

/// Where programs that it starts are searched.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of its output that are kept; more is read, and forgotten.
const OUTPUT: usize = 1024;
/// Characters of the sentence in the environment.
const SENTENCE: usize = 1000;
/// "Try again later" (sysexits.h).
const TEMPORARY: i32 = 75;

/// As whom it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; there are no others.
    pub gid: u32,
}

/// What to run, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Absolute path.
    pub program: PathBuf,
    /// What follows it, as it stands.
    pub arguments: Vec<String>,
    /// Without, the daemon's own.
    pub user: Option<User>,
    /// How long it may take.
    pub timeout: Duration,
}

impl Exec {
    /// Runs it, and waits for its end; how it ended and what it wrote comes back.
    ///
    /// # Errors
    /// When it cannot be run, takes too long, or says no. 75 is for later, another status than 0 for never.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let later = |text: String| Refusal::Later(format!("{}: {text}", self.shown()));
        check(&self.program).map_err(later)?;
        let input = report::json(message)
            .map_err(|error| Refusal::Never(format!("the message is no JSON: {error}")))?;
        let ended = run(self.command(message), &input, self.timeout)
            .map_err(|error| later(error.to_string()))?;
        let text = format!("{}: {}", self.shown(), ended.told());
        match ended.status.and_then(|status| status.code()) {
            Some(0) => Ok(text),
            Some(TEMPORARY) | None => Err(Refusal::Later(text)),
            Some(_) => Err(Refusal::Never(text)),
        }
    }

    fn shown(&self) -> String {
        escape(self.program.as_os_str().as_encoded_bytes())
    }

    fn command(&self, message: &Message) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir("/")
            .env_clear()
            .env("PATH", PATH)
            .envs(environment(message));
        if let Some(user) = self.user {
            // With a user, the standard library clears the supplementary groups too.
            command.gid(user.gid).uid(user.uid);
        }
        seclude(&mut command);
        command
    }
}

/// Gives a program that will be started neither a terminal, nor descriptors, nor a life beyond ours.
pub(crate) fn seclude(command: &mut Command) {
    // SAFETY: runs between fork and exec, where only what is safe in a signal handler may be called: three system
    // calls that allocate nothing and take no lock.
    unsafe {
        command.pre_exec(|| {
            // No terminal of ours, and a process group that can be ended as a whole.
            setsid()?;
            // The message stays in the queue when we die; nobody else would end it then.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            close_others();
            Ok(())
        });
    }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when it took too long.
    pub(crate) status: Option<ExitStatus>,
    /// The beginning of what it wrote.
    pub(crate) output: Vec<u8>,
}

impl Ended {
    /// It did what it should.
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// `ended with 1: …`, escaped.
    pub(crate) fn told(&self) -> String {
        told(self.status, &self.output)
    }
}

/// Starts a secluded program, feeds it, and waits for its end, or ends it when its time is over.
///
/// # Errors
/// When it cannot be started or watched.
pub(crate) fn run(mut command: Command, input: &[u8], timeout: Duration) -> io::Result<Ended> {
    let (mut output, writer) = io::pipe()?;
    command
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn()?;
    // Our ends of what it writes to.
    drop(command);
    let mut watched = Watched {
        input: child.stdin.take().map(|pipe| (pipe, input)),
        output: Vec::new(),
    };
    let pid = Pid::from_child(&child);
    let ended = watched.until_ended(&mut output, pid, Instant::now() + timeout);
    let status = match ended {
        Ok(true) => Some(child.wait()?),
        Ok(false) => {
            end(&mut child, pid);
            None
        }
        Err(error) => {
            end(&mut child, pid);
            return Err(error);
        }
    };
    Ok(Ended {
        status,
        output: watched.output,
    })
}

/// Closes at exec whatever else is open. Ours close by themselves; what the daemon was started with may not. Kernels
/// before 5.11 do not know how, which changes nothing for ours.
fn close_others() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: plain integers; descriptors are marked, and none is closed before exec.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// Is this a program that only its owner and those that he trusts can change?
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn check(program: &Path) -> Result<(), String> {
    let metadata = fs::metadata(program).map_err(|error| format!("cannot be run: {error}"))?;
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Err("cannot be run: it is no executable file".to_owned());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("is not run: everybody can write to it; run chmod o-w on it".to_owned());
    }
    let real = fs::canonicalize(program).map_err(|error| format!("cannot be run: {error}"))?;
    for folder in real.ancestors().skip(1).chain(program.parent()) {
        let mode = fs::metadata(folder)
            .map_err(|error| format!("cannot be run: {error}"))?
            .mode();
        // Where the sticky bit is set, nobody can put another file in the place of one.
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            let folder = escape(folder.as_os_str().as_encoded_bytes());
            return Err(format!("is not run: everybody can write to {folder}"));
        }
    }
    Ok(())
}

/// What it finds in its environment.
fn environment(message: &Message) -> Vec<(&'static str, String)> {
    let first = message.entries.first();
    let sentence = clip(&message.subject(), SENTENCE, |_| 1).into_owned();
    let mut all = vec![
        ("PORTWATCH_ID", message.id.to_string()),
        ("PORTWATCH_TIME", message.ts.clone()),
        ("PORTWATCH_HOST", message.host.clone()),
        ("PORTWATCH_SEVERITY", message.severity.word().to_owned()),
        ("PORTWATCH_SENTENCE", sentence),
        ("PORTWATCH_COUNT", message.count().to_string()),
    ];
    if let Some(entry) = first {
        all.push(("PORTWATCH_EVENT", entry.event.kind.as_str().to_owned()));
        all.push(("PORTWATCH_PHASE", entry.phase.as_str().to_owned()));
        all.push(("PORTWATCH_INCIDENT", entry.key.fingerprint()));
    }
    // A NUL would keep it from being started, whatever else it would do.
    let guarded = |(name, value): (_, String)| (name, guard(&value).into_owned());
    all.into_iter().map(guarded).collect()
}

/// A program that runs, and its pipes.
struct Watched<'a> {
    input: Option<(ChildStdin, &'a [u8])>,
    output: Vec<u8>,
}

impl Watched<'_> {
    /// Feeds and reads it until it ends, or its time is over. Whoever else holds its output is not waited for.
    fn until_ended(
        &mut self,
        output: &mut io::PipeReader,
        pid: Pid,
        deadline: Instant,
    ) -> io::Result<bool> {
        fcntl_setfl(&*output, OFlags::NONBLOCK)?;
        if let Some((pipe, _)) = &self.input {
            fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        let end = pidfd_open(pid, PidfdFlags::empty())?;
        let mut is_open = true;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // What it wrote last is read before its end is seen.
            let is_over = {
                let mut all = vec![PollFd::new(&end, PollFlags::IN)];
                if is_open {
                    all.push(PollFd::new(&*output, PollFlags::IN));
                }
                if let Some((pipe, _)) = &self.input {
                    all.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT));
                }
                let left = Timespec::try_from(left).map_err(io::Error::other)?;
                match poll(&mut all, Some(&left)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                all.first().is_some_and(|end| !end.revents().is_empty())
            };
            is_open = is_open && self.read(output)?;
            self.feed();
            if is_over {
                return Ok(true);
            }
        }
    }

    /// Reads what there is, at most so much that a flood does not keep us from looking at the time; false at the end.
    fn read(&mut self, output: &mut io::PipeReader) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            match output.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    let room = OUTPUT.saturating_sub(self.output.len());
                    let kept = buffer.get(..count.min(room)).unwrap_or_default();
                    self.output.extend_from_slice(kept);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Writes what fits. Whoever does not want to read it need not.
    fn feed(&mut self) {
        let Some((pipe, rest)) = &mut self.input else {
            return;
        };
        match pipe.write(rest) {
            Ok(count) => *rest = rest.get(count..).unwrap_or_default(),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => *rest = &[],
        }
        if rest.is_empty() {
            self.input = None;
        }
    }
}

/// Ends it and everything that it has started in its session.
fn end(child: &mut Child, pid: Pid) {
    // It may have ended by itself.
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

fn told(status: Option<ExitStatus>, output: &[u8]) -> String {
    let how = match status {
        None => "took too long and was killed".to_owned(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "done".to_owned(),
            (Some(code), _) => format!("ended with {code}"),
            (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
        },
    };
    match output.trim_ascii_end() {
        [] => how,
        output => format!("{how}: {}", escape(output)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::{Exec, Refusal, check};
    use crate::alert::message::tests::{message, notice};
    use crate::alert::{Entry, Message};

    fn shell(script: &str) -> Exec {
        Exec {
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            user: None,
            timeout: Duration::from_secs(10),
        }
    }

    fn told() -> Message {
        message(vec![Entry::from(notice(4444, "/usr/bin/nc"))])
    }

    #[test]
    fn it_gets_the_message_and_nothing_of_ours() {
        let script = "echo $PORTWATCH_HOST $PORTWATCH_SEVERITY $PORTWATCH_COUNT $PORTWATCH_EVENT $PORTWATCH_PHASE; \
                      echo $HOME$CARGO_MANIFEST_DIR; pwd; ls /proc/self/fd | wc -l; head -c 40";
        assert_eq!(
            shell(script).send(&told()).as_deref(),
            Ok(concat!(
                r"/bin/sh: done: web1 warning 1 listener.opened began\x0a\x0a/\x0a4\x0a",
                r#"{"schema":"portwatch.alert/1","id":"0000"#
            ))
        );
    }

    #[test]
    fn its_end_says_whether_to_try_again() {
        let ended = |script: &str| shell(script).send(&told());
        assert_eq!(ended("exit 0"), Ok("/bin/sh: done".to_owned()));
        assert_eq!(
            ended("echo busy; exit 75"),
            Err(Refusal::Later("/bin/sh: ended with 75: busy".to_owned()))
        );
        assert_eq!(
            ended("echo no >&2; exit 1"),
            Err(Refusal::Never("/bin/sh: ended with 1: no".to_owned()))
        );
        assert_eq!(
            ended("kill -9 $$"),
            Err(Refusal::Later("/bin/sh: killed by signal 9".to_owned()))
        );
    }

    #[test]
    fn who_hangs_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().expect("dir");
        let pids = folder.path().join("pids");
        let mut exec = shell(&format!("sleep 60 & echo $! >{}; sleep 60", pids.display()));
        exec.timeout = Duration::from_millis(500);
        let began = Instant::now();
        let refused = exec.send(&told());
        let expected = "/bin/sh: took too long and was killed".to_owned();
        assert_eq!(refused, Err(Refusal::Later(expected)));
        assert!(began.elapsed() < Duration::from_secs(5));
        let pid = fs::read_to_string(pids).expect("a pid");
        let proc = format!("/proc/{}/stat", pid.trim());
        let is_gone = || fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z "));
        while !is_gone() {
            assert!(began.elapsed() < Duration::from_secs(10), "{proc} is alive");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn neither_a_flood_nor_deafness_nor_a_child_that_stays_holds_it_up() {
        let mut flood = shell("head -c 10000000 /dev/zero; sleep 60 &");
        flood.timeout = Duration::from_secs(30);
        let mut of = told();
        of.entries[0].event.message = "x".repeat(400_000);
        let began = Instant::now();
        let answer = flood.send(&of).expect("done");
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(answer.len() < 5_000, "{} bytes", answer.len());
        assert!(answer.ends_with(r"\x00"), "{answer}");
    }

    #[test]
    fn what_everybody_can_change_is_not_run() {
        let folder = tempfile::tempdir().expect("dir");
        let program = folder.path().join("notify");
        fs::write(&program, "#!/bin/sh\n").expect("written");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        let wrong = |text: &str| {
            let told = check(&program).expect_err(text);
            assert!(told.contains(text), "{told}");
        };
        mode(&program, 0o644);
        wrong("no executable file");
        mode(&program, 0o757);
        wrong("everybody can write to it");
        mode(&program, 0o755);
        mode(folder.path(), 0o777);
        wrong("everybody can write to /");
        mode(folder.path(), 0o1777);
        assert_eq!(check(&program), Ok(()));
        let absent = Exec {
            program: "/nonexistent/notify".into(),
            ..shell("")
        };
        assert!(matches!(absent.send(&told()), Err(Refusal::Later(_))));
    }
}
