//! The built program as a shell sees it: exit codes, standard output, standard error.

#![expect(clippy::expect_used, reason = "a test ends where its ground gives way")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use portwatch::event::Event;
use portwatch::event::example::examples;
use portwatch::render::Format;
use portwatch::sink::chain::{Chain, Head};
use tempfile::TempDir;

/// `nobody`.
const NOBODY: u32 = 65534;

/// The program with nothing of this machine's: a runtime directory of its own, no configuration.
fn portwatch(args: &[&str], place: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portwatch"));
    command
        .args(args)
        .env_clear()
        .env("PORTWATCH_RUNTIME_DIR", place.path())
        .env("PORTWATCH_STATE_DIR", place.path())
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    let place = tempfile::tempdir().expect("dir");
    portwatch(args, &place).output().expect("run")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal")
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).expect("UTF-8")
}

#[test]
fn help_is_a_success_on_standard_output() {
    for args in [
        &["-h"][..],
        &["--help"],
        &["tail", "--help"],
        &["--version"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(stdout(&output).contains("portwatch"), "{args:?}");
        assert_eq!(stderr(&output), "", "{args:?}");
    }
}

#[test]
fn a_wrong_command_line_is_64_and_cannot_move_the_cursor() {
    for args in [
        &["--nonsense"][..],
        &["tail", "--since", "soon"],
        &["dance\x1b[2J"],
        &[],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 64, "{args:?}");
        assert_eq!(stdout(&output), "");
        assert!(
            !stderr(&output).is_empty() && !stderr(&output).contains('\x1b'),
            "{args:?}"
        );
    }
}

#[test]
fn a_wrong_filter_is_64_with_a_caret() {
    for command in ["tail", "ls"] {
        let output = run(&[command, "port ==", "80 and", "usr == root"]);
        assert_eq!(code(&output), 64);
        let text = stderr(&output);
        assert!(text.starts_with("portwatch: filter, column "), "{text}");
        assert!(
            text.lines()
                .last()
                .is_some_and(|line| line.trim_start().starts_with('^')),
            "{text}"
        );
    }
}

