//! TCP state changes, only when asked for: in order, and each owned by the process whose socket it is.

use anyhow::{Context as _, Result, bail, ensure};
use portwatch_tests::harness::{Actor, Capability, Context, Event, Kind, Outcome, Sees, Watch};

use super::scenarios;

scenarios!("states": both_ends_v4, v4_client_of_v6_listener);

fn both_ends_v4(context: &Context) -> Result<Outcome> {
    both_ends(context, Kind::TCP4, "127.0.0.1:0")
}

fn v4_client_of_v6_listener(context: &Context) -> Result<Outcome> {
    both_ends(context, Kind::TCP6, "[::]:0")
}

fn both_ends(context: &Context, kind: Kind, address: &str) -> Result<Outcome> {
    if context.sees(Capability::States)? == Sees::No {
        return context.admits(Capability::States);
    }
    let watch = context.fresh(&["--states"])?;
    let mut server = Actor::start("states-server")?;
    let mut client = Actor::start("states-client")?;
    let listener = server.listener(kind, address, 4)?;
    let server_port = server.port(&listener)?;
    let ours = client.socket(Kind::TCP4)?;
    client.call(&format!("connect {} 127.0.0.1:{server_port}", ours.slot))?;
    let client_port = client.port(&ours)?;
    server.call(&format!("accept {} conversation", listener.slot))?;
    client.close(&ours)?;
    // Without it both ends may close at once, before either has heard of the other: CLOSING.
    server.call("drain conversation")?;
    server.call("close conversation")?;

    // The last change of each end.
    let last = |from: u16, to: u16| {
        watch.expect(
            &format!("change to CLOSE of {from} -> {to}"),
            Sees::Exactly,
            0,
            |event| event.kind() == "connection.state",
            |event| is_between(event, from, to) && event.text("new_state") == "CLOSE",
        )
    };
    last(client_port, server_port)?;
    last(server_port, client_port)?;

    // SYN_SENT comes before the client has its port, so the client's events go by its pid.
    let client_side = states(&watch, |event| {
        event.has_pid(client.pid) && event.number("socket.peer_port") == Some(server_port.into())
    });
    follows(
        &client_side,
        &["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"],
        "the client's",
    )?;
    let server_side = states(&watch, |event| is_between(event, server_port, client_port));
    let skip = usize::from(
        server_side
            .first()
            .is_some_and(|first| first.text("new_state") == "SYN_RECV"),
    );
    let server_side = server_side.get(skip..).context("no server side")?;
    follows(
        server_side,
        &["ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"],
        "the server's",
    )?;
    for event in server_side {
        ensure!(
            event.has_pid(server.pid),
            "not the listener's process: {}",
            event.value()
        );
    }
    let (us, them) = if kind == Kind::TCP6 {
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1")
    } else {
        ("127.0.0.1", "127.0.0.1")
    };
    let first = server_side.first().context("no server side")?;
    ensure!(
        first.text("socket.address") == us && first.text("socket.peer_address") == them,
        "the server's end should be {us} with {them}: {}",
        first.value()
    );
    let status = watch.interrupt()?;
    ensure!(status.code() == Some(130), "Ctrl-C ended it with {status}");
    watch.check_stream()?;
    Ok(Outcome::Done)
}

fn is_between(event: &Event, from: u16, to: u16) -> bool {
    event.kind() == "connection.state"
        && event.number("socket.port") == Some(from.into())
        && event.number("socket.peer_port") == Some(to.into())
}

fn states(watch: &Watch, fits: impl Fn(&Event) -> bool) -> Vec<Event> {
    watch.all(|event| event.kind() == "connection.state" && fits(event))
}

/// Each change starts where the one before ended, and together they are these.
fn follows(events: &[Event], wanted: &[&str], whose: &str) -> Result<()> {
    let told: Vec<&str> = events.iter().map(|event| event.text("new_state")).collect();
    if told != wanted {
        bail!("{whose} states should be {wanted:?}, told are {told:?}");
    }
    for pair in events.windows(2) {
        let [before, after] = pair else { continue };
        if before.text("new_state") != after.text("old_state") {
            bail!(
                "{whose} states do not join: {} {}",
                before.value(),
                after.value()
            );
        }
    }
    Ok(())
}
