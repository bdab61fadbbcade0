//! `tail` with probes of its own. The pipeline has a thread to itself, so that an output that takes nothing
//! cannot hold it up: what it has no room for then becomes a `gap`.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::printer::Printer;
use crate::cli::args;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::run::options;
use crate::cli::signal::Interrupt;
use crate::config::{self, Paths};
use crate::daemon::{self, Approving, Options, StartError};
use crate::filter::Filter;
use crate::sink::{Bus, Interest, Item, Limits, Reader, Selection, Subscriber};

/// Bytes that are printed between two looks at everything else.
const BATCH: usize = 64 * 1024;
/// Nobody can ask for the past here.
const NO_REPLAY: Limits = Limits { lines: 0, bytes: 0 };

/// Loads the probes and prints what they see until something ends it. The kernel takes the probes out
/// again when the process ends, however it ends.
pub(super) fn run(
    args: &args::Tail,
    paths: &Paths,
    filter: Filter,
    mut printer: Printer<impl AsFd>,
    interrupt: &Interrupt,
) -> Result<Exit, Failure> {
    let config = config::load(paths)?.config;
    let bus = Bus::new(Limits::READER, NO_REPLAY);
    let reader = Reader {
        uid: rustix::process::getuid().as_raw(),
        pid: Some(std::process::id()),
        is_own: false,
    };
    let interest = Interest {
        states: args.states,
        since: None,
    };
    let mut subscriber = bus.subscribe(reader, interest).subscriber;
    let approving = Approving {
        state_dir: paths.state_dir.clone(),
        learn: None,
    };
    let options = options(args.probing, &config, approving);
    let mut fault = watch(options, bus).map_err(no_thread)?;
    let selection = if filter.matches_all() {
        Selection::default()
    } else {
        Selection::new(Some(Box::new(move |event| filter.matches(event))))
    };
    // Drives nothing but the waiting of this thread.
    let waiting = Builder::new_current_thread().build().map_err(no_thread)?;
    loop {
        match waiting.block_on(next(&mut subscriber, &mut fault, interrupt)) {
            Next::Items(items) => {
                for item in &items {
                    if let ControlFlow::Break(exit) = show(item, &selection, &mut printer)? {
                        return Ok(exit);
                    }
                }
                if let ControlFlow::Break(exit) = printer.flush()? {
                    return Ok(exit);
                }
            }
            Next::End => return Ok(interrupt.exit()),
            Next::Fault(fault) => return Err(fault),
        }
    }
}

fn show(
    item: &Item,
    selection: &Selection,
    printer: &mut Printer<impl AsFd>,
) -> Result<ControlFlow<Exit>, Failure> {
    match item {
        Item::Line(line) if selection.admits(line.event()) => printer.published(line),
        Item::Line(_) => Ok(ControlFlow::Continue(())),
        Item::States(states) => {
            for index in 0..states.count() {
                if selection.admits_state(states, index) {
                    let shown = printer.state(states, index)?;
                    if shown.is_break() {
                        return Ok(shown);
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        }
    }
}

enum Next {
    Items(Vec<Item>),
    End,
    Fault(Failure),
}

/// Lines go before a fault, so that what was seen is printed.
async fn next(
    subscriber: &mut Subscriber,
    fault: &mut oneshot::Receiver<Failure>,
    interrupt: &Interrupt,
) -> Next {
    tokio::select! {
        biased;
        () = interrupt.asked() => Next::End,
        Some(items) = subscriber.next_batch(BATCH) => Next::Items(items),
        fault = fault => Next::Fault(fault.unwrap_or_else(|_| {
            Failure::new(Exit::Software, "bug: the pipeline ended without a word")
        })),
    }
}

/// Starts the pipeline on a thread of its own; tells why it ended.
fn watch(options: Options, bus: Arc<Bus>) -> io::Result<oneshot::Receiver<Failure>> {
    let (sender, receiver) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || {
            let failure = runtime.block_on(async {
                match daemon::start(options, bus).await {
                    Err(error) => explain(error),
                    Ok(mut watch) => {
                        let error = watch.ended().await;
                        Failure::new(Exit::Io, format_args!("watching has ended: {error}"))
                    }
                }
            });
            // Nobody listens any more when the process is ending anyway.
            let _ = sender.send(failure);
        })?;
    Ok(receiver)
}

/// Whoever may not load probes may still read from a daemon that did.
fn explain(error: StartError) -> Failure {
    let is_privilege = matches!(error, StartError::NotPermitted(_));
    let failure = Failure::from(error);
    if is_privilege {
        failure.and(
            "; or let a daemon watch (`systemctl start portwatch`), which members of the group \
             portwatch may read from",
        )
    } else {
        failure
    }
}

fn no_thread(error: io::Error) -> Failure {
    Failure::new(Exit::Io, format_args!("cannot start the pipeline: {error}"))
}
