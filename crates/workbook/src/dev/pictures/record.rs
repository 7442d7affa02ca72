//! Runs a solution and keeps what a picture needs of what it exported.

use std::{
    collections::{BTreeSet, HashSet},
    env,
    ffi::OsString,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lab::{BrokerChoice, Fault, Lab, LabConfig, LabError, Part, Program, contract::StepContract};
use otlp::{Contract, Keep, KeyValue, LogRecord, Recorded, Resource, Span, SpanId, TraceId};
use serde_json::Value;

use super::list::{Logs, Picture, Scene};
use crate::{
    Error, build,
    step::{CONSUMER, Step},
    trace::EXPORT_SOON,
};

/// When each recording starts, in nanoseconds since the Unix epoch: 0 would mean that
/// the time isn't known.
const START: u64 = 1_000_000_000;

/// As long as tier1's own: the gap in `/slow` is to be seen.
const SLOW_DELAY: Duration = Duration::from_millis(1500);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_secs(60);

/// How long an export is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The programs of the solutions that pictures are made of.
pub struct Programs(Vec<(u8, OsString)>);

impl Programs {
    /// Builds what `pictures` need, and goes on in a cleaned environment, as `trace` does.
    pub fn prepare(pictures: &[&Picture]) -> Result<Self, Error> {
        let numbers: BTreeSet<u8> = pictures
            .iter()
            .flat_map(|picture| [picture.solution, tier1(picture)])
            .collect();
        let variable = |number: u8| format!("WORKBOOK_BUILT_{number:02}");
        let built = |number: &u8| Some((*number, env::var_os(variable(*number))?));
        if let Some(programs) = numbers.iter().map(built).collect() {
            return Ok(Self(programs));
        }
        let steps: Vec<Step> = numbers
            .iter()
            .map(|number| Step::numbered(*number).solution())
            .collect();
        let paths = build::build_all(&steps)?;
        let built: Vec<(String, OsString)> = numbers
            .iter()
            .zip(paths)
            .map(|(number, path)| (variable(*number), path.into_os_string()))
            .collect();
        let extra: Vec<_> = built
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_os_str()))
            .collect();
        // It comes back by itself only if it was cleaned before.
        lab::clean_environment(&extra)?;
        let programs = numbers.into_iter().zip(built.into_iter().map(|it| it.1));
        Ok(Self(programs.collect()))
    }

    fn of(&self, solution: u8) -> Result<Program, Error> {
        let program = self.0.iter().find(|(number, _)| *number == solution);
        let name = || Error::NoProgram(format!("solution-{solution:02}"));
        Ok(Program::tier1(&program.ok_or_else(name)?.1))
    }
}

/// The solution that is tier1 in a picture: beside a consumer, the one whose snapshot the
/// recording must equal.
fn tier1(picture: &Picture) -> u8 {
    if picture.solution == CONSUMER {
        picture.snapshot.0
    } else {
        picture.solution
    }
}

/// Runs the solution and makes the picture's request.
pub fn record(picture: &Picture, programs: &Programs) -> Result<Recorded, Error> {
    // Whoever records, and on whichever machine: the traces are the same, the times alike.
    let mut config = LabConfig::new(BrokerChoice::Embedded);
    config.slow_delay = SLOW_DELAY;
    config.without.extend(picture.without);
    match picture.scene {
        Scene::HungUp(_) => config.http_timeout = NEVER,
        Scene::GivenUp(patience) => config.http_timeout = patience,
        _ => {}
    }
    if picture.solution == CONSUMER {
        config.without.push(Part::Consumer);
    }
    let mut variables = picture.variables.to_vec();
    if picture.scene != Scene::Stopped {
        variables.extend(EXPORT_SOON);
    }
    let mut lab = Lab::start(config)?;
    if picture.solution == CONSUMER {
        lab.spawn_consumer(&programs.of(CONSUMER)?, &EXPORT_SOON, None)?;
    }
    lab.spawn(&programs.of(tier1(picture))?, &variables)?;

    if picture.scene != Scene::First {
        lab.get(picture.path)?;
        come_to_rest(picture, &lab, 0)?;
    }
    let since = now();
    match picture.scene {
        Scene::First | Scene::Second | Scene::Stopped => {
            lab.get(picture.path)?;
        }
        Scene::HungUp(patience) => {
            lab.fault(Part::Saas, Fault::Delay(NEVER));
            lab.get_and_hang_up(picture.path, &[], || {
                // So long the caller waits.
                std::thread::sleep(patience);
                Ok::<(), LabError>(())
            })?;
        }
        Scene::GivenUp(_) => {
            lab.fault(Part::Saas, Fault::Delay(NEVER));
            lab.get(picture.path)?;
        }
    }
    if picture.scene != Scene::Stopped {
        come_to_rest(picture, &lab, since)?;
    }
    let recording = lab.finish()?;
    let spans: Vec<Span> = recording
        .spans
        .into_iter()
        .filter(|span| span.start_unix_nanos >= since)
        .collect();
    let logs = match picture.logs {
        Logs::None => Vec::new(),
        Logs::Records => recording.logs,
        Logs::Lines => {
            let stdout = recording.exit.as_ref().map_or("", |exit| &exit.stdout);
            stdout.lines().filter_map(of_line).collect()
        }
    };
    Ok(reduced(picture, &spans, logs))
}

