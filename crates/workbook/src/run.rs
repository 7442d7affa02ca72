//! `cargo workbook run`: the whole system, until ctrl-c.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    net::{Ipv4Addr, TcpListener},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use lab::{Echo, Lab, LabConfig, Part, Program};
use otlp::{Snapshot, Span, Store, TraceId};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Error, Programs,
    arrivals::Arrivals,
    page::{About, Delays, Page},
    step::{self, Step},
    terminal, trace,
    variable::{self, Variable},
};

/// How often it is looked whether a trace has become whole and tier1 still runs.
const LOOK: Duration = Duration::from_millis(100);

/// How long the traces of the first request are waited for.
const FIRST: Duration = Duration::from_secs(4);

/// How many traces are shown at one look, and how many are remembered. Who puts load on
/// tier1 wants to see what it does, not each of them.
const AT_ONCE: usize = 10;
const REMEMBERED: usize = 1000;

/// How many spans that came late are named.
const LATE: usize = 5;

/// How the system is run.
pub struct Options<'a> {
    /// The port of tier1 and that of the page, if they are free.
    pub port: u16,
    pub page_port: u16,
    /// Whether to show what a console exporter writes.
    pub console: bool,
    /// Variables for the step's program.
    pub env: &'a [Variable],
}

pub fn run(step: &Step, programs: &Programs, options: &Options<'_>) -> Result<ExitCode, Error> {
    let mut config = LabConfig::from_env()?;
    let delays = Delays {
        here: slow_delay(options.env),
        in_checks: config.slow_delay,
    };
    config.slow_delay = delays.here;
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
    let (of_tier1, of_consumer) = programs.variables(options.env);
    if let Some(consumer) = &programs.consumer {
        let consumer = Program::tier1(consumer).in_own_group();
        let variables = variable::with(&trace::EXPORT_SOON, of_consumer);
        lab.spawn_consumer(&consumer, &variables, Some(echo("consumer", options)))?;
    }
    let port = free_port(options.port).to_string();
    let tier1 = Program::tier1(&programs.tier1).in_own_group();
    let mut variables = variable::with(&trace::EXPORT_SOON, of_tier1);
    variables.push(("PORT", &port));
    lab.spawn_echoing(&tier1, &variables, Some(echo("tier1", options)))?;

    terminal::say(&format!("\n{step} runs, with all around it ({broker})\n"));
    let first = lab.get("/fast")?;
    terminal::say(&format!(
        "\nGET /fast → {}\n{}\n",
        first.status,
        terminal::harmless(first.body.trim_end())
    ));
    if first.elapsed >= delays.here {
        terminal::say("(It was slow by chance, see SLOW_CHANCE: others will be fast.)\n");
    }
    trace::wait_for_export(step, &lab);
    lab.settle()?;
    let store = lab.store();
    let mut shown = Shown::default();
    let patience = Instant::now() + FIRST;
    while !shown.is_all_whole(&store) && Instant::now() < patience {
        lab.block_on(async { tokio::time::sleep(LOOK).await });
    }
    terminal::say(&format!("\n{}", shown.take(&store, true)));
    let tier1 = step.tier1()?;
    let routes = routes(&tier1);
    let page = page(&lab, step, &tier1, &routes, delays, options)?;
    terminal::say(&addresses(&lab, &page, options.page_port, &routes));

    let code = loop {
        let stopped = lab.block_on(async {
            tokio::select! {
                () = stop.requested() => true,
                () = tokio::time::sleep(LOOK) => false,
            }
        });
        if stopped {
            terminal::say("\nstopping …\n");
            page.end();
            let recording = lab.finish()?;
            let ended = recording
                .exit
                .map_or_else(String::new, |exit| exit.status.to_string());
            terminal::say(&shown.take(&store, true));
            terminal::say(&format!(
                "tier1 ended ({ended}); {} spans had come\n",
                shown.arrivals.spans()
            ));
            break ExitCode::SUCCESS;
        }
        terminal::say(&shown.take(&store, false));
        if lab.subject_has_exited() {
            page.end();
            terminal::complain("tier1 ended by itself: its last lines are above");
            break ExitCode::FAILURE;
        }
    };
    Ok(code)
}

