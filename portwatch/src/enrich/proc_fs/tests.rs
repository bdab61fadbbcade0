//! /proc as it is, as a fixture shows it, and as it vanishes.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{CMDLINE_MAX, ProcFs};
use crate::decode::record::ProcessKey;
use crate::time::BootNs;

fn real() -> ProcFs {
    ProcFs::new("/proc".into())
}

fn process(root: &Path, pid: u32, ppid: u32, comm: &str) -> std::path::PathBuf {
    let dir = root.join(pid.to_string());
    std::fs::create_dir_all(&dir).expect("dir");
    let stat = format!("{pid} ({comm}) S {ppid} 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 500 9 9");
    std::fs::write(dir.join("stat"), stat).expect("stat");
    std::fs::write(
        dir.join("status"),
        "Name:\tx\nUid:\t33\t0\t0\t0\nGid:\t34\t0\t0\t0\n",
    )
    .expect("status");
    dir
}

#[test]
fn this_process_is_read_whole() {
    let pid = std::process::id();
    let who = real().who_from_proc(pid).expect("we live");
    let image = who.image.expect("image");
    let exe = std::fs::read_link("/proc/self/exe").expect("exe");
    assert_eq!(
        image.exe.as_deref(),
        Some(exe.as_os_str().as_encoded_bytes())
    );
    let args: Vec<_> = std::env::args().map(String::into_bytes).collect();
    assert_eq!(image.args, Some(args));
    assert!(!image.args_truncated && !image.exe_deleted && !image.exe_memfd);
    assert_eq!(who.task.ppid, std::os::unix::process::parent_id());
    assert_eq!(
        who.ancestors.first().map(|a| a.key.pid),
        Some(who.task.ppid)
    );
    assert!(real().pids().any(|p| p == pid));
    assert!(real().same_process(who.task.key));
    let other = ProcessKey {
        start: BootNs(who.task.key.start.0 + super::proc_parse::TICK_NS),
        ..who.task.key
    };
    assert!(!real().same_process(other));
}

#[test]
fn an_open_process_is_never_its_successor() {
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
    let dir = real().open(child.id()).expect("alive");
    assert!(dir.stat().is_some());
    child.kill().expect("kill");
    child.wait().expect("reaped");
    assert_eq!(dir.stat(), None);
    assert!(dir.image().is_err());
    assert!(real().who_from_proc(child.id()).is_none());
}

#[test]
fn a_deleted_executable_is_told_from_a_file_with_that_name() {
    let dir = tempfile::tempdir().expect("dir");
    let run = |name: &str| {
        let path = dir.path().join(name);
        std::fs::copy("/bin/sleep", &path).expect("copy");
        loop {
            // A fork in another test may hold the copy open for writing for a moment.
            match Command::new(&path).arg("60").stdin(Stdio::null()).spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                child => return (path, child.expect("run")),
            }
        }
    };
    let image_of = |pid| {
        let process = real().open(pid).expect("alive");
        process.image().expect("image")
    };
    let (honest, mut first) = run("x (deleted)");
    let (gone, mut second) = run("y");
    let (linked, mut third) = run("z");
    std::fs::remove_file(&gone).expect("rm");
    // Another name keeps the link count up although this name is gone.
    std::fs::hard_link(&linked, dir.path().join("other")).expect("ln");
    std::fs::remove_file(&linked).expect("rm");
    let images = [first.id(), second.id(), third.id()].map(image_of);
    for child in [&mut first, &mut second, &mut third] {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let seen = images.map(|image| (image.exe.unwrap_or_default(), image.exe_deleted));
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    assert_eq!(seen[0], (bytes(&honest), false));
    assert_eq!(seen[1], (bytes(&gone), true));
    assert_eq!(seen[2], (bytes(&linked), true));
}

#[test]
fn a_memfd_has_no_file() {
    use std::os::fd::AsRawFd as _;
    let memory = rustix::fs::memfd_create("implant", rustix::fs::MemfdFlags::empty());
    let memory = std::fs::File::from(memory.expect("memfd"));
    std::io::copy(
        &mut std::fs::File::open("/bin/sleep").expect("sleep"),
        &mut &memory,
    )
    .expect("copy");
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    // Not close-on-exec, so nothing else is needed to run it.
    let mut child = Command::new(path).arg("60").spawn().expect("run");
    let image = real().open(child.id()).expect("alive").image();
    child.kill().expect("kill");
    child.wait().expect("wait");
    let image = image.expect("image");
    assert_eq!(image.exe.as_deref(), Some(&b"/memfd:implant"[..]));
    assert!(image.exe_memfd && !image.exe_deleted);
}

#[test]
fn a_fixture_with_hostile_contents() {
    let root = tempfile::tempdir().expect("dir");
    let dir = process(root.path(), 7, 5, "a b) S 1");
    process(root.path(), 5, 5, "own parent");
    std::fs::write(dir.join("cmdline"), vec![b'a'; CMDLINE_MAX + 10]).expect("cmdline");
    std::fs::write(dir.join("loginuid"), "1000").expect("loginuid");
    symlink("/nowhere/x (deleted)", dir.join("exe")).expect("exe");
    symlink("/srv", dir.join("cwd")).expect("cwd");
    let who = ProcFs::new(root.path().into())
        .who_from_proc(7)
        .expect("read");
    let image = who.image.expect("image");
    assert_eq!(who.task.comm, b"a b) S 1");
    assert_eq!(
        (who.task.uid, who.task.gid, who.task.loginuid),
        (33, 34, Some(1000))
    );
    assert_eq!(who.task.key.start, BootNs(5_000_000_000));
    assert_eq!(image.args.map(|a| a[0].len()), Some(CMDLINE_MAX));
    assert!(image.args_truncated && image.exe_deleted && !image.exe_memfd);
    assert_eq!(image.exe.as_deref(), Some(&b"/nowhere/x"[..]));
    assert_eq!(image.cwd.as_deref(), Some(&b"/srv"[..]));
    assert_eq!(who.ancestors.len(), 8, "a loop ends");
}

#[test]
fn no_proc_is_no_answer() {
    let nowhere = ProcFs::new("/nonexistent".into());
    assert_eq!(nowhere.pids().count(), 0);
    assert!(nowhere.who_from_proc(1).is_none());
    let root = tempfile::tempdir().expect("dir");
    let dir = process(root.path(), 7, 0, "x");
    let proc = ProcFs::new(root.path().into());
    let who = proc.who_from_proc(7).expect("stat and status are enough");
    assert_eq!(who.image.and_then(|image| image.exe), None);
    std::fs::write(dir.join("stat"), "7 (x").expect("stat");
    assert!(proc.who_from_proc(7).is_none());
}
