//! Receives OTLP over HTTP, models traces with typed values, brings them into
//! a form that is the same in every run, and renders them for people.
//!
//! The way of a trace through this crate:
//!
//! 1. a [`Receiver`] takes OTLP requests and puts what they hold into its
//!    [`Store`];
//! 2. [`traces`] makes trees out of the stored [`Span`]s;
//! 3. [`Rules::normalize`] redacts what changes between runs and sorts the
//!    rest, [`Normalized`] writes and reads the result as text;
//! 4. [`tree`], [`waterfall`] and [`svg()`] show traces to a person.
//!
//! Nothing here panics on what comes over the wire.

pub mod compare;
mod decode;
mod json;
pub mod model;
pub mod normalize;
pub mod receiver;
pub mod recorded;
pub mod render;
pub mod snapshot;
pub mod store;
pub mod svg;
mod text;
pub mod trace;

pub use compare::{Comparison, Difference, Finding, Spot};
pub use model::{
    Event, KeyValue, Link, LogRecord, Resource, Scope, Span, SpanId, SpanKind, Status, StatusCode,
    TraceId, Value,
};
pub use normalize::{Contract, ExtraAttribute, Extras, Internal, Keep, Order, Rules};
pub use receiver::{Behaviour, Receiver};
pub use recorded::Recorded;
pub use render::{WaterfallOptions, duration_text, severity, tree, waterfall};
pub use snapshot::{
    Expected, NormalAttribute, NormalEvent, NormalLink, NormalParent, NormalSpan, NormalTrace,
    Normalized, ParseError, Shown, Target,
};
pub use store::{Request, Snapshot, Store, TimedOut};
pub use svg::{SvgOptions, svg};
pub use text::is_unsafe;
pub use trace::{Node, Parent, Trace, traces};