/// What SLOW_DELAY_MS is to be: as long as tier1's own, unless the reader says otherwise.
fn slow_delay(env: &[Variable]) -> Duration {
    let given = variable::value(env, "SLOW_DELAY_MS").and_then(|ms| ms.parse().ok());
    Duration::from_millis(given.unwrap_or(1500))
}

/// Serves the page.
fn page(
    lab: &Lab,
    step: &Step,
    tier1: &Step,
    routes: &[&str],
    delays: Delays,
    options: &Options<'_>,
) -> Result<Page, Error> {
    let delay =
        variable::value(options.env, "OTEL_BSP_SCHEDULE_DELAY").and_then(|ms| ms.parse().ok());
    let addresses = lab.addresses().into_iter();
    let about = About {
        step: step.to_string(),
        contract: tier1.number(),
        contracts: step::titles()?,
        routes: routes.iter().map(|route| format!("/{route}")).collect(),
        addresses: addresses.map(|(name, at)| (name.to_owned(), at)).collect(),
        tier1: lab.subject_url(),
        exports: tier1.has_telemetry(),
        patience: About::patience(Duration::from_millis(delay.unwrap_or_default())),
        delays,
        workspace: step::workspace(),
    };
    Ok(lab.block_on(Page::start(about, lab.store(), options.page_port))?)
}

/// The routes of a tier1 that are worth a request.
fn routes(tier1: &Step) -> Vec<&'static str> {
    let mut routes = vec!["fast", "slow", "error", "random"];
    if tier1.has_route("/panic") {
        routes.push("panic");
    }
    routes
}

/// Says each line that `program` writes, but those of the console exporter, unless they
/// are asked for.
fn echo(program: &'static str, options: &Options<'_>) -> Echo {
    let exporters = ["OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER"];
    let mut chosen = exporters
        .iter()
        .map(|name| variable::value(options.env, name));
    let all = options.console || chosen.any(|value| value.is_some());
    Arc::new(move |line| {
        if all || !trace::is_console_span(line) {
            let line = format!("{program} │ {}", terminal::harmless(line));
            terminal::say(&format!("{}\n", terminal::dim(&line)));
        }
    })
}

/// Where everything answers, and what to do with it.
fn addresses(lab: &Lab, page: &Page, page_port: u16, routes: &[&str]) -> String {
    let mut text = String::new();
    let page = page.url();
    let taken = if page_port == 0 || page.ends_with(&format!(":{page_port}")) {
        String::new()
    } else {
        format!("   ({page_port} is taken: by another run?)")
    };
    let _ = writeln!(text, "  {:<14} {page}{taken}", "page");
    for (name, address) in lab.addresses() {
        let _ = writeln!(text, "  {name:<14} {address}");
    }
    let url = lab.subject_url();
    let _ = writeln!(
        text,
        "\nOpen the page in a browser, or ask tier1 yourself, here are the routes; each \
         request's\ntraces appear there and below:\n"
    );
    for route in routes {
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

/// Which traces were shown.
struct Shown {
    arrivals: Arrivals,
    /// For each that was shown, the number of the first span that was not.
    until: HashMap<TraceId, u64>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            arrivals: Arrivals::new(REMEMBERED),
            until: HashMap::new(),
        }
    }
}

impl Shown {
    /// Whether there are traces, and all of them whole.
    fn is_all_whole(&mut self, store: &Store) -> bool {
        let now = Instant::now();
        self.arrivals.look(&store.snapshot(), now);
        let traces = self.arrivals.newest();
        !traces.is_empty() && traces.iter().all(|trace| trace.is_whole(now))
    }

    /// The traces that have become whole, as waterfalls; with `all` the others, too. Of one
    /// to which spans were added after it was shown, these, in a line each.
    fn take(&mut self, store: &Store, all: bool) -> String {
        let snapshot = store.snapshot();
        let now = Instant::now();
        self.arrivals.look(&snapshot, now);
        self.until.retain(|id, _| self.arrivals.get(id).is_some());
        let mut whole = Vec::new();
        let mut late = HashMap::new();
        let mut traces = self.arrivals.newest();
        traces.reverse();
        for trace in traces {
            if !(all || trace.is_whole(now)) {
                continue;
            }
            match self.until.insert(trace.id, trace.next) {
                None => whole.push(trace.id),
                Some(until) if until < trace.next => {
                    late.insert(trace.id, until);
                }
                Some(_) => {}
            }
        }
        if whole.is_empty() && late.is_empty() {
            return String::new();
        }
        let unseen = whole.len().saturating_sub(AT_ONCE);
        whole.drain(..unseen);
        let mut text = waterfalls(&snapshot, &whole);
        if unseen > 0 {
            let _ = writeln!(text, "… and {unseen} more traces at once\n");
        }
        text.push_str(&additions(&snapshot, &late));
        text
    }
}