#[test]
fn options_that_need_the_daemon_say_so() {
    let output = run(&["tail", "--since", "10m"]);
    assert_eq!(code(&output), 64);
    assert!(
        stderr(&output).contains("--since needs the daemon"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn status_without_a_daemon_is_69_and_says_how_to_start_one() {
    for args in [&["status"][..], &["status", "-o", "json"]] {
        let output = run(args);
        assert_eq!(code(&output), 69);
        assert_eq!(stdout(&output), "");
        assert!(
            stderr(&output).contains("systemctl start portwatch"),
            "{}",
            stderr(&output)
        );
        assert_eq!(stderr(&output).lines().count(), 1);
    }
}

#[test]
fn the_schema_is_json() {
    let output = run(&["schema"]);
    assert_eq!(code(&output), 0);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["title"], "portwatch.event/1");
}

#[test]
fn completions_and_manuals_are_printed() {
    let output = run(&["completions", "bash"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("_portwatch"));
    let output = run(&["man", "tail"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains(".TH"));
    let output = run(&["man", "dance"]);
    assert_eq!(code(&output), 64);
    let place = tempfile::tempdir().expect("dir");
    let dir = place.path().join("man1").display().to_string();
    assert_eq!(code(&run(&["man", "--dir", &dir])), 0);
    assert!(place.path().join("man1/portwatch-tail.1").exists());
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    for args in [&["schema"][..], &["completions", "zsh"], &["man"]] {
        let place = tempfile::tempdir().expect("dir");
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let output = portwatch(args, &place)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn();
        let output = output
            .and_then(std::process::Child::wait_with_output)
            .expect("run");
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_74() {
    let place = tempfile::tempdir().expect("dir");
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("opened");
    let output = portwatch(&["schema"], &place)
        .stdout(full)
        .output()
        .expect("run");
    assert_eq!(code(&output), 74);
    assert!(stderr(&output).contains("cannot write to standard output"));
}

#[test]
fn a_wrong_configuration_is_78_with_its_place() {
    let place = tempfile::tempdir().expect("dir");
    let file = place.path().join("bad.toml");
    fs::write(&file, "[ring]\nbulk_kib = 3\nnonsense = 1\n").expect("written");
    let name = file.display().to_string();
    for command in [&["run"][..], &["tail", "--no-daemon"]] {
        let args = [command, &["-c", &name]].concat();
        let output = portwatch(&args, &place).output().expect("run");
        assert_eq!(code(&output), 78);
        for place in ["bad.toml:2:", "bad.toml:3:1:"] {
            assert!(stderr(&output).contains(place), "{}", stderr(&output));
        }
    }
}

#[test]
fn a_named_configuration_has_to_exist() {
    let output = run(&["run", "-c", "/nonexistent/portwatch.toml"]);
    assert_eq!(code(&output), 78);
    assert!(stderr(&output).contains("/nonexistent/portwatch.toml: not read"));
}

#[test]
fn doctor_reports_and_its_exit_agrees() {
    let output = run(&["doctor", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["schema"], "portwatch.doctor/1");
    let expected = if report["verdict"] == "blind" { 69 } else { 0 };
    assert_eq!(code(&output), expected, "{}", stderr(&output));
}

#[test]
fn without_privileges_the_missing_capability_is_named() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can run the program as another user");
        return;
    }
    let place = tempfile::tempdir().expect("dir");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    // The build directory may be closed to others.
    let binary = place.path().join("portwatch");
    fs::copy(env!("CARGO_BIN_EXE_portwatch"), &binary).expect("copied");
    for args in [&["tail"][..], &["tail", "--no-daemon"], &["run"]] {
        let output = Command::new(&binary)
            .args(args)
            .env_clear()
            .env("PORTWATCH_RUNTIME_DIR", place.path().join("run"))
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("run");
        assert_eq!(code(&output), 77, "{args:?} {}", stderr(&output));
        let text = stderr(&output).lines().last().unwrap_or_default();
        assert!(
            text.contains("CAP_BPF and CAP_PERFMON are missing"),
            "{args:?} {text}"
        );
    }
}

/// The pinned events, sealed, in a file for each half.
fn sealed(place: &TempDir) -> (Vec<u8>, Vec<u8>, Head) {
    let mut chain = Chain::default();
    let line = |event: &Event| {
        let mut line = Format::Ecs.line(event);
        chain.seal(&mut line, 0, Format::Ecs);
        line
    };
    let lines: Vec<_> = examples().iter().map(line).collect();
    let (old, new) = (lines[..5].concat(), lines[5..].concat());
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&old).expect("packed");
    fs::write(
        place.path().join("a.jsonl.1.gz"),
        packed.finish().expect("packed"),
    )
    .expect("written");
    fs::write(place.path().join("a.jsonl"), &new).expect("written");
    (old, new, chain.head())
}

#[test]
fn a_chain_that_holds_is_0_and_one_that_does_not_is_1() {
    let place = tempfile::tempdir().expect("dir");
    let (old, new, head) = sealed(&place);
    let path = |name: &str| place.path().join(name).display().to_string();
    let (first, second) = (path("a.jsonl.1.gz"), path("a.jsonl"));
    let verify = |more: &[&str]| {
        let output = run(&[&["verify"], more].concat());
        (code(&output), stdout(&output).to_owned())
    };
    let all = head.number;
    let whole = format!("records 1 to {all} hold; head {head}\n");
    let kept = head.to_string();
    // Whatever the order.
    assert_eq!(verify(&[&second, &first, "--head", &kept]), (0, whole));
    let (code, text) = verify(&[&second]);
    assert_eq!(
        (
            code,
            text.ends_with("records 1 to 5 are missing: the next one here is 6\n")
        ),
        (1, true),
        "{text}"
    );
    assert_eq!(verify(&["--from", "6", &second]).0, 0);
    assert_eq!(
        verify(&[&first, "--head", &kept]),
        (1, format!("records 6 to {all} are missing at the end\n"))
    );
    let mut altered = new.clone();
    let at = altered
        .windows(4)
        .position(|text| text == b"root")
        .expect("a user");
    altered[at] = b'R';
    fs::write(&second, [&old[..], &altered].concat()).expect("written");
    let line = old
        .iter()
        .chain(&new[..at])
        .filter(|byte| **byte == b'\n')
        .count()
        + 1;
    assert_eq!(
        verify(&[&second]),
        (1, format!("{second}:{line}: record {line} was altered\n"))
    );
    // Cut off in the middle of the last line.
    fs::write(&second, &new[..new.len() - 9]).expect("written");
    let (code, text) = verify(&[&first, &second]);
    assert!(
        code == 1
            && text.ends_with(&format!(
                "record {all} was altered: it has no link in the chain\n"
            )),
        "{text}"
    );
    assert_eq!(verify(&[&path("none")]).0, 74);
    // Evidence that somebody emptied.
    let empty = path("empty");
    fs::write(&empty, "").expect("written");
    let nothing = (1, "there is no record 1\n".to_owned());
    assert_eq!(verify(&[&empty]), nothing);
    assert_eq!(verify(&["--head", "x", &first]).0, 64);
}
