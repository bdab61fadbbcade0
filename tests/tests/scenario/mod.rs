//! One file per capability; each lists its scenarios.

mod alerts;
mod alerts_alone;
mod baseline;
mod channels;
mod checks;
mod control;
mod episodes;
mod failure;
mod flood;
mod floods;
mod half;
mod hang;
mod history;
mod holders;
mod hostile;
mod identity;
mod inventory;
mod kinds;
mod ladder;
mod loss;
mod metrics;
mod netns;
mod packet;
mod placement;
mod policy;
mod process;
mod program;
mod raw;
mod rendering;
mod respond;
mod scans;
mod siem;
mod sinks;
mod sinks_net;
mod states;
mod stats;
mod storm;
mod stream;
mod syn;
mod tcp;
mod toctou;
mod udp;
mod unix;
mod uring;

use portwatch_tests::harness::Scenario;

/// A list of scenarios named after their functions.
///
/// `scenarios!(alone "module": …)` for those that flood, see [`Scenario::alone`]; `scenarios!(userland "module": …)`, before
/// `alone` where it is both, for those that the kernel has no part in, see [`portwatch_tests::harness::Part`].
macro_rules! scenarios {
    (userland alone $module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ true, Userland, $module, $($function),*);
    };
    (userland $module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ false, Userland, $module, $($function),*);
    };
    (alone $module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ true, Kernel, $module, $($function),*);
    };
    ($module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ false, Kernel, $module, $($function),*);
    };
    (@ $alone:literal, $part:ident, $module:literal, $($function:ident),*) => {
        /// The scenarios of this file.
        pub(crate) const ALL: &[portwatch_tests::harness::Scenario] = &[$(
            portwatch_tests::harness::Scenario {
                name: concat!($module, "::", stringify!($function)),
                run: |context| $function(context).map(Into::into),
                alone: $alone,
                part: portwatch_tests::harness::Part::$part,
            },
        )*];
    };
}
use scenarios;

/// Every scenario.
pub(crate) fn all() -> Vec<Scenario> {
    [
        tcp::ALL,
        udp::ALL,
        unix::ALL,
        packet::ALL,
        raw::ALL,
        rendering::ALL,
        siem::ALL,
        episodes::ALL,
        floods::ALL,
        kinds::ALL,
        scans::ALL,
        respond::ALL,
        failure::ALL,
        holders::ALL,
        uring::ALL,
        process::ALL,
        netns::ALL,
        states::ALL,
        half::ALL,
        hang::ALL,
        inventory::ALL,
        flood::ALL,
        loss::ALL,
        metrics::ALL,
        stream::ALL,
        program::ALL,
        toctou::ALL,
        ladder::ALL,
        hostile::ALL,
        identity::ALL,
        placement::ALL,
        policy::ALL,
        checks::ALL,
        baseline::ALL,
        channels::ALL,
        history::ALL,
        sinks::ALL,
        sinks_net::ALL,
        control::ALL,
        alerts::ALL,
        alerts_alone::ALL,
        storm::ALL,
        syn::ALL,
        stats::ALL,
    ]
    .concat()
}
