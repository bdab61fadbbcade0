//! From a record to a complete process, as the pipeline does it.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::{Answer, EnrichConfig, Enricher, Waits};
use crate::decode::record::{
    AncestorInfo, ExecSeen, ImageInfo, LifeSeen, ProcessKey, TaskInfo, Who,
};
use crate::event::{Process, Protocol};
use crate::time::{BootNs, WallClock};

const CLOCK: WallClock = WallClock::from_epoch_ns(1_795_290_121_000_000_000);
const GONE: ProcessKey = ProcessKey {
    pid: 4_194_400,
    start: BootNs(7_000_000_000),
};

fn who(key: ProcessKey, image: Option<ImageInfo>) -> Who {
    Who {
        task: TaskInfo {
            key,
            tid: key.pid,
            ppid: 0,
            uid: 0,
            gid: 0,
            loginuid: None,
            cgroup_id: 0,
            comm: b"listener".to_vec(),
            is_kthread: false,
        },
        image,
        ancestors: Vec::new(),
    }
}

fn image(exe: &str, inode: u64) -> ImageInfo {
    ImageInfo {
        exe: Some(exe.into()),
        exe_inode: inode,
        cwd: Some(b"/".to_vec()),
        args: Some(vec![b"x".to_vec(), b"\x1b".to_vec()]),
        ..ImageInfo::default()
    }
}

fn host() -> (Enricher, Receiver<Answer>) {
    Enricher::new(EnrichConfig::default())
}

fn settle(enricher: &mut Enricher, answers: &mut Receiver<Answer>, who: &Who) -> Process {
    let mut seen = enricher.resolve(who, BootNs::now(), &CLOCK);
    while !seen.waits.is_over() {
        let answer = answers.blocking_recv().expect("an answer");
        assert!(seen.waits.settle(answer.ticket()));
        enricher.complete(&answer, &mut seen.process);
    }
    seen.process
}

fn sleeper() -> Child {
    let mut command = Command::new("sleep");
    let child = command
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep");
    // The parent goes on as soon as the child has left its memory, before it has arguments of its own.
    let cmdline = format!("/proc/{}/cmdline", child.id());
    while std::fs::read(&cmdline).expect("cmdline").is_empty() {
        std::thread::yield_now();
    }
    child
}

