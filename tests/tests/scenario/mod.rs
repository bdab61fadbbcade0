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
/// `scenarios!("module": …)` for those that run together, `beside` or `alone` before the module for others, or for some of them; see
/// [`portwatch_tests::harness::Company`]. `userland` and `storm` before that say whose doing they are about; see
/// [`portwatch_tests::harness::Part`].
macro_rules! scenarios {
    (userland alone $module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ $module, $(Userland Alone $function)*);
    };
    (userland $module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ $module, $(Userland Together $function)*);
    };
    (storm alone $module:literal: $($function:ident),*; beside $($other:ident),* $(,)?) => {
        scenarios!(@ $module, $(Storm Alone $function)* $(Storm Beside $other)*);
    };
    (alone $module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ $module, $(Kernel Alone $function)*);
    };
    ($module:literal: $($function:ident),* $(,)?) => {
        scenarios!(@ $module, $(Kernel Together $function)*);
    };
    (@ $module:literal, $($part:ident $company:ident $function:ident)*) => {
        /// The scenarios of this file.
        pub(crate) const ALL: &[portwatch_tests::harness::Scenario] = &[$(
            portwatch_tests::harness::Scenario {
                name: concat!($module, "::", stringify!($function)),
                run: |context| $function(context).map(Into::into),
                company: portwatch_tests::harness::Company::$company,
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
        // What takes longest begins first.
        scans::ALL,
        episodes::ALL,
        floods::ALL,
        kinds::ALL,
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