/// Waits until what was asked since then is exported and the message is processed.
fn come_to_rest(picture: &Picture, lab: &Lab, since: u64) -> Result<(), Error> {
    if picture.scene != Scene::Stopped
        && Step::numbered(picture.solution).solution().has_telemetry()
    {
        let own = |span: &&Span| {
            span.start_unix_nanos >= since
                && !lab::is_around(span.service())
                && span.parent_span_id.is_none()
        };
        lab.wait_for("tier1's export", PATIENCE, |snapshot| {
            snapshot.spans().iter().find(own).map(|_| ())
        })?;
    }
    if picture.solution == CONSUMER {
        let mut processed = |snapshot: &otlp::Snapshot| {
            let mut spans = snapshot.spans().iter();
            let mut of = |span: &&Span| {
                span.start_unix_nanos >= since && span.service() == "consumer-service"
            };
            spans.find(&mut of).map(|_| ())
        };
        lab.wait_for("the consumer's export", PATIENCE, &mut processed)?;
    }
    lab.settle()?;
    Ok(())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX))
}

/// A JSON line of stdout as a log record, if it names a span. Its time is left out: the
/// order of the lines tells enough.
fn of_line(line: &str) -> Option<LogRecord> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let id = |name: &str| u128::from_str_radix(text(name)?, 16).ok();
    let severity = text("level")?;
    Some(LogRecord {
        severity_number: match severity {
            "TRACE" => 1,
            "DEBUG" => 5,
            "INFO" => 9,
            "WARN" => 13,
            "ERROR" => 17,
            _ => 0,
        },
        severity_text: severity.to_owned(),
        body: text("message")?.into(),
        trace_id: Some(TraceId(id("trace_id")?.to_be_bytes())),
        span_id: Some(SpanId(u64::try_from(id("span_id")?).ok()?.to_be_bytes())),
        ..LogRecord::default()
    })
}

/// What a picture and its comparison with the snapshot need, and no more: a recording is
/// kept for years.
fn reduced(picture: &Picture, spans: &[Span], logs: Vec<LogRecord>) -> Recorded {
    let contract = StepContract::new(picture.snapshot.0);
    // In the order of the picture.
    let traces = otlp::traces(spans);
    let spans = traces.iter().flat_map(otlp::Trace::spans).map(|span| {
        let mut kept = Span {
            flags: 0,
            trace_state: String::new(),
            resource: named(span.service()),
            ..span.clone()
        };
        let keeps = |it: &KeyValue| contract.keep(span, &it.key) != Keep::Drop;
        kept.attributes.retain(keeps);
        for event in &mut kept.events {
            let whole = event.clone();
            event
                .attributes
                .retain(|it| contract.keep_in_event(span, &whole, &it.key) != Keep::Drop);
        }
        for link in &mut kept.links {
            link.flags = 0;
            link.attributes.clear();
        }
        kept
    });
    let spans: Vec<Span> = spans.collect();
    let ids: HashSet<TraceId> = spans.iter().map(|span| span.trace_id).collect();
    let mut logs: Vec<LogRecord> = logs
        .into_iter()
        .filter(|record| record.trace_id.is_some_and(|id| ids.contains(&id)))
        .map(|record| LogRecord {
            time_unix_nanos: record.timestamp(),
            observed_unix_nanos: 0,
            attributes: Vec::new(),
            flags: 0,
            resource: named(record.service()),
            ..record
        })
        .collect();
    logs.sort_by_key(|record| record.time_unix_nanos);
    Recorded { spans, logs }.starting_at(START)
}

/// A resource that has a name and nothing that differs between two runs.
fn named(service: &str) -> Arc<Resource> {
    let mut resource = Resource::default();
    if !service.is_empty() {
        resource
            .attributes
            .push(KeyValue::new("service.name", service));
    }
    Arc::new(resource)
}
