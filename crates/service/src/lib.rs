//! What the services around tier1 have in common: telemetry, variables, start and stop.
//!
//! tier2 and consumer hand [`Telemetry`] on as a parameter of theirs. The rest is for
//! the binaries.

mod binary;
mod telemetry;
mod variables;
// One propagator, not two: what a reader of the course is given is what tier2 and consumer
// run on.
#[path = "../../../solutions/step-07/src/w3c.rs"]
mod w3c;

pub use binary::{fail, run, stop_signal};
pub use telemetry::Telemetry;
pub use variables::{address, variable};
pub use w3c::W3cPropagator;

#[cfg(test)]
mod tests;
