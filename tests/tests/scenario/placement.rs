//! Unit and container of a process, by the cgroup it was in when it opened the listener.

use anyhow::{Context as _, Result, ensure};
use portwatch_tests::harness::cgroup::Group;
use portwatch_tests::harness::expect::demand_all;
use portwatch_tests::harness::{Actor, Capability, Context, Event, Kind, Outcome, Sees};
use serde_json::{Value, json};

use super::scenarios;

scenarios!("placement": unit, docker, kubernetes, podman, unit_of_a_process_that_is_gone);

/// 64 digits, as container runtimes name what they run.
const ID: &str = "5a17e0c0ffee5a17e0c0ffee5a17e0c0ffee5a17e0c0ffee5a17e0c0ffee5a17";

fn unit(context: &Context) -> Result<Outcome> {
    placed(
        context,
        "place-unit",
        "system.slice/portwatch-test.service",
        &json!({"process.unit": "portwatch-test.service", "process.container": null}),
    )
}

fn docker(context: &Context) -> Result<Outcome> {
    container(
        context,
        "place-docker",
        &format!("system.slice/docker-{ID}.scope"),
        "docker",
    )
}

fn kubernetes(context: &Context) -> Result<Outcome> {
    container(
        context,
        "place-kube",
        &format!("kubepods.slice/kubepods-pod7.slice/cri-containerd-{ID}.scope"),
        "containerd",
    )
}

fn podman(context: &Context) -> Result<Outcome> {
    container(
        context,
        "place-podman",
        &format!("machine.slice/libpod-{ID}.scope/container"),
        "podman",
    )
}

/// Started in a unit, and gone within a millisecond.
fn unit_of_a_process_that_is_gone(context: &Context) -> Result<Outcome> {
    let path = "system.slice/portwatch-blink.service";
    let Some(group) = Group::new(path)? else {
        return Ok(Outcome::Skipped("cgroup2 is not mounted".to_owned()));
    };
    if context.sees(Capability::ShortLived)? == Sees::No {
        return context.admits(Capability::ShortLived);
    }
    let watch = context.watch()?;
    let mut actor = Actor::start("place-gone")?;
    group.take(actor.pid)?;
    actor.call("blink 1 place-gone 1")?;
    actor.exit()?;
    let told = |event: &Event| event.is_opening() && event.has_argument("place-gone-0");
    let opened = watch.expect("opening", Sees::Exactly, 0, |_| false, told)?;
    demand_all(
        &opened,
        &json!({"process.unit": "portwatch-blink.service", "process.exe": actor.exe}),
    )?;
    Ok(Outcome::Done)
}

fn container(context: &Context, token: &str, path: &str, runtime: &str) -> Result<Outcome> {
    let wanted = json!({"process.container.id": ID, "process.container.runtime": runtime});
    placed(context, token, path, &wanted)
}

/// Outside first, then moved into the group: each listener tells where its process was at that moment.
fn placed(context: &Context, token: &str, path: &str, wanted: &Value) -> Result<Outcome> {
    let Some(group) = Group::new(path)? else {
        return Ok(Outcome::Skipped("cgroup2 is not mounted".to_owned()));
    };
    let watch = context.watch()?;
    let mut actor = Actor::start(token)?;
    let outside = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let before = watch.opened(&actor, &outside, json!({}))?;
    ensure!(
        !before
            .at("process")
            .to_string()
            .contains(path.rsplit('/').next().context("no name")?),
        "told before it was there: {}",
        before.value()
    );
    group.take(actor.pid)?;
    let inside = actor.listener(Kind::TCP4, "127.0.0.1:0", 1)?;
    let opened = watch.opened(&actor, &inside, json!({}))?;
    demand_all(&opened, wanted)?;
    actor.close(&inside)?;
    let closed = watch.closed(&inside, &opened)?;
    demand_all(&closed, wanted)?;
    actor.close(&outside)?;
    watch.closed(&outside, &before)?;
    Ok(Outcome::Done)
}
