//! Every signal stands on the rung that its ladder has at this height, and `doctor` said so before.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::daemon::Home;
use portwatch_tests::harness::watch::output;
use portwatch_tests::harness::{Context, Rung};
use serde_json::Value;

use super::scenarios;

scenarios!("ladder": every_signal_on_its_rung);

/// Instructions that the verifier may follow in one program: a record of a listener is 22,000 of them when it is walked once, and
/// what tells of connections beside it 9,000.
const ONE_WAY: u64 = 36_000;
/// On 6.1, one program of trampolines and of return probes is still walked twice.
const TWO_WAYS: u64 = 50_000;

/// The ladders, best first; below each lies looking again.
const LADDERS: [(&str, &[&str]); 12] = [
    (
        "tcp.listen",
        &["fexit", "kretprobe", "cgroup", "tp_btf", "tracepoint"],
    ),
    ("tcp.backlog", &["fexit", "kretprobe", "tracepoint"]),
    ("udp.bind", &["fexit", "kretprobe", "cgroup", "tracepoint"]),
    ("udp.close", &["fentry", "kprobe", "cgroup"]),
    ("unix.bind", &["fexit", "kretprobe", "tracepoint"]),
    ("unix.listen", &["fexit", "kretprobe", "tracepoint"]),
    ("unix.close", &["fentry", "kprobe"]),
    ("packet.open", &["fexit", "kretprobe", "tracepoint"]),
    ("packet.close", &["fentry", "kprobe"]),
    ("raw.open", &["fexit", "kprobe", "cgroup", "tracepoint"]),
    ("raw.close", &["fentry", "kprobe", "cgroup"]),
    ("bind.failed", &["fexit", "kretprobe", "tracepoint"]),
];

/// How reasons say that something is not there.
const ABSENCES: [&str; 5] = [
    "has no",
    "do not tell of",
    "is not mounted",
    "is built without",
    "is not the host's",
];

/// A program that the verifier refuses, or a prototype that is not known any more, costs a rung in
/// silence: everything else may still pass one rung below.
fn every_signal_on_its_rung(context: &Context) -> Result<()> {
    let rung = context.watch()?.rung();
    let home = Home::new()?;
    let daemon = home.start(context.rung())?;
    let answer = home.command()?.args(["status", "-o", "json"]).output()?;
    let most = match rung.name() {
        "fexit" | "kretprobe" => TWO_WAYS,
        _ => ONE_WAY,
    };
    few_ways_are_verified(daemon.pid(), most)?;
    drop(daemon);
    let status: Value = serde_json::from_slice(&answer.stdout)?;
    let given = list(status.get("mechanisms"));
    for (name, ladder) in LADDERS {
        let signal = of_signal(given, name)?;
        let due = due(ladder, rung);
        if text(signal, "mechanism") == due {
            continue;
        }
        let rejected = list(signal.get("rejected"));
        let reason = rejected
            .iter()
            .find(|rejected| text(rejected, "mechanism") == due)
            .map_or("", |rejected| text(rejected, "reason"));
        // What this kernel or machine does not have is a reason; what portwatch cannot cope with is none.
        if !ABSENCES.iter().any(|absence| reason.contains(absence)) {
            bail!("{name} should stand on {due}: {signal}");
        }
    }
    if context.rung().is_none() {
        let doctor: Value = serde_json::from_slice(&output(&["doctor", "-o", "json"])?.stdout)?;
        let promised = list(doctor.get("signals"));
        for signal in given {
            let doctors = of_signal(promised, text(signal, "signal"))?;
            ensure!(
                text(doctors, "mechanism") == text(signal, "mechanism"),
                "doctor promised {doctors}, given is {signal}"
            );
        }
    }
    Ok(())
}

/// Trap `ways_that_never_meet`: before 6.3, the verifier does not take two places in a ring for the same, and follows every way
/// that leads to one to the end of the program. A start would take twice or three times as long, and only by that it would show.
/// Kernels before 5.16 do not tell.
fn few_ways_are_verified(daemon: u32, most: u64) -> Result<()> {
    for entry in fs::read_dir(format!("/proc/{daemon}/fdinfo"))? {
        // What the daemon has closed since is gone.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let number = |key: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().parse().ok()
        };
        let verified = number("verified_insns:").unwrap_or(0);
        ensure!(
            verified <= most,
            "the verifier followed {verified} instructions of program {:?}",
            number("prog_id:")
        );
    }
    Ok(())
}

/// The best step of the ladder that is not above the rung.
fn due(ladder: &[&'static str], rung: Rung) -> &'static str {
    let height = |name: &str| {
        let name = match name {
            "fentry" => "fexit",
            "kprobe" => "kretprobe",
            other => other,
        };
        Rung::ALL.iter().position(|rung| rung.name() == name)
    };
    ladder
        .iter()
        .find(|step| height(step) >= height(rung.name()))
        .copied()
        .unwrap_or("reconcile")
}

fn of_signal<'a>(signals: &'a [Value], name: &str) -> Result<&'a Value> {
    signals
        .iter()
        .find(|signal| text(signal, "signal") == name)
        .with_context(|| format!("nothing is told of {name}"))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
