//! Starts the whole system around one process under test and says what it exported.
//!
//! A check is black-box: it starts a real binary, sends it real HTTP, and looks at
//! what arrives over real OTLP. [`Lab`] is the system, [`Check`] runs the tests of a
//! step, [`Diagnosis`] is what they say.

mod ask;
pub mod behaviour;
mod broker_choice;
pub mod causes;
mod check;
pub mod consumer_behaviour;
mod consuming;
pub mod contract;
mod diagnosis;
mod environment;
mod error;
mod expect;
mod exported;
mod findings;
mod forwarder;
mod guide;
mod judge;
mod lab;
mod lines;
pub mod outages;
pub mod passed;
mod picture;
mod records;
mod rejections;
mod subject;
mod tls;
mod todo;
mod witness;

pub use ask::{Ask, CALLER_SPAN, CALLER_TRACE, is_around, traceparent};
pub use broker_choice::{BrokerChoice, Message};
pub use causes::Kind;
pub use check::{Case, Check, Failure, Outcome, QUEUE_TIMEOUT, TELLS_WHAT_IS_NEXT, Test};
pub use consuming::{DatabaseLock, Header, Outgoing};
pub use contract::SpanType;
pub use diagnosis::Diagnosis;
pub use environment::clean as clean_environment;
pub use error::LabError;
pub use forwarder::{Fault, Forwarder, Refusing};
#[doc(hidden)]
pub use guide::Home;
pub use judge::{judge, judge_by, snapshot};
pub use lab::{Lab, LabConfig, Part, Recording, Response, Role};
pub use lines::{LineIds, LogLine};
pub use records::Exception;
pub use subject::{Echo, Exit, Program, Stdout, StopSignal};
pub use tls::TlsFront;
pub use todo::{Todo, first_todo};
