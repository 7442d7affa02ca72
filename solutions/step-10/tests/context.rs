//! How a context comes along to where it does not go by itself.
//!
//! No SDK and no span is needed for that: the context holds the ids of a caller's span.

use std::thread;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    context::FutureExt,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

/// The span that is current in each of the tests.
const SPAN: SpanId = SpanId::from_bytes([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);

fn a_span() -> Context {
    let span = SpanContext::new(
        TraceId::from_bytes([1; 16]),
        SPAN,
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    Context::new().with_remote_span_context(span)
}

/// The span under which a new one would be started here.
fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(2).build();
    runtime.expect("a runtime can be made")
}

#[test]
fn a_task_begins_without_it() {
    let seen = async { tokio::spawn(async { current() }).await };
    let seen = runtime().block_on(seen.with_context(a_span()));
    assert_eq!(seen.expect("the task ends"), SpanId::INVALID);
}

#[test]
fn a_task() {
    let seen = async {
        // ANCHOR: spawn
        let context = Context::current();
        let task = tokio::spawn(async { current() }.with_context(context));
        // ANCHOR_END: spawn
        task.await
    };
    let seen = runtime().block_on(seen.with_context(a_span()));
    assert_eq!(seen.expect("the task ends"), SPAN);
}

#[test]
fn a_blocking_thread() {
    let seen = async {
        // ANCHOR: spawn_blocking
        let context = Context::current();
        let work = tokio::task::spawn_blocking(move || {
            let _guard = context.attach();
            current()
        });
        // ANCHOR_END: spawn_blocking
        work.await
    };
    let seen = runtime().block_on(seen.with_context(a_span()));
    assert_eq!(seen.expect("the work ends"), SPAN);
}

#[test]
fn a_thread() {
    let _guard = a_span().attach();
    let context = Context::current();
    let seen = thread::spawn(move || {
        let _guard = context.attach();
        current()
    });
    assert_eq!(seen.join().expect("the thread ends"), SPAN);
    assert_eq!(current(), SPAN);
}

#[test]
fn a_channel() {
    // ANCHOR: channel
    /// What goes through the channel: the work, and whose it is.
    struct Job {
        number: u32,
        context: Context,
    }

    let worker = |mut jobs: mpsc::Receiver<Job>| async move {
        let mut done = Vec::new();
        while let Some(job) = jobs.recv().await {
            let work = async { (job.number, current()) };
            done.push(work.with_context(job.context).await);
        }
        done
    };
    // ANCHOR_END: channel
    let done = runtime().block_on(async {
        let (sender, jobs) = mpsc::channel(2);
        let worker = tokio::spawn(worker(jobs));
        let first = Job {
            number: 1,
            context: a_span(),
        };
        let second = Job {
            number: 2,
            context: Context::new(),
        };
        for job in [first, second] {
            assert!(sender.send(job).await.is_ok(), "the worker takes it");
        }
        drop(sender);
        worker.await
    });
    let done = done.expect("the worker ends");
    // Each job's own: the first one's context does not stay for the second.
    assert_eq!(done, [(1, SPAN), (2, SpanId::INVALID)]);
}