fn end(mut child: Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn a_living_process_without_an_image_is_read_and_then_known() {
    let child = sleeper();
    let (mut enricher, mut answers) = host();
    let mut who = enricher.proc.who_from_proc(child.id()).expect("alive");
    who.image = None;
    who.ancestors = Vec::new();
    let seen = settle(&mut enricher, &mut answers, &who);
    // Everything at once, from memory.
    let again = enricher.resolve(&who, BootNs::now(), &CLOCK);
    // And when the process is gone, all but what only its file can prove.
    end(child);
    let after = enricher.resolve(&who, BootNs::now(), &CLOCK).process;

    assert_eq!(seen.name, "sleep");
    assert!(
        seen.exe
            .as_deref()
            .is_some_and(|exe| exe.ends_with("/sleep"))
    );
    assert_eq!(
        seen.args.as_deref(),
        Some(&["sleep".to_owned(), "60".to_owned()][..])
    );
    assert_eq!(
        (seen.user.as_deref(), seen.group.as_deref()),
        (Some("root"), Some("root"))
    );
    assert_eq!(seen.sha256.as_ref().map(String::len), Some(64));
    assert_eq!(seen.unresolved, None);
    let parent = seen.ancestors.first().expect("parent");
    let own = std::fs::read_link("/proc/self/exe").expect("exe");
    assert_eq!(
        (parent.pid, parent.exe.as_deref()),
        (std::process::id(), own.to_str())
    );
    if Path::new("/var/lib/dpkg/info/coreutils.list").exists() {
        assert_eq!(seen.package.as_deref(), Some("coreutils"));
    }
    assert_eq!((again.waits, &again.process), (Waits::default(), &seen));
    assert_eq!((after.exe, after.args), (seen.exe, seen.args));
}

#[test]
fn without_exec_records_a_living_process_is_read_anew() {
    let texts = |args: &[&str]| Some(args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
    let first = "echo; read x; exec sh -c 'echo; read x; :' second";
    let mut child = Command::new("sh")
        .args(["-c", first])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut input = child.stdin.take().expect("input");
    let mut output = child.stdout.take().expect("output");
    // Until it speaks, its memory may not be laid out yet.
    let mut wait = || output.read_exact(&mut [0]).expect("a line");
    wait();
    let (mut enricher, mut answers) = Enricher::new(EnrichConfig {
        execs_are_told: false,
        ..EnrichConfig::default()
    });
    let mut who = enricher.proc.who_from_proc(child.id()).expect("alive");
    who.image = None;
    let before = settle(&mut enricher, &mut answers, &who);
    let same = enricher.resolve(&who, BootNs::now(), &CLOCK);
    input.write_all(b"\n").expect("a line");
    wait();
    let after = settle(&mut enricher, &mut answers, &who);
    assert!(enricher.runs(who.task.key));
    end(child);
    assert!(!enricher.runs(who.task.key));
    let ended = enricher.resolve(&who, BootNs::now(), &CLOCK).process;

    assert_eq!(before.args, texts(&["sh", "-c", first]));
    assert_eq!(
        (same.waits, same.process.args),
        (Waits::default(), before.args)
    );
    let second = texts(&["sh", "-c", "echo; read x; :", "second"]);
    assert_eq!(after.exe, before.exe, "the same executable");
    assert_eq!((after.args, ended.args), (second.clone(), second));
}

#[test]
fn an_exec_record_is_enough_for_a_process_that_is_gone() {
    let (mut enricher, _answers) = host();
    let shell = ProcessKey {
        pid: GONE.pid + 1,
        ..GONE
    };
    let mut task = who(GONE, None).task;
    let life = |key, parent| LifeSeen {
        at: BootNs(8_000_000_000),
        task: who(key, None).task,
        parent,
        exit_code: 0,
    };
    enricher.on_exec(&ExecSeen {
        at: BootNs(7_000_000_000),
        task: TaskInfo {
            key: shell,
            comm: b"sh".to_vec(),
            ..task.clone()
        },
        image: image("/bin/sh", 1),
    });
    enricher.on_fork(&life(GONE, Some(shell)));
    task.comm = b"nc".to_vec();
    let exec = ExecSeen {
        at: BootNs(7_500_000_000),
        task,
        image: image("/bin/nc", 2),
    };
    enricher.on_exec(&exec);
    enricher.on_exit(&life(GONE, None));
    enricher.on_exit(&life(shell, None));
    let mut gone = who(GONE, None);
    gone.task.ppid = shell.pid;
    let seen = enricher
        .resolve(&gone, BootNs(9_000_000_000), &CLOCK)
        .process;
    assert_eq!(seen.exe.as_deref(), Some("/bin/nc"));
    assert_eq!(
        seen.args.as_deref(),
        Some(&["x".to_owned(), r"\x1b".to_owned()][..])
    );
    assert_eq!(
        seen.start_time.as_deref(),
        Some("2026-11-21T19:42:08.000000000Z")
    );
    assert_eq!(seen.unresolved, None);
    let parents: Vec<_> = seen
        .ancestors
        .iter()
        .map(|a| (a.pid, a.exe.as_deref()))
        .collect();
    assert_eq!(parents, [(shell.pid, Some("/bin/sh"))]);
    assert_eq!(enricher.stats().processes, 2);
}

#[test]
fn what_is_not_known_has_a_reason() {
    let (mut enricher, _answers) = host();
    let gone = enricher
        .resolve(&who(GONE, None), BootNs::now(), &CLOCK)
        .process;
    assert_eq!(
        gone.unresolved.as_deref(),
        Some("the process ended before its image was read")
    );
    assert_eq!(
        (gone.name.as_str(), gone.pid, gone.uid),
        ("listener", GONE.pid, Some(0))
    );
    assert_eq!((gone.exe, gone.args), (None, None));
    let mut kernel = who(GONE, None);
    kernel.task.is_kthread = true;
    let seen = enricher.resolve(&kernel, BootNs::now(), &CLOCK);
    assert_eq!(seen.process.unresolved.as_deref(), Some("kernel thread"));
    assert_eq!(seen.process.exe, None);
}

#[test]
fn an_enricher_may_move_to_the_pipelines_thread() {
    let (mut enricher, _answers) = host();
    let thread = std::thread::spawn(move || {
        enricher
            .resolve(&who(GONE, None), BootNs(0), &CLOCK)
            .process
            .pid
    });
    assert_eq!(thread.join().expect("thread"), GONE.pid);
}

#[test]
fn a_reused_pid_is_not_mistaken() {
    let child = sleeper();
    let (mut enricher, _answers) = host();
    let before = ProcessKey {
        pid: child.id(),
        start: BootNs(1),
    };
    let seen = enricher
        .resolve(&who(before, None), BootNs::now(), &CLOCK)
        .process;
    end(child);
    assert_eq!(seen.exe, None);
    assert!(seen.unresolved.is_some());
}

#[test]
fn a_replaced_executable_is_not_given_the_old_hash() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("server");
    let run = |from: &str, args: &[&str]| {
        let _ = std::fs::remove_file(&path);
        std::fs::copy(from, &path).expect("copy");
        loop {
            // A fork in another test may hold the copy open for writing for a moment.
            match Command::new(&path).args(args).stdin(Stdio::null()).spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                child => return child.expect("run"),
            }
        }
    };
    let (mut enricher, mut answers) = host();
    let mut hash_of = |child: Child| {
        let who = enricher.proc.who_from_proc(child.id()).expect("alive");
        let seen = settle(&mut enricher, &mut answers, &who);
        end(child);
        assert_eq!(seen.exe.as_deref(), path.to_str());
        assert_eq!(seen.package, None);
        seen.sha256.expect("hash")
    };
    // The file system may well give the new file the inode number of the old one.
    let first = hash_of(run("/bin/sleep", &["60"]));
    let second = hash_of(run("/usr/bin/tail", &["-f", "/dev/null"]));
    assert_ne!(first, second);
}

