//! Doing what was decided about a storm: nft, without a shell, its script on standard input.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::alert::exec::{self, Ended};
use crate::event::ResponseAction;
use crate::storm::response::Order;

/// Orders that may wait, and outcomes that may.
const WAITING: usize = 64;
/// How long nft may take.
const TIME: Duration = Duration::from_secs(5);
/// Where it is looked for.
const PLACES: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"];
/// What nft says of an element that has run out meanwhile.
const GONE: &str = "No such file or directory";

/// An order, and what became of it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) order: Order,
    pub(super) error: Option<String>,
}

/// Carries orders out, one after the other, off the pipeline.
pub(super) struct Worker {
    orders: Option<mpsc::Sender<Order>>,
    outcomes: mpsc::Sender<Done>,
}

impl Worker {
    /// A worker, and where its outcomes come.
    pub(super) fn new() -> (Self, mpsc::Receiver<Done>) {
        let (outcomes, done) = mpsc::channel(WAITING);
        let worker = Self {
            orders: None,
            outcomes,
        };
        (worker, done)
    }

    /// Takes an order. What needs no work, or cannot wait, comes back at once.
    pub(super) fn take(&mut self, order: Order) -> Option<Done> {
        if order.dry_run {
            return Some(Done { order, error: None });
        }
        let outcomes = &self.outcomes;
        let orders = self.orders.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            tokio::spawn(work(receiver, outcomes.clone()));
            sender
        });
        let refused = orders.try_send(order).err()?;
        Some(Done {
            order: refused.into_inner(),
            error: Some(format!("more than {WAITING} others wait for nft")),
        })
    }
}

async fn work(mut orders: mpsc::Receiver<Order>, outcomes: mpsc::Sender<Done>) {
    while let Some(order) = orders.recv().await {
        let done = tokio::task::spawn_blocking(move || {
            let error = carry_out(&order).err();
            Done { order, error }
        });
        match done.await {
            Ok(done) => {
                if outcomes.send(done).await.is_err() {
                    // The pipeline is gone.
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "a response was not carried out"),
        }
    }
}

/// All of it, in the network namespace of this process.
fn carry_out(order: &Order) -> Result<(), String> {
    let nft = PLACES.iter().map(Path::new).find(|place| place.exists());
    let nft = nft.ok_or("nft is not installed: install the package nftables")?;
    for script in order.scripts() {
        let mut command = Command::new(nft);
        command.args(["-f", "-"]).current_dir("/").env_clear();
        exec::seclude(&mut command);
        let ended = exec::run(command, script.as_bytes(), TIME);
        let ended = ended.map_err(|error| format!("nft cannot be run: {error}"))?;
        let is_gone = order.action == ResponseAction::Unblock && says(&ended, GONE);
        if !ended.is_success() && !is_gone {
            return Err(format!("nft {}", ended.told()));
        }
    }
    Ok(())
}

fn says(ended: &Ended, text: &str) -> bool {
    ended
        .output
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};
    use std::time::Duration;

    use super::{PLACES, carry_out};
    use crate::event::ResponseAction;
    use crate::storm::Prefix;
    use crate::storm::response::{Order, Set};

    /// Run by `the_real_nft_takes_it`, in a network namespace that ends with it.
    const INSIDE: &str = "daemon::responses::tests::inside_a_namespace";

    fn nft(script: &str) -> Output {
        let nft = PLACES.iter().find(|place| Path::new(place).exists());
        let nft = nft.expect("nft");
        let output = Command::new(nft).arg(script).output();
        output.expect("nft runs")
    }

    fn order(action: ResponseAction, set: &str) -> Order {
        let prefix = |text| Prefix::parse(text).expect("a prefix");
        Order {
            action,
            prefixes: vec![prefix("203.0.113.7/32"), prefix("203.0.113.8/32")],
            set: Set::parse(set).expect("a set"),
            timeout: Duration::from_secs(2),
            cause: "syn-flood",
            episode: Some(1),
            dry_run: false,
        }
    }

    fn listed() -> String {
        let output = nft("list set inet filter bad4");
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    #[ignore = "changes the packet filter of the namespace that it runs in"]
    fn inside_a_namespace() {
        let made = "table inet filter { set bad4 { type ipv4_addr; flags timeout; }; }";
        assert!(nft(made).status.success());
        carry_out(&order(ResponseAction::Block, "inet filter bad4")).expect("blocked");
        let blocked = listed();
        assert!(blocked.contains("203.0.113.7 timeout 2s"), "{blocked}");
        carry_out(&order(ResponseAction::Unblock, "inet filter bad4")).expect("unblocked");
        assert!(!listed().contains("203.0.113"), "{}", listed());
        // What is no longer there is no mistake.
        carry_out(&order(ResponseAction::Unblock, "inet filter bad4")).expect("gone");
        // Nobody takes it out, and it goes.
        carry_out(&order(ResponseAction::Block, "inet filter bad4")).expect("blocked");
        std::thread::sleep(Duration::from_secs(3));
        assert!(!listed().contains("203.0.113"), "{}", listed());
        let refused = carry_out(&order(ResponseAction::Block, "inet filter none"));
        let refused = refused.expect_err("there is no such set");
        assert!(refused.starts_with("nft ended with 1: "), "{refused}");
    }

    #[test]
    fn the_real_nft_takes_it() {
        let is_there = PLACES.iter().any(|place| Path::new(place).exists());
        if !is_there || !rustix::process::geteuid().is_root() {
            eprintln!("left out: it needs root and the package nftables");
            return;
        }
        let myself = std::env::current_exe().expect("a test");
        let output = Command::new("unshare")
            .arg("-n")
            .arg(myself)
            .args(["--exact", INSIDE, "--ignored"])
            .output()
            .expect("unshare");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}"
        );
    }
}
