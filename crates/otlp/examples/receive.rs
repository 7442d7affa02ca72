//! Runs the receiver by itself, on 0.0.0.0:4318: prints a line for each span and for each
//! service's log records as they come, until ctrl-c or SIGTERM.
//!
//! It stands for a backend where none can be had: `cargo run -p otlp --example receive`.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use otlp::{Receiver, SpanId};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> io::Result<()> {
    // Before anyone may ask: a signal that comes now must be heard.
    let mut terminate = signal(SignalKind::terminate())?;
    let receiver = Receiver::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4318))).await?;
    eprintln!("receiving at {}", receiver.endpoint());
    let store = receiver.store();
    let mut changes = store.subscribe();
    let (mut spans, mut logs) = (0, 0);
    loop {
        let stopped = tokio::select! {
            changed = changes.changed() => changed.is_err(),
            _ = terminate.recv() => true,
            result = tokio::signal::ctrl_c() => { result?; true }
        };
        let snapshot = store.snapshot();
        let mut out = io::stdout().lock();
        for span in snapshot.spans().iter().skip(spans) {
            let parent = span.parent_span_id.unwrap_or(SpanId([0; 8]));
            // Debug escapes whatever a terminal would obey.
            writeln!(
                out,
                "span {} {} {} {:?} {} {:?}",
                span.trace_id,
                span.span_id,
                parent,
                span.service(),
                span.kind.as_str(),
                span.name,
            )?;
        }
        for record in snapshot.logs().iter().skip(logs) {
            let trace = record
                .trace_id
                .map_or_else(|| "-".to_owned(), |id| id.to_string());
            writeln!(out, "log {trace} {:?}", record.resource.service())?;
        }
        out.flush()?;
        (spans, logs) = (snapshot.spans().len(), snapshot.logs().len());
        if stopped {
            return Ok(());
        }
    }
}
