//! The built program as a shell sees it: exit codes, standard output, standard error.

#![expect(clippy::expect_used, reason = "a test ends where its ground gives way")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

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
