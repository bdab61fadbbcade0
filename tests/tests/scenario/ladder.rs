//! Every signal stands on the rung that its ladder has at this height, and `doctor` said so before.

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::watch::{output, rung_args};
use portwatch_tests::harness::{Context, Rung};
use serde_json::Value;

use super::scenarios;

scenarios!("ladder": every_signal_on_its_rung);

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

/// A program that the verifier refuses, or a prototype that is not known any more, costs a rung in
/// silence: everything else may still pass one rung below.
fn every_signal_on_its_rung(context: &Context) -> Result<()> {
    let watch = context.watch()?;
    let ready = watch.all(|event| event.kind() == "sensor.ready");
    let ready = ready.first().context("no sensor.ready")?;
    let mut args = vec!["doctor".to_owned(), "-o".to_owned(), "json".to_owned()];
    args.extend(rung_args(context.rung()));
    let doctor: Value = serde_json::from_slice(&output(&args)?.stdout)?;
    let promised = list(doctor.get("signals"));
    let given = list(Some(ready.at("sensor.mechanisms")));
    ensure!(
        given.len() > LADDERS.len(),
        "no mechanisms: {}",
        ready.value()
    );
    for signal in given {
        let name = text(signal, "signal");
        let doctors = of_signal(promised, name)?;
        ensure!(
            text(doctors, "mechanism") == text(signal, "mechanism"),
            "{name} stands on {}, doctor promised {doctors}: a program was refused when it was loaded",
            text(signal, "mechanism")
        );
    }
    for (name, ladder) in LADDERS {
        let signal = of_signal(promised, name)?;
        let due = due(ladder, watch.rung());
        if text(signal, "mechanism") == due {
            continue;
        }
        // What this kernel, or this machine, has not is a reason; what portwatch cannot cope with is none.
        let rejected = list(signal.get("rejected"));
        let reason = rejected
            .iter()
            .find(|rejected| text(rejected, "mechanism") == due)
            .map_or("", |rejected| text(rejected, "reason"));
        if reason.is_empty() || reason.contains("refuses") || reason.contains("do not know") {
            bail!("{name} should stand on {due}: {signal}");
        }
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
        .with_context(|| format!("doctor does not tell of {name}"))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