fn waterfalls(snapshot: &Snapshot, ids: &[TraceId]) -> String {
    let ids: HashSet<TraceId> = ids.iter().copied().collect();
    let spans = snapshot.spans().iter();
    let spans: Vec<Span> = spans
        .filter(|span| ids.contains(&span.trace_id))
        .cloned()
        .collect();
    if spans.is_empty() {
        return String::new();
    }
    let traces = otlp::traces(&spans);
    format!(
        "{}\n",
        otlp::waterfall(&traces, snapshot.logs(), &terminal::options())
    )
}

/// The spans with at least the number that `from` has for their trace.
fn additions(snapshot: &Snapshot, from: &HashMap<TraceId, u64>) -> String {
    let mut text = String::new();
    let numbered = (snapshot.first_span()..).zip(snapshot.spans());
    let late: Vec<&Span> = numbered
        .filter(|(number, span)| from.get(&span.trace_id).is_some_and(|from| number >= from))
        .map(|(_, span)| span)
        .collect();
    for span in late.iter().take(LATE) {
        let line = format!(
            "trace {}… later: {} · {} · {} · {}",
            &span.trace_id.to_string()[..8],
            span.name,
            span.service(),
            span.kind,
            otlp::duration_text(span.duration_nanos())
        );
        let _ = writeln!(text, "{}", terminal::harmless(&line));
    }
    if let more @ 1.. = late.len().saturating_sub(LATE) {
        let _ = writeln!(text, "… and {more} more spans later");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::arrivals::tests::{Feed, span};

    #[tokio::test]
    async fn a_trace_is_shown_once_and_what_comes_later_in_a_line() {
        let feed = Feed::new(1000).await;
        let store = feed.store();
        let mut shown = Shown::default();
        feed.spans("tier1-service", &[span((1, 2, 1), "GET", 3, (2, 3))])
            .await;
        assert_eq!(shown.take(&store, false), "", "its root is not here");
        feed.spans("tier1-service", &[span((1, 1, 0), "GET /slow", 2, (1, 9))])
            .await;
        assert_eq!(shown.take(&store, false), "", "it is not quiet");
        let text = shown.take(&store, true);
        assert!(
            text.contains("GET /slow") && text.contains("2 spans"),
            "{text}"
        );
        assert_eq!(shown.take(&store, true), "");

        let name = "late\u{1b}[2J";
        feed.spans("tier2-service", &[span((1, 3, 2), name, 2, (2, 3))])
            .await;
        let text = shown.take(&store, true);
        let expected =
            "trace 00000000… later: late\u{fffd}[2J · tier2-service · SERVER · 1.00 ms\n\n";
        assert_eq!(text, expected);
        assert_eq!(shown.take(&store, true), "");
    }

    #[tokio::test]
    async fn of_many_at_once_the_last_are_shown_and_the_others_counted() {
        let feed = Feed::new(1000).await;
        let mut shown = Shown::default();
        let many: Vec<_> = (1..=25)
            .map(|n| span((n, n, 0), &format!("number {n}"), 2, (n, n)))
            .collect();
        feed.spans("tier1-service", &many).await;
        let text = shown.take(&feed.store(), true);
        assert_eq!(text.matches("number").count(), AT_ONCE, "{text}");
        assert!(
            text.contains("number 25") && !text.contains("number 15 "),
            "{text}"
        );
        assert!(text.contains("… and 15 more traces at once"), "{text}");
        let more: Vec<_> = (1..=8)
            .map(|n| span((1, 50 + n, 1), "x", 1, (n, n)))
            .collect();
        feed.spans("tier1-service", &more).await;
        let text = shown.take(&feed.store(), true);
        assert_eq!(text.matches("later:").count(), LATE);
        assert!(text.contains("… and 3 more spans later"), "{text}");
    }
}
