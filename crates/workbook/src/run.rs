//! `cargo workbook run`: the whole system, until ctrl-c.

use std::{
    collections::HashMap,
    fmt::Write,
    net::{Ipv4Addr, TcpListener},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use lab::{Echo, Lab, LabConfig, Part, Program};
use otlp::{Store, Trace, TraceId};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, Programs, step::Step, terminal, trace};

/// A trace to which nothing was added for this long is shown.
const QUIET: Duration = Duration::from_millis(400);

/// How often it is looked whether a trace has become quiet and tier1 still runs.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(step: &Step, programs: &Programs, port: u16) -> Result<ExitCode, Error> {
    let mut config = LabConfig::from_env()?;
    config.slow_delay = Duration::from_millis(1500);
    config.slow_chance = 0.05;
    if programs.consumer.is_some() {
        config.without.push(Part::Consumer);
    }
    let broker = config.broker.describe();
    let mut lab = Lab::start(config)?;
    // Signals are heard from here on: whatever comes, tier1 is told to stop and waited for.
    let mut stop = lab.block_on(async { Stop::new() })?;

    // In a process group of its own, so that ctrl-c reaches this command alone and
    // each program stops in order.
    if let Some(consumer) = &programs.consumer {
        let consumer = Program::tier1(consumer).in_own_group();
        lab.spawn_consumer(&consumer, &[trace::EXPORT_SOON], Some(echo("consumer")))?;
    }
    let port = free_port(port).to_string();
    let tier1 = Program::tier1(&programs.tier1).in_own_group();
    let variables = [("PORT", port.as_str()), trace::EXPORT_SOON];
    lab.spawn_echoing(&tier1, &variables, Some(echo("tier1")))?;

    terminal::say(&format!("\n{step} runs, with all around it ({broker})\n"));
    let first = lab.get("/fast")?;
    terminal::say(&format!(
        "\nGET /fast → {}\n{}",
        first.status,
        terminal::harmless(first.body.trim_end())
    ));
    trace::wait_for_export(step, &lab);
    lab.settle()?;
    let mut shown = Shown::default();
    terminal::say(&format!("\n\n{}", shown.take(&lab.store(), true)));
    terminal::say(&addresses(&lab));

    let store = lab.store();
    let code = loop {
        let stopped = lab.block_on(async {
            tokio::select! {
                () = stop.requested() => true,
                () = tokio::time::sleep(LOOK) => false,
            }
        });
        if stopped {
            terminal::say("\nstopping …\n");
            let recording = lab.finish()?;
            let ended = recording
                .exit
                .map_or_else(String::new, |exit| exit.status.to_string());
            terminal::say(&shown.take(&store, true));
            terminal::say(&format!(
                "tier1 ended ({ended}); {} spans had come\n",
                shown.spans
            ));
            break ExitCode::SUCCESS;
        }
        terminal::say(&shown.take(&store, false));
        if lab.subject_has_exited() {
            terminal::complain("tier1 ended by itself: its last lines are above");
            break ExitCode::FAILURE;
        }
    };
    Ok(code)
}

/// Says each line that `program` writes, but those of the console exporter.
fn echo(program: &'static str) -> Echo {
    Arc::new(move |line| {
        if !trace::is_console_span(line) {
            let line = format!("{program} │ {}", terminal::harmless(line));
            terminal::say(&format!("{}\n", terminal::dim(&line)));
        }
    })
}

/// Where everything answers, and what to do with it.
fn addresses(lab: &Lab) -> String {
    let mut text = String::new();
    for (name, address) in lab.addresses() {
        let _ = writeln!(text, "  {name:<14} {address}");
    }
    let url = lab.subject_url();
    let _ = writeln!(
        text,
        "\nAsk it yourself, here are the routes; each request's traces appear below:\n"
    );
    for route in ["fast", "slow", "error", "random"] {
        let _ = writeln!(text, "  curl {url}/{route}");
    }
    let _ = writeln!(text, "\nctrl-c ends it.");
    text
}

/// `wanted` if it is free, else 0: any.
fn free_port(wanted: u16) -> u16 {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) {
        Ok(_) => wanted,
        Err(_) => 0,
    }
}

/// The signals that end the command: ctrl-c, SIGTERM, and a terminal that is closed.
pub struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    /// Hears them from now on. To be called on a runtime.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of them.
    pub async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Which traces were shown, and when the others last grew.
#[derive(Default)]
struct Shown {
    traces: HashMap<TraceId, Growth>,
    /// How many spans there have been.
    spans: usize,
    version: Option<u64>,
}

struct Growth {
    spans: usize,
    shown: usize,
    since: Instant,
}

impl Shown {
    /// The traces that have become quiet, as waterfalls; with `all` the others, too.
    /// One to which spans were added after it was shown is shown again.
    fn take(&mut self, store: &Store, all: bool) -> String {
        let version = *store.subscribe().borrow();
        let waiting = self
            .traces
            .values()
            .any(|growth| growth.shown < growth.spans);
        if self.version == Some(version) && !waiting {
            return String::new();
        }
        self.version = Some(version);
        let snapshot = store.snapshot();
        let traces = otlp::traces(snapshot.spans());
        // The store keeps so many spans and no more: what it forgot is forgotten here.
        self.traces
            .retain(|id, _| traces.iter().any(|trace| trace.trace_id == *id));
        let now = Instant::now();
        let mut quiet: Vec<Trace> = Vec::new();
        for trace in traces {
            let spans = trace.spans().count();
            let growth = self.traces.entry(trace.trace_id).or_insert(Growth {
                spans: 0,
                shown: 0,
                since: now,
            });
            if growth.spans != spans {
                self.spans += spans.saturating_sub(growth.spans);
                growth.spans = spans;
                growth.since = now;
            }
            let is_quiet = all || now.duration_since(growth.since) >= QUIET;
            if growth.shown < spans && is_quiet {
                growth.shown = spans;
                quiet.push(trace);
            }
        }
        if quiet.is_empty() {
            return String::new();
        }
        format!(
            "{}\n",
            otlp::waterfall(&quiet, snapshot.logs(), &terminal::options())
        )
    }
}