#[test]
fn recorded_ancestors_are_completed() {
    let (mut enricher, _answers) = host();
    let own = enricher
        .proc
        .who_from_proc(std::process::id())
        .expect("alive")
        .task
        .key;
    let mut gone = who(GONE, Some(image("/bin/nc", 2)));
    let unknown = ProcessKey {
        pid: GONE.pid + 9,
        ..GONE
    };
    gone.ancestors = [(unknown, &b"su\ndo"[..]), (own, b"me")]
        .map(|(key, comm)| AncestorInfo {
            key,
            comm: comm.to_vec(),
        })
        .to_vec();
    let seen = enricher.resolve(&gone, BootNs::now(), &CLOCK).process;
    let exe = std::fs::read_link("/proc/self/exe").expect("exe");
    let parents: Vec<_> = seen
        .ancestors
        .iter()
        .map(|a| (&*a.name, a.exe.as_deref()))
        .collect();
    assert_eq!(parents, [(r"su\x0ado", None), ("me", exe.to_str())]);
    assert_eq!(
        enricher.table().parent(unknown),
        Some(own),
        "remembered for later"
    );
}

#[test]
fn a_host_seen_through_other_roots() {
    let root = tempfile::tempdir().expect("dir");
    std::fs::create_dir_all(root.path().join("etc")).expect("etc");
    std::fs::write(root.path().join("etc/passwd"), "svc:x:77:77::/:\n").expect("passwd");
    std::fs::write(root.path().join("etc/services"), "odd 4242/udp\n").expect("services");
    let group = root.path().join("cgroup/system.slice/a.service");
    std::fs::create_dir_all(&group).expect("cgroup");
    let (mut enricher, mut answers) = Enricher::new(EnrichConfig {
        root: root.path().into(),
        proc: root.path().join("proc"),
        cgroup: root.path().join("cgroup"),
        ..EnrichConfig::default()
    });
    let mut who = who(GONE, Some(image("/bin/nc", 2)));
    who.task.uid = 77;
    who.task.gid = 4_000_000_001;
    who.task.cgroup_id =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(group).expect("id"));
    let seen = settle(&mut enricher, &mut answers, &who);
    assert_eq!((seen.user.as_deref(), seen.group), (Some("svc"), None));
    assert_eq!(seen.unit.as_deref(), Some("a.service"), "found by a walk");
    let again = enricher.resolve(&who, BootNs::now(), &CLOCK).process;
    assert_eq!(again.unit.as_deref(), Some("a.service"), "remembered");
    let service = enricher.service(4242, Protocol::Udp, BootNs::now());
    assert_eq!(service.as_deref(), Some("odd"));
    let report = enricher.seed(BootNs::now(), Duration::from_secs(1));
    assert!(
        report.complete && report.processes == 0,
        "no /proc breaks nothing"
    );
}

#[test]
fn two_events_of_one_executable_share_a_look_up() {
    let (mut enricher, _answers) = Enricher::new(EnrichConfig {
        threads: 0,
        queue: 1,
        ..EnrichConfig::default()
    });
    let other = ProcessKey {
        pid: GONE.pid + 1,
        ..GONE
    };
    let mut waits = |key, exe: &str| {
        let who = who(key, Some(image(exe, 2)));
        enricher.resolve(&who, BootNs::now(), &CLOCK).waits
    };
    let first = waits(GONE, "/bin/nc");
    assert!(!first.is_over() && !first.for_args());
    assert_eq!(waits(other, "/bin/nc"), first);
    assert!(waits(other, "/bin/other").is_over(), "no room");
    assert_eq!(
        (enricher.stats().queue_depth, enricher.stats().skipped),
        (1, 1)
    );
}
